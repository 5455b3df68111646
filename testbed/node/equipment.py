"""What the demo and the end-to-end tests need beside an API server, as pods see it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.node import commands, images, operatorimage, paths, repositories

SAMPLE = paths.HERE / "sample"
"""The sources of the demo's service."""


@dataclass(frozen=True)
class Equipment:
    """Images, a registry to push to and a repository to build."""

    operator: str
    """The operator's image, with its digest or tag."""
    repository: str
    """Where the sample's image goes, without a tag."""
    source: str
    """The git URL of the sample."""
    commit: str = ""
    """Its newest commit, where it is known."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What differs from manifests/operator/settings.yaml."""
    stand_in: str = ""
    """Says so where a test part takes a real program's place."""
    push_secret: str = ""
    """The name of the Secret to push with, in the sample's namespace."""


def local() -> Equipment:
    """Everything from this machine, for a node that is up and so has its images."""
    operator = operatorimage.build()

    def pinned(name: str) -> str:
        reference = f"{paths.REGISTRY}/{name}:1"
        return f"{reference}@{images.digest(reference)}"

    repositories.add_modules(SAMPLE)
    commit = repositories.add("sample", SAMPLE, message="Tell what a pod sees")
    real = os.environ.get("KANIKO_EXECUTOR", "")
    return Equipment(
        operator=operator,
        repository=f"{paths.REGISTRY}/demo/sample",
        source=repositories.url("sample"),
        commit=commit,
        settings={
            "images": {
                "kaniko": pinned("executor"),
                "builder": pinned("golang"),
                "busybox": pinned("busybox"),
            },
            "builds": {
                "moduleProxy": paths.MODULE_PROXY,
                "insecureRegistries": [paths.REGISTRY, paths.CLOSED_REGISTRY],
                "resources": {
                    "requests": {"cpu": "200m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
                    "limits": {"memory": "3Gi", "ephemeral-storage": "8Gi"},
                },
            },
            "git": {"allowHttp": True, "allowedNetworks": [paths.POD_SUBNET]},
        },
        stand_in=""
        if real
        else "builds run a stand-in for Kaniko (testbed/node/executor), not Kaniko itself",
    )


NAMED = {
    "GOSERVICE_DEMO_OPERATOR": "the operator's image, as `make image IMG=…` pushed it",
    "GOSERVICE_DEMO_REPOSITORY": "an image repository that the cluster may push to and pull from",
    "GOSERVICE_DEMO_SOURCE": "the https URL of a public git repository with a Go program",
}
"""The variables that a cluster of the user's needs, and what each names."""
PUSH_SECRET = "GOSERVICE_DEMO_DOCKERCONFIG"
"""Names the docker config.json to push with, for a cluster of the user's."""


def named(environment: Mapping[str, str]) -> Equipment:
    """What the user of an own cluster names.

    Raises:
        commands.Failed: Something is not named; the text lists what is missing.
    """
    missing = [f"  {name}: {what}" for name, what in NAMED.items() if not environment.get(name)]
    if missing:
        raise commands.Failed(
            "\n".join(["A cluster of your own needs these variables:", *missing])
            + f"\nand {PUSH_SECRET}=FILE (a docker config.json) where the registry wants a login."
        )
    operator, repository, source = (environment[name] for name in NAMED)
    secret = environment.get(PUSH_SECRET, "")
    if secret and not Path(secret).is_file():
        raise commands.Failed(f"{PUSH_SECRET} names no file: {secret}")
    return Equipment(operator, repository, source, push_secret="push" if secret else "")
