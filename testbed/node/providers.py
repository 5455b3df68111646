"""Which cluster the demo and the tests use, and how it is started and stopped.

The order: a kubeconfig that the user passes on purpose, kind where a Docker engine answers, the
local node. The last is what this project's own runs use; kind is not covered by them.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from testbed.node import commands, equipment, local, progress
from testbed.node.kind import Kind

VARIABLE = "GOSERVICE_TEST_KUBECONFIG"
"""Names a kubeconfig that the user passes on purpose."""


class Provider(Protocol):
    """A cluster that can be started, reached and stopped."""

    @property
    def name(self) -> str:
        """What to call it in a line of output."""
        ...

    def up(self) -> Path:
        """Start or reuse the cluster; return its kubeconfig."""
        ...

    def equip(self) -> equipment.Equipment:
        """Provide images, a registry and a repository for the running cluster."""
        ...

    def down(self) -> bool:
        """Stop what `up` started; return whether there was anything."""
        ...


@dataclass(frozen=True)
class Existing:
    """A cluster that the user has; it is neither started nor stopped."""

    kubeconfig: Path
    """The user's file."""
    name: str = "existing"
    """What to call it in a line of output."""

    def up(self) -> Path:
        """Check that the file is there."""
        if not self.kubeconfig.is_file():
            raise commands.Failed(f"{VARIABLE} names no file: {self.kubeconfig}")
        return self.kubeconfig

    def equip(self) -> equipment.Equipment:
        """Take what the user names."""
        return equipment.named(os.environ)

    def down(self) -> bool:
        """Leave the user's cluster alone."""
        return False


@dataclass(frozen=True)
class Local:
    """The single node of this package."""

    name: str = "local"
    """What to call it in a line of output."""

    def up(self) -> Path:
        """Start or reuse the node."""
        return local.up()

    def equip(self) -> equipment.Equipment:
        """Make everything from what this machine has."""
        return equipment.local()

    def down(self) -> bool:
        """Stop the node."""
        return local.down()


def docker_answers() -> bool:
    """Whether a Docker engine can be reached, and kind be started on it."""
    return (
        shutil.which("kind") is not None
        and shutil.which("docker") is not None
        and commands.succeeds(["docker", "info", "--format", "{{.ServerVersion}}"], timeout=10)
    )


def choose(
    environment: Mapping[str, str] | None = None, docker: Callable[[], bool] = docker_answers
) -> Provider:
    """Pick the provider and say which and why."""
    named = (os.environ if environment is None else environment).get(VARIABLE, "")
    provider: Provider
    if named:
        provider, why = Existing(Path(named)), f"{VARIABLE} is set"
    elif docker():
        provider, why = Kind(), "a Docker engine answers and kind is installed"
    else:
        provider, why = Local(), "no kubeconfig was passed, no Docker engine with kind answers"
    progress.say(f"cluster provider: {provider.name} ({why})")
    return provider
