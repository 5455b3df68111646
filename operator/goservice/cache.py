"""What the watches have seen: the newest known state of every object that matters.

It is filled by watch events, by re-lists and by the answers to our own writes, in any order, and
keeps the newest of them. Objects are handed out as they are held: nobody changes them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from goservice import names
from goservice.metrics import Metrics

Manifest = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""

SERVICE_KIND = "GoService"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
UNREAD = {"Job": "spec", "Pod": "spec", "ConfigMap": "data"}
"""The largest part of some kinds, which no pass reads: they are made once and never compared."""


def key_of(manifest: Manifest) -> Key:
    """An object's namespace and name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def slim(kind: str, manifest: Manifest) -> Manifest:
    """A copy without what no pass reads; field names are shared between all objects."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations and LAST_APPLIED in annotations:
        metadata["annotations"] = {k: v for k, v in annotations.items() if k != LAST_APPLIED}
    read = {k: v for k, v in manifest.items() if k != UNREAD.get(kind)}
    copy: Manifest = _shared({**read, "kind": kind, "metadata": metadata})
    return copy


def _shared(value: Any) -> Any:
    """A deep copy whose field names exist once in the process."""
    if isinstance(value, dict):
        return {sys.intern(k): _shared(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return value


def _version(manifest: Manifest) -> int | None:
    text = str(manifest["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else None


def _identity(manifest: Manifest) -> tuple[str | None, str | None]:
    metadata = manifest["metadata"]
    return metadata.get("uid"), metadata.get("resourceVersion")


def _owner(manifest: Manifest) -> Key:
    """Namespace and name of the service that an object's label names."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), (metadata.get("labels") or {}).get(names.SERVICE, "")


def _older(one: int | None, other: int | None) -> bool:
    """Whether the first version is known to be older than the second."""
    return one is not None and other is not None and one < other


