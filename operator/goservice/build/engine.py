"""What an engine is: the program that makes an image of a rendered Dockerfile, in the build's pod.

An engine is a module with these three. It knows its own flags, paths and words; nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from goservice.api.resource import GoService
from goservice.build import kaniko
from goservice.build.outcome import Outcome
from goservice.manifest import Manifest
from goservice.settings import Settings


class Engine(Protocol):
    """The module of an engine."""

    container_names: tuple[str, ...]
    """Every container that a build may have, in the order in which they run. `pod.BUILD` is among
    them: the one whose log people are pointed to while nothing has failed."""

    def containers(
        self, service: GoService, settings: Settings, commit: str, inputs: str, build: str
    ) -> Manifest:
        """The containers and volumes of the pod of the build of this name."""
        ...

    def outcome(self, job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Outcome:
        """What has become of a build, from its Job and its newest pod (None if it is gone)."""
        ...


ENGINES: Mapping[str, Engine] = {"Kaniko": kaniko}
"""Every engine by the name that people know it by."""


def of(settings: Settings, engines: Mapping[str, Engine] = ENGINES) -> Engine:
    """The engine that the platform builds with."""
    return engines[settings.builds.engine]
