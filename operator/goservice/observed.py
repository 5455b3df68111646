"""What a pass sees: the service's objects, the newest commit, and the other builds' number.

All of it is frozen and was read before `plan.decide` runs; nothing here reads anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from goservice.api.conditions import Reason
from goservice.quantity import same_quantity

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Resolution:
    """The answer of a repository: a commit, or why there is none."""

    sha: str = ""
    reason: Reason | None = None
    message: str = ""
    fresh: bool = False
    """Whether it was asked for after the last rebuild request was first seen."""


@dataclass(frozen=True)
class Fleet:
    """The other services' builds."""

    running: int = 0
    ahead: int = 0
    """Services that have waited longer for a place."""


@dataclass(frozen=True)
class Question:
    """Something that no watch tells and that is asked once: `kind` objects by a selector."""

    kind: str
    namespace: str
    label_selector: str = ""
    field_selector: str = ""
    occasion: str = ""
    """Tells two askings of the same thing apart."""


@dataclass(frozen=True)
class Observed:
    """One service's world at one moment."""

    status: Mapping[str, Any] = field(default_factory=dict)
    """The resource's status as last written."""
    children: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    """Objects with our label and this service's, by kind and name."""
    resolution: Resolution | None = None
    fleet: Fleet = Fleet()
    answers: Mapping[Question, tuple[Manifest, ...]] = field(default_factory=dict)
    foreign: frozenset[tuple[str, str]] = frozenset()
    """Objects of a needed kind and name that are not this service's."""
    refusal: str = ""
    """The API server's words when it refused an object in the last pass."""

    def child(self, kind: str, name: str, uid: str) -> Manifest | None:
        """The child, if it belongs to this very resource and is not being deleted."""
        found = self.children.get((kind, name))
        return found if found is not None and owned(found, uid) else None

    def of_kind(self, kind: str) -> Iterable[Manifest]:
        """All children of a kind, whoever owns them."""
        return [child for (k, _), child in sorted(self.children.items()) if k == kind]


def owned(manifest: Mapping[str, Any], uid: str) -> bool:
    """Whether an object's controller is the resource with this uid."""
    references = manifest.get("metadata", {}).get("ownerReferences") or ()
    return any(r.get("controller") and r.get("uid") == uid for r in references)


def annotation(manifest: Mapping[str, Any] | None, key: str) -> str:
    """An annotation's value, empty if it is not there."""
    if manifest is None:
        return ""
    return str((manifest.get("metadata", {}).get("annotations") or {}).get(key, ""))


def as_number(text: str, default: int) -> int:
    """The number that a text of ours names; the default if it is none, or longer than ours are."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else default


def moment(text: object) -> datetime | None:
    """The time that an RFC 3339 text names, None if it names none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def condition(manifest: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """A condition of an object's status, or an empty one."""
    for found in (manifest or {}).get("status", {}).get("conditions") or ():
        if found.get("type") == kind:
            result: Mapping[str, Any] = found
            return result
    return {}


def _left_out(value: Any) -> bool:
    return value is not False and value in ({}, [], "", 0)


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is in the live object and equal; what it has beside does not count.

    The API server writes some values its own way: quantities are compared by what they mean, and what
    Go leaves out of JSON may be missing. A plain false is held to: those that matter are pointers.
    """
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            covers(live[key], value) if key in live else _left_out(value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    if live == wanted:
        return True
    return same_quantity(live, wanted)
