"""The PodDisruptionBudget: wherever there can be two pods."""

from __future__ import annotations

from goservice import names
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata


def disruption_budget(service: GoService) -> Manifest | None:
    """A drain takes few pods at once, and never waits for broken ones.

    None where there is never more than one pod. One pod of many-to-be is no obstacle: maxUnavailable
    counts what is taken away, not what must stay.
    """
    if most_replicas(service) < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(service, service.name, "app"),
        "spec": {
            "maxUnavailable": service.spec.disruption.max_unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(service)},
        },
    }


def most_replicas(service: GoService) -> int:
    """The pods that there can be."""
    scaling = service.spec.autoscaling
    return scaling.max_replicas if scaling else service.spec.replicas
