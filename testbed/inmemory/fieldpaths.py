"""Fields of plain manifests by their path: what server-side apply, patches and selectors need."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from goservice.manifest import ItemKey, Manifest, item_key

Path = tuple[str | ItemKey, ...]
"""A field: the keys from the manifest's root down; of a list that is merged by item, the item's keys."""

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
    """The paths of what a field manager owns, parents first: an item itself, too, where lists are merged."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and (items := keyed(path, value)):
        for key, inner in items.items():
            yield (*path, key)
            yield from leaves(inner, (*path, key))
    elif value is not None:
        yield path


def keyed(path: Path, items: list[Any]) -> dict[ItemKey, Any]:
    """The items by their keys; empty where the list is one value."""
    field = path[-1] if path else ""
    found = {item_key(field, item): item for item in items} if isinstance(field, str) else {}
    return {} if None in found else {key: item for key, item in found.items() if key is not None}


def is_item(path: Path) -> bool:
    """Whether a path is that of an item of a list."""
    return bool(path) and isinstance(path[-1], tuple)


def at(value: Any, path: Path) -> Any:
    """The field's value, or MISSING."""
    for step, key in enumerate(path):
        if isinstance(key, tuple):
            value = keyed(path[:step], value).get(key, MISSING) if _is_list(value) else MISSING
        else:
            value = value.get(key, MISSING) if isinstance(value, dict) else MISSING
        if value is MISSING:
            return MISSING
    return value


def put(target: Manifest, path: Path, value: Any) -> None:
    """Set a field, and make the parents that it needs."""
    if not path:
        return
    parent: Any = target
    for step, key in enumerate(path[:-1]):
        parent = _child(parent, path[:step], key, path[step + 1])
    last = path[-1]
    if isinstance(last, tuple):
        _child(parent, path[:-1], last, "")
    elif value != {} or not isinstance(parent.get(last), dict):
        parent[last] = value


def _child(parent: Any, above: Path, key: str | ItemKey, below: str | ItemKey) -> Any:
    """What stands at a key, made if need be: a list where an item follows."""
    if isinstance(key, tuple):
        found = keyed(above, parent).get(key)
        if found is None:
            found = dict(key)
            parent.append(found)
        return found
    kind = list if isinstance(below, tuple) else dict
    if not isinstance(parent.get(key), kind):
        parent[key] = kind()
    return parent[key]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def remove(target: Manifest, path: Path) -> None:
    """Remove a field or an item, and the parents that are empty then. An item keeps its keys."""
    parent = at(target, path[:-1])
    last = path[-1]
    if isinstance(last, tuple):
        if _is_list(parent) and (item := keyed(path[:-1], parent).get(last)) is not None:
            parent.remove(item)
    elif isinstance(parent, dict):
        of_the_key = is_item(path[:-1]) and last in dict(path[-2])  # type: ignore[arg-type]
        if of_the_key:
            return
        parent.pop(last, None)
    if parent is not MISSING and not parent and len(path) > 1 and not is_item(path[:-1]):
        remove(target, path[:-1])


def order(target: Any, applied: Any, path: Path = ()) -> None:
    """Bring merged lists into the order that was applied; others' items stay behind the one before them."""
    if isinstance(applied, dict) and isinstance(target, dict):
        for key, inner in applied.items():
            order(target.get(key), inner, (*path, key))
    elif isinstance(applied, list) and _is_list(target) and (wanted := keyed(path, applied)):
        live = keyed(path, target)
        ordered = [key for key in wanted if key in live]
        for before, key in zip([None, *live], live, strict=False):
            if key not in wanted:
                ordered.insert(0 if before is None else ordered.index(before) + 1, key)
        target[:] = [live[key] for key in ordered]
        for key, inner in wanted.items():
            order(live.get(key), inner, (*path, key))


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