class Cache:
    """The newest known objects by kind, namespace and name, and the children of each service."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.synced: set[str] = set()
        """Kinds that were listed completely at least once."""
        self._metrics = metrics
        self._objects: dict[str, dict[Key, Manifest]] = defaultdict(dict)
        self._seen: dict[tuple[str, Key], int] = {}
        self._children: dict[Key, set[tuple[str, Key]]] = defaultdict(set)
        self._tests: dict[str, Callable[[Manifest], bool]] = {}
        self._chosen: dict[str, dict[Key, int]] = defaultdict(dict)
        self._dropped: dict[tuple[str, str], tuple[int, int | None]] = {}
        self._marks: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._clock = 0

    def choose(self, kind: str, test: Callable[[Manifest], bool]) -> None:
        """Count from now on the objects of a kind that pass a test; once per kind.

        Whoever needs to know of the whole fleet in each pass must not look through it each time.
        """
        self._tests[kind] = test
        for held in self._objects[kind].values():
            if test(held):
                self._add_chosen(kind, _owner(held), 1)

    def chosen(self, kind: str) -> Mapping[Key, int]:
        """How many objects of a kind pass its test, by the service that they belong to."""
        return self._chosen[kind]

    def mark(self) -> int:
        """A moment to give to `replace`: take it before the list is asked for."""
        return self._clock

    def put(self, kind: str, manifest: Manifest) -> bool:
        """Keep an object unless something newer is held; say whether it brought news."""
        key, version = key_of(manifest), _version(manifest)
        held = self._objects[kind].get(key)
        if held is not None:
            if _older(version, _version(held)):
                return False
            if version is not None and _identity(held) == _identity(manifest):
                # Seen again is seen: a running re-list must not take it for missing.
                self._seen[kind, key] = self._tick()
                return False
        elif self._is_ghost(kind, manifest):
            return False
        self._store(kind, key, manifest)
        return True

    def drop(self, kind: str, gone: Manifest | Key) -> bool:
        """Let go of an object that was deleted; an older namesake's deletion changes nothing."""
        key = key_of(gone) if isinstance(gone, dict) else gone
        held = self._objects[kind].get(key)
        last = gone if isinstance(gone, dict) else held
        if last is not None and (uid := last["metadata"].get("uid")):
            self._dropped[kind, uid] = (self._tick(), _version(last))
        if held is None:
            return False
        if isinstance(gone, dict):
            uid = gone["metadata"].get("uid")
            if uid and held["metadata"].get("uid") != uid:
                return False
            if _older(_version(gone), _version(held)):
                return False
        self._remove(kind, key)
        return True

    def replace(
        self,
        kind: str,
        manifests: Iterable[Manifest],
        since: int,
        namespace: str | None = None,
    ) -> list[Manifest]:
        """Make the cache equal a complete list that was asked for after `since` was marked.

        What a watch or a write brought after that moment may be newer than the list: it stays.

        Returns:
            The objects that appeared, changed or disappeared, the last as they were.
        """
        changed: list[Manifest] = []
        listed: set[Key] = set()
        for manifest in manifests:
            key = key_of(manifest)
            listed.add(key)
            if self.put(kind, manifest):
                changed.append(self._objects[kind][key])
        for key, held in list(self._objects[kind].items()):
            inside = namespace is None or key[0] == namespace
            if inside and key not in listed and self._seen[kind, key] <= since:
                self._remove(kind, key)
                changed.append(held)
        self._bury(kind, namespace, since)
        self.synced.add(kind)
        self._count(kind)
        return changed

    def get(self, kind: str, key: Key) -> Manifest | None:
        """The object, or None."""
        return self._objects[kind].get(key)

    def keys(self, kind: str) -> list[Key]:
        """Namespace and name of every object of a kind."""
        return list(self._objects[kind])

    def all(self, kind: str) -> list[Manifest]:
        """Every object of a kind."""
        return list(self._objects[kind].values())

    def services(self) -> list[Manifest]:
        """Every GoService."""
        return self.all(SERVICE_KIND)

    def children(self, namespace: str, service: str) -> Iterator[Manifest]:
        """The objects that carry a service's label, each with its `kind`."""
        for kind, key in sorted(self._children.get((namespace, service), ())):
            yield self._objects[kind][key]

    def _bury(self, kind: str, namespace: str | None, since: int) -> None:
        """Forget the deletions before the list before: no answer is under way for that long."""
        marks = self._marks[kind]
        last = min(marks.values(), default=0)
        marks[namespace] = since
        self._dropped = {
            entry: when
            for entry, when in self._dropped.items()
            if entry[0] != kind or when[0] > last
        }

    def _is_ghost(self, kind: str, manifest: Manifest) -> bool:
        """Whether this is a late word of an object whose deletion was seen.

        A higher version than the deletion's is no ghost: an object that loses its label leaves
        the watch as deleted, and comes back when the label does.
        """
        entry = self._dropped.get((kind, manifest["metadata"].get("uid", "")))
        if entry is None:
            return False
        version = _version(manifest)
        return entry[1] is None or version is None or version <= entry[1]

    def _store(self, kind: str, key: Key, manifest: Manifest) -> None:
        self._unindex(kind, key)
        held = self._objects[kind][key] = slim(kind, manifest)
        self._seen[kind, key] = self._tick()
        owner = _owner(held)
        if owner[1] and kind != SERVICE_KIND:
            self._children[owner].add((kind, key))
        if kind in self._tests and self._tests[kind](held):
            self._add_chosen(kind, owner, 1)
        self._count(kind)

    def _remove(self, kind: str, key: Key) -> None:
        self._unindex(kind, key)
        del self._objects[kind][key]
        del self._seen[kind, key]
        self._count(kind)

    def _unindex(self, kind: str, key: Key) -> None:
        held = self._objects[kind].get(key)
        if held is None:
            return
        owner = _owner(held)
        if kind in self._tests and self._tests[kind](held):
            self._add_chosen(kind, owner, -1)
        if owner[1] and kind != SERVICE_KIND:
            siblings = self._children[owner]
            siblings.discard((kind, key))
            if not siblings:
                del self._children[owner]

    def _add_chosen(self, kind: str, owner: Key, number: int) -> None:
        counts = self._chosen[kind]
        counts[owner] = counts.get(owner, 0) + number
        if not counts[owner]:
            del counts[owner]

    def _count(self, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.cache_objects.labels(kind=kind).set(len(self._objects[kind]))

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
