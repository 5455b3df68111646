"""The Job of a build: fetch, build and push."""

from __future__ import annotations

from collections.abc import Mapping

from goservice import names
from goservice.api.resource import GoService
from goservice.build import engine
from goservice.manifest import Manifest, digest_of
from goservice.objects import metadata as m
from goservice.settings import Settings

LONGEST_WAIT = 6 * 3600
"""Seconds that a build's pod may wait for a node; they are no part of its time to build."""
NO_SIDECARS = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
"""Labels and annotations that keep meshes out of a build's pod: with a sidecar it would never end."""


def made_as(service: GoService, settings: Settings, commit: str, inputs: str) -> str:
    """The hash of what makes one build's Job another than it would be now; attempts do not differ."""
    made = build_job(service, settings, commit, inputs, attempt=1, notes={})
    return digest_of(made["spec"])


def build_job(
    service: GoService,
    settings: Settings,
    commit: str,
    inputs: str,
    *,
    attempt: int,
    notes: Mapping[str, str],
) -> Manifest:
    """The Job that fetches, builds and pushes. `notes` are annotations that outlive the pass."""
    name = names.build(service, inputs, attempt)
    metadata = m.metadata(service, name, "build")
    annotations = {
        names.COMMIT: commit,
        names.INPUTS: inputs,
        names.ATTEMPT: str(attempt),
        **notes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": service.spec.build.timeout_seconds + LONGEST_WAIT,
            "template": {
                "metadata": {
                    "labels": {**settings.builds.pod_labels, **NO_SIDECARS, **metadata["labels"]},
                    "annotations": {**settings.builds.pod_annotations, **NO_SIDECARS},
                },
                "spec": {
                    "restartPolicy": "Never",
                    # Counted from when a kubelet has the pod: waiting for a node is no building.
                    "activeDeadlineSeconds": service.spec.build.timeout_seconds,
                    "serviceAccountName": names.build_account(service),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    **engine.of(settings).containers(service, settings, commit, inputs, name),
                },
            },
        },
    }
