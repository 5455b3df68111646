"""Changes of manifests, as `kubectl patch` takes them: what is laid over one, and what tells two apart.

A null takes a key away. Lists whose items have names (containers, variables) or types (conditions)
are changed item by item; any other list is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goservice.manifest import Manifest


def patched(value: Any, change: Any) -> Any:
    """The value with the change laid over it; neither is touched."""
    if isinstance(change, Mapping):
        before = value if isinstance(value, Mapping) else {}
        places = [*before, *(key for key in change if key not in before)]
        return {
            key: patched(before.get(key), change[key]) if key in change else before[key]
            for key in places
            if change.get(key, "") is not None
        }
    if isinstance(change, list) and isinstance(value, list):
        before, items = _items(value), _items(change)
        if before and items:
            return list(patched(before, items).values())
    return change


def _items(items: list[Any]) -> dict[str, Any]:
    """The items by what tells them apart; empty if nothing does."""
    for key in ("name", "type"):
        if all(isinstance(item, Mapping) and key in item for item in items):
            return {item[key]: item for item in items}
    return {}


def difference(live: Manifest, wanted: Manifest) -> Manifest:
    """The change that makes what is wanted of a live object. What only the API server writes is left out."""
    metadata = {key: live["metadata"].get(key) for key in wanted["metadata"]}
    shown = {key: value for key, value in live.items() if key != "status"}
    found: Manifest = _difference({**shown, "metadata": metadata}, wanted)
    return found


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if old == value:
            continue
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            found[key] = _difference(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            found[key] = _list_difference(old, value)
        else:
            found[key] = value
    return found | {key: None for key in before if key not in after}


def _list_difference(before: list[Any], after: list[Any]) -> list[Any]:
    old, new = _items(before), _items(after)
    if not old or list(old) != list(new):
        return after
    key = "name" if "name" in after[0] else "type"
    return [
        {key: name} | _difference(old[name], item)
        for name, item in new.items()
        if old[name] != item
    ]
