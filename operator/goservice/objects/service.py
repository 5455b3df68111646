"""The Service: port 80 to the first port; none for a worker (`ports: []`)."""

from __future__ import annotations

from goservice import names
from goservice.api.container import ContainerPort
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata


def service(owner: GoService) -> Manifest | None:
    """Port 80 for the first port, the others as they are. None for a worker, which has no port."""
    if not owner.spec.ports:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name, "app"),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(owner),
            "ports": [
                {
                    "name": port.name,
                    "port": service_port(port, first=index == 0),
                    "targetPort": port.name,
                    "protocol": "TCP",
                }
                for index, port in enumerate(owner.spec.ports)
            ],
        },
    }


def service_port(port: ContainerPort, *, first: bool) -> int:
    """The Service's port for a container port."""
    return port.service_port or (80 if first else port.port)
