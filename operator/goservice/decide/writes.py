"""What a plan is made of: writes, events, and the plan itself. All of it is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from goservice import names
from goservice.decide.observed import Lookup
from goservice.manifest import Manifest


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a manifest by a field manager."""

    manifest: Manifest
    """All fields that the manager is to have."""
    manager: str = names.OPERATOR
    """The field manager."""


@dataclass(frozen=True)
class Create:
    """Creation of an object whose name is never used twice."""

    manifest: Manifest
    """The whole object."""


@dataclass(frozen=True)
class Delete:
    """Deletion of exactly this object."""

    kind: str
    """Such as Service."""
    namespace: str
    """The service's own."""
    name: str
    """The object's name."""
    uid: str
    """A namesake of another uid is left alone."""


Write = Apply | Create | Delete


@dataclass(frozen=True)
class Event:
    """One line of `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    """Warning where a person must act."""
    reason: str
    """That of the condition Ready."""
    message: str
    """That of the condition Ready."""


@dataclass(frozen=True)
class Plan:
    """What a pass does: writes in order, then the status, then events."""

    writes: tuple[Write, ...] = ()
    """In the order in which they are sent; the first that fails ends the pass."""
    status: Mapping[str, Any] | None = None
    """The whole status, None if the one that is there stays."""
    events: tuple[Event, ...] = ()
    """Posted once the status is written."""
    lookups: tuple[Lookup, ...] = ()
    """Lists to ask for before the next pass, which then follows at once."""
    requeue_after: float | None = None
    """Seconds until the next pass, if nothing happens before."""
    watch_source: bool = False
    """Whether the source is to be asked for new commits."""
    refresh_source: bool = False
    """Whether the source must be asked now: a rebuild was requested."""
    waits_for_slot: bool = False
    """Whether a build waits for a build slot."""
    gives_way: bool = False
    """Whether the build that has a slot cannot start, so that another may have it."""
