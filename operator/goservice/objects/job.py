"""The Job of a build: fetch, build and push."""

from __future__ import annotations

from collections.abc import Mapping

from goservice import names
from goservice.api.resource import GoService
from goservice.build import engine
from goservice.manifest import Manifest
from goservice.objects import metadata as m
from goservice.settings import Settings


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
            "activeDeadlineSeconds": service.spec.build.timeout_seconds,
            "template": {
                "metadata": {
                    "labels": metadata["labels"],
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": names.build_account(service),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    **engine.of(settings).containers(service, settings, commit, inputs, name),
                },
            },
        },
    }
