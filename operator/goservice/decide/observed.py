"""What a pass sees: the service's objects, the newest commit, and the other builds' number.

All of it is frozen and was read before `decide` runs; nothing here reads anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from goservice.api.conditions import Reason
from goservice.manifest import Difference, Manifest


@dataclass(frozen=True)
class Resolution:
    """What is known of a repository's newest commit."""

    sha: str = ""
    """40 hex digits; empty while none is known. It may stand beside a reason: only the poll failed."""
    reason: Reason | None = None
    """Why the last question to the repository had no answer."""
    message: str = ""
    """The same, in a sentence."""
    fresh: bool = False
    """Whether it was asked for after the last rebuild request was first seen."""
    tag: str = ""
    """The commit of a tag that has the name of the branch which `sha` is of; empty if there is none."""


@dataclass(frozen=True)
class Fleet:
    """The other services' builds."""

    running: int = 0
    """Builds that hold a build slot: they run, or are just being started."""
    ahead: int = 0
    """Services whose turn for a build slot comes before, as many as there are slots at the most."""
    running_here: int = 0
    """Of those builds, the ones in the service's own namespace."""
    ahead_here: int = 0
    """Of those services, the ones in the service's own namespace."""
    before: int = 0
    """Services of its namespace that have waited longer, all of them."""


@dataclass(frozen=True)
class Lookup:
    """A list to be asked for once, of what no watch shows: objects of a kind by a selector."""

    kind: str
    """Pod or Event."""
    namespace: str
    """The service's own."""
    label_selector: str = ""
    """As kubectl takes it."""
    field_selector: str = ""
    """As kubectl takes it."""
    occasion: str = ""
    """Tells two requests for the same list apart, so that the second one is made, too."""
    newest_of: tuple[str, ...] = ()
    """The uids of owners: of each its newest object counts, however many there are. Else some are enough to
    tell what is the matter, and 20 are read."""


@dataclass(frozen=True)
class Applied:
    """What the API server made of the object that was applied last."""

    digest: str
    """The hash of what was applied."""
    otherwise: tuple[Difference, ...] = ()
    """Fields that it answered otherwise: a webhook writes them."""
    applied_at: datetime | None = None
    """When."""
    undone: int = 0
    """How many times in a row somebody has changed what was applied."""
    by: str = ""
    """The field manager who did, if it is known."""
    undone_fields: tuple[Difference, ...] = ()
    """What was found instead."""


@dataclass(frozen=True)
class Observed:
    """One service's world at one moment."""

    status: Mapping[str, Any] = field(default_factory=dict)
    """The resource's status as last written."""
    children: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    """Objects with our label and this service's, by kind and name."""
    resolution: Resolution | None = None
    """None before the repository answered for the first time."""
    fleet: Fleet = Fleet()
    """The other services' builds."""
    lookups: Mapping[Lookup, tuple[Manifest, ...]] = field(default_factory=dict)
    """What lookups of earlier passes found."""
    answers: Mapping[tuple[str, str], Applied] = field(default_factory=dict)
    """What was made of our own applies, by kind and name; those of an earlier process are not known."""
    foreign: frozenset[tuple[str, str]] = frozenset()
    """Objects of a needed kind and name that are not this service's."""
    refusal: str = ""
    """The API server's words when it refused an object in the last pass."""
    absent: frozenset[str] = frozenset()
    """Optional kinds that the cluster does not serve, or that were not listed since it does."""

    @property
    def is_fresh(self) -> bool:
        """Whether the repository has answered since the last rebuild request was first seen."""
        return self.resolution is not None and self.resolution.fresh
