"""The HorizontalPodAutoscaler: where `autoscaling` is set."""

from __future__ import annotations

from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata
from goservice.objects.pod_template import CONTAINER, written


def autoscaler(service: GoService) -> Manifest | None:
    """It scales on the app container's own CPU, so that a sidecar does not count.

    None where `autoscaling` is not set.
    """
    wanted = service.spec.autoscaling
    if wanted is None:
        return None
    target = wanted.target_cpu_utilization_percentage
    if target is None and not wanted.metrics:
        target = 80
    cpu: list[Manifest] = [
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": CONTAINER,
                "target": {"type": "Utilization", "averageUtilization": target},
            },
        }
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(service, service.name, "app"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service.name},
            "minReplicas": wanted.min_replicas,
            "maxReplicas": wanted.max_replicas,
            "metrics": (cpu if target else []) + [written(m) for m in wanted.metrics],
            **({"behavior": written(wanted.behavior)} if wanted.behavior else {}),
        },
    }
