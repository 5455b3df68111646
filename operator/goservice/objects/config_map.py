"""The ConfigMap of a build: the rendered Dockerfile."""

from __future__ import annotations

from goservice.api.resource import GoService
from goservice.build import dockerfile
from goservice.manifest import Manifest
from goservice.objects.metadata import metadata
from goservice.settings import Settings


def build_files(
    service: GoService, settings: Settings, commit: str, inputs: str, build: str
) -> Manifest:
    """The ConfigMap with the rendered Dockerfile."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(service, build, "build"),
        "immutable": True,
        "data": {
            "Dockerfile": dockerfile.render(service, settings, commit, inputs),
            "Dockerfile.dockerignore": dockerfile.dockerignore(),
        },
    }
