"""The Deployment: the pods that serve: non-root, read-only root, no capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goservice import names
from goservice.api.resource import GoService
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata
from goservice.objects.pod_template import CONTAINER, Deployed, pod_template
from goservice.settings import Settings


def deployment(
    service: GoService,
    settings: Settings,
    deployed: Deployed,
    notes: Mapping[str, str],
    *,
    kept_template: Manifest | None = None,
) -> Manifest:
    """The Deployment. Without `replicas` while an autoscaler has them.

    `kept_template` is the live pod template, kept when only this operator would write it otherwise.
    """
    rollout = service.spec.rollout
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata(service, service.name, "app"), "annotations": dict(notes)},
        "spec": {
            **({} if service.spec.autoscaling else {"replicas": service.spec.replicas}),
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": rollout.progress_deadline_seconds,
            "selector": {"matchLabels": names.selector(service)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": rollout.max_surge,
                    "maxUnavailable": rollout.max_unavailable,
                },
            },
            "template": kept_template or pod_template(service, settings, deployed),
        },
    }


def image_of(deployment: Mapping[str, Any] | None) -> str:
    """The image that a Deployment's pods run, empty if there is none."""
    pod = ((deployment or {}).get("spec") or {}).get("template", {}).get("spec", {})
    for container in pod.get("containers", ()):
        if container.get("name") == CONTAINER:
            return str(container.get("image", ""))
    return ""


def handover(service: GoService, replicas: int) -> Manifest:
    """`replicas` alone, for the second field manager to hold until the autoscaler takes them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"replicas": replicas},
    }
