"""Kubernetes objects as plain dicts: the few things that everybody asks of one.

Everything here is pure and knows no kind. Each question has its one definition here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
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


def controller_uid(manifest: Mapping[str, Any]) -> str:
    """The uid of an object's controller; empty if it has none."""
    references = manifest.get("metadata", {}).get("ownerReferences") or ()
    return next((str(r.get("uid", "")) for r in references if r.get("controller")), "")


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
        found = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # Whoever adds to the last year that there is finds none.
    return found if found.year < MAXYEAR else None


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC to the second, as the API server writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


_ESCAPE_CODES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]{0,512}(?:\x07|\x1b\\|\x9c)"
)
"""What a terminal obeys, whole: colours and the cursor; titles, links and the like."""
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, what turns the direction of writing, and halves of characters."""


def without_codes(text: str) -> str:
    """A text without escape codes and control characters, so that no terminal obeys it."""
    return _CONTROLS.sub("", _ESCAPE_CODES.sub("", text))


def clean(text: str) -> str:
    """A text from a pod without escape codes and control characters, and without space around it."""
    return without_codes(text).strip()


def sentence(text: str) -> str:
    """Words that another sentence may follow: with a full stop, unless they end."""
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "history": ("build",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "resourceClaims": ("name",),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""The lists that server-side apply merges item by item, by their field's name: what tells items apart.
Source: x-kubernetes-list-map-keys in the API's schemas and in our own. All other lists are one value."""
_PORT_KEYS = (("containerPort", "protocol"), ("port", "protocol"))
"""Those of the lists called ports: a container's, and a Service's."""
_KEY_DEFAULTS = {"protocol": "TCP"}
"""What a key is where an item leaves it out."""

ItemKey = tuple[tuple[str, Any], ...]
"""What tells an item of a list from the others: keys and their values."""


def item_key(field: str, item: Any) -> ItemKey | None:
    """What tells an item from the others of a list of this name; None where the list is one value."""
    if not isinstance(item, dict):
        return None
    for keys in _PORT_KEYS if field == "ports" else (MERGE_KEYS.get(field, ()),):
        found = tuple((key, item.get(key, _KEY_DEFAULTS.get(key))) for key in keys)
        if found and all(isinstance(value, str | int) for _, value in found):
            return found
    return None


def covers(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether everything wanted is in the live object and equal; what it has beside does not count.

    As server-side apply merges: the items of a keyed list are found by their keys, in whatever order,
    and others may stand between them. The API server writes some values its own way: quantities are
    compared by what they mean, and what Go leaves out of JSON may be missing. A plain false is held
    to: those that matter are pointers.
    """
    if live == wanted:
        return True
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            covers(live[key], value, key) if key in live else _is_left_out(value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and _covers_list(live, wanted, field)
    return same_quantity(live, wanted)


def _covers_list(live: list[Any], wanted: list[Any], field: str) -> bool:
    if not wanted:
        return not live or field in MERGE_KEYS or field == "ports"
    keys = [item_key(field, item) for item in wanted]
    if None in keys:
        return len(live) == len(wanted) and all(map(covers, live, wanted))
    found = {item_key(field, item): item for item in live}
    return all(
        key in found and covers(found[key], item) for key, item in zip(keys, wanted, strict=True)
    )


MOST_DIFFERENCES = 16
"""Objects' fields that are told apart at the most; further ones do not count."""
LONGEST_VALUE = 120
"""Characters of a differing value that are kept."""

Difference = tuple[str, str]
"""A field that is otherwise than wanted: its path as a person writes it, and what it is; empty: not there."""


def differences(live: Any, wanted: Any) -> tuple[Difference, ...]:
    """Where a live object does not cover what is wanted: nothing where `covers` is true."""
    return tuple(sorted(_differences(live, wanted, "", "")))[:MOST_DIFFERENCES]


def _differences(live: Any, wanted: Any, field: str, path: str) -> Iterator[Difference]:
    if covers(live, wanted, field):
        return
    if isinstance(live, dict) and isinstance(wanted, dict):
        for key, value in wanted.items():
            if key in live:
                yield from _differences(live[key], value, key, f"{path}.{key}".lstrip("."))
            elif not _is_left_out(value):
                yield f"{path}.{key}".lstrip("."), ""
        return
    keyed = isinstance(live, list) and isinstance(wanted, list) and bool(wanted)
    if keyed and all(item_key(field, item) for item in wanted):
        found = {item_key(field, item): item for item in live}
        for item in wanted:
            key = item_key(field, item) or ()
            place = f"{path}[{','.join(str(value) for _, value in key)}]"
            if key in found:
                yield from _differences(found[key], item, "", place)
            else:
                yield place, ""
        return
    shown = live if isinstance(live, str) else json.dumps(live, sort_keys=True, default=str)
    yield path, clean(shown)[:LONGEST_VALUE]


def _is_left_out(value: Any) -> bool:
    """Whether Go leaves a value out of JSON (omitempty)."""
    return value is not False and value in ({}, [], "", 0)
