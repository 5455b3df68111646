"""Fields of plain manifests by their path: what server-side apply, patches and selectors need."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from goservice.manifest import Manifest

Path = tuple[str, ...]
"""A field: the keys from the manifest's root down."""

MISSING = object()
"""What stands for a field that is not there; None is a value."""


def copied(manifest: Manifest) -> Manifest:
    """A copy of a manifest, several times faster than `copy.deepcopy`."""
    return {key: copied_value(inner) for key, inner in manifest.items()}


def copied_value(value: Any) -> Any:
    """A copy of whatever stands in a manifest."""
    if isinstance(value, dict):
        return copied(value)
    if isinstance(value, list):
        return [copied_value(inner) for inner in value]
    return value


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of what a field manager owns; lists are owned whole."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif value is not None:
        yield path


def at(value: Any, path: Path) -> Any:
    """The field's value, or MISSING."""
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def put(target: Manifest, path: Path, value: Any) -> None:
    """Set a field, and make the parents that it needs."""
    for key in path[:-1]:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    if value != {} or not isinstance(target.get(path[-1]), dict):
        target[path[-1]] = value


def remove(target: Manifest, path: Path) -> None:
    """Remove a field, and the parents that are empty then."""
    parents = [target]
    for key in path[:-1]:
        inner = parents[-1].get(key)
        if not isinstance(inner, dict):
            return
        parents.append(inner)
    for parent, key in zip(reversed(parents), reversed(path), strict=True):
        if key == path[-1] and parent is parents[-1]:
            parent.pop(key, None)
        elif not parent[key]:
            del parent[key]


def merge_patch(target: Manifest, patch: Manifest) -> None:
    """JSON merge patch, in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            merge_patch(target[key], value)
        else:
            target[key] = copied_value(value)


def selected(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a selector: a=b, a!=b, a, !a, a in (b,c), a notin (b,c)."""
    for term in re.split(r",(?![^(]*\))", selector) if selector else ():
        term = term.strip()
        if among := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term):
            values = {value.strip() for value in among[3].split(",")}
            met = (labels.get(among[1]) in values) == (among[2] == "in")
        elif "!=" in term:
            key, _, value = term.partition("!=")
            met = labels.get(key.strip()) != value.strip()
        elif "=" in term:
            key, value = re.split("==?", term, maxsplit=1)
            met = labels.get(key.strip()) == value.strip()
        elif term.startswith("!"):
            met = term[1:] not in labels
        else:
            met = term in labels
        if not met:
            return False
    return True
