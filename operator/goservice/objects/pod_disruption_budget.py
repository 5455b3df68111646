"""The PodDisruptionBudget: where at least two pods are guaranteed."""

from __future__ import annotations

from goservice import names
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata


def disruption_budget(service: GoService) -> Manifest | None:
    """A drain takes few pods at once, and never waits for broken ones.

    None where fewer than two pods are guaranteed: it would only hold drains up.
    """
    if guaranteed_replicas(service) < 2:
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


def guaranteed_replicas(service: GoService) -> int:
    """The pods that there are at the least."""
    scaling = service.spec.autoscaling
    return scaling.min_replicas if scaling else service.spec.replicas
