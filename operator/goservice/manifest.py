"""Kubernetes objects as plain dicts: the few things that everybody asks of one.

Everything here is pure and knows no kind. Each question has its one definition here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goservice.quantity import same_quantity

Manifest = dict[str, Any]
"""An object as the API server has it in JSON."""
Key = tuple[str, str]
"""An object's namespace and name."""


@dataclass(frozen=True)
class Kind:
    """How a kind is addressed. All kinds here live in namespaces."""

    api_version: str
    """Group and version, such as apps/v1; v1 for the core group."""
    kind: str
    """Its name, such as Deployment."""
    plural: str
    """Its name in paths and rights, such as deployments."""

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The name that RBAC and kubectl use: deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def key_of(manifest: Mapping[str, Any]) -> Key:
    """An object's namespace and name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def owned(manifest: Mapping[str, Any], uid: str) -> bool:
    """Whether an object's controller is the resource with this uid."""
    references = manifest.get("metadata", {}).get("ownerReferences") or ()
    return any(r.get("controller") and r.get("uid") == uid for r in references)


def annotation(manifest: Mapping[str, Any] | None, key: str) -> str:
    """An annotation's value; empty if it, or the object, is not there."""
    if manifest is None:
        return ""
    return str((manifest.get("metadata", {}).get("annotations") or {}).get(key, ""))


def find_condition(status: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The condition of a type in an object's status; empty if it is not there."""
    for condition in (status or {}).get("conditions") or ():
        if condition.get("type") == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}


def condition_of(manifest: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The same, of an object: empty if the object or its status is not there."""
    return find_condition((manifest or {}).get("status"), kind)


def digest_of(value: Mapping[str, Any]) -> str:
    """Ten hex characters that stand for a value: sha256 of its canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def parse_number(text: str, default: int) -> int:
    """The number that a text of ours names; the default if it is none, or longer than ours are."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else default


def parse_time(text: object) -> datetime | None:
    """The time in UTC that an RFC 3339 text names; None if it names none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC to the second, as the API server writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def clean(text: str) -> str:
    """A text from a pod without control characters, so that no terminal obeys it."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", "", text
    ).strip()


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is in the live object and equal; what it has beside does not count.

    The API server writes some values its own way: quantities are compared by what they mean, and what
    Go leaves out of JSON may be missing. A plain false is held to: those that matter are pointers.
    """
    if live == wanted:
        return True
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            covers(live[key], value) if key in live else _is_left_out(value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return same_quantity(live, wanted)


def _is_left_out(value: Any) -> bool:
    """Whether Go leaves a value out of JSON (omitempty)."""
    return value is not False and value in ({}, [], "", 0)
