"""The Deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goservice import names
from goservice.api import parsing
from goservice.api.resource import GoService
from goservice.manifest import Manifest, digest_of
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


def template_inputs(service: GoService, settings: Settings, deployed: Deployed) -> str:
    """The hash of everything that reaches the pod template; an operator version is no part of it."""
    written = parsing.dump(service.spec)
    reach: dict[str, Any] = {
        key: written[key]
        for key in ("ports", "args", "env", "envFrom", "resources", "probes")
        if key in written
    }
    if "go" in written:
        reach["runtime"] = written["go"]
    rollout = written.get("rollout", {})
    return digest_of(
        {
            **reach,
            "stop": {
                key: rollout[key]
                for key in ("terminationGracePeriodSeconds", "preStopSeconds")
                if key in rollout
            },
            "pullSecrets": written["image"].get("pullSecretRefs", []),
            "image": deployed.image,
            "uid": deployed.uid,
            "timeZone": deployed.time_zone,
            "go": deployed.go,
            "restart": service.restart_requested_at,
            "settings": settings.services.model_dump(mode="json"),
        }
    )


def handover(service: GoService, replicas: int) -> Manifest:
    """`replicas` alone, for the second field manager to hold until the autoscaler takes them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {"replicas": replicas},
    }
