"""What every object of a service has in its metadata: its labels, and whose it is."""

from __future__ import annotations

from goservice import names
from goservice.api import resource
from goservice.api.resource import GoService
from goservice.manifest import Manifest, owned


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


def belongs(manifest: Manifest, service: GoService) -> bool:
    """Whether an object is the service's: owned, or left behind by an earlier one of this name.

    `kubectl delete --cascade=orphan` leaves what we made, with all our labels and no owner.
    """
    found = manifest["metadata"]
    if owned(manifest, service.uid):
        return True
    if any(r.get("controller") for r in found.get("ownerReferences") or ()):
        return False
    labels = found.get("labels") or {}
    component = labels.get(names.COMPONENT, "")
    return names.labels(service, component).items() <= labels.items()
