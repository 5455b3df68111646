"""What every object of a service has in its metadata: its labels, and whose it is."""

from __future__ import annotations

from goservice import names
from goservice.api import resource
from goservice.api.resource import GoService
from goservice.manifest import Manifest


def metadata(service: GoService, name: str, component: str) -> Manifest:
    """Name, namespace, labels and the owner: deleting a GoService deletes all that carries this."""
    return {
        "name": name,
        "namespace": service.namespace,
        "labels": names.labels(service, component),
        "ownerReferences": [
            {
                "apiVersion": resource.API_VERSION,
                "kind": resource.KIND,
                "name": service.name,
                "uid": service.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
