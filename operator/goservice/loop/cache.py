"""What the watches have seen: the newest known state of every object that matters.

It is filled by watch events, by re-lists and by the answers to our own writes, in any order, and
keeps the newest of them, as compressed JSON: a fleet of dicts would be most of the operator's memory.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from goservice import names
from goservice.api import resource
from goservice.manifest import Key, Manifest, key_of
from goservice.metrics import Metrics
from goservice.objects import children

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation with a copy of the whole object, which kubectl writes and nobody here reads."""
FASTEST = 1
"""zlib's level: 25 µs an object; higher ones save little of JSON this small."""


def slim(kind: str, manifest: Manifest) -> Manifest:
    """A copy without what no pass reads."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations and LAST_APPLIED in annotations:
        metadata["annotations"] = {k: v for k, v in annotations.items() if k != LAST_APPLIED}
    unread = children.UNREAD.get(kind)
    read = {k: v for k, v in manifest.items() if k != unread}
    return {**read, "kind": kind, "metadata": metadata}


def _version(manifest: Manifest) -> int | None:
    text = str(manifest["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else None


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("uid", ""))


def service_of(kind: str, manifest: Manifest) -> Key:
    """Namespace and name of the service that an object is or belongs to; without label no name."""
    if kind == resource.KIND:
        return key_of(manifest)
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), (metadata.get("labels") or {}).get(names.SERVICE, "")


@dataclass(frozen=True, slots=True)
class Held:
    """One object: what is asked of it often, and the rest as compressed JSON."""

    uid: str
    """Its uid; empty if the API server did not say."""
    version: int | None
    """Its resourceVersion; None if it is no number."""
    owner: Key
    """Namespace and name of the service that it belongs to."""
    counted: bool
    """Whether it passes the test of `count_where`."""
    seen: int
    """When it was seen last, on the cache's own clock."""
    text: bytes
    """The object as compressed JSON."""

    @property
    def manifest(self) -> Manifest:
        """The object, as a dict of its own."""
        found: Manifest = json.loads(zlib.decompress(self.text))
        return found


@dataclass(slots=True)
class Listing:
    """A complete list on its way into the cache, page by page."""

    cache: Cache
    """Where it goes."""
    kind: str
    """What is listed."""
    namespace: str | None
    """Where; None: everywhere."""
    since: int
    """When the list was begun, on the cache's own clock."""
    listed: set[Key] = field(default_factory=set)
    """What it has shown so far."""

    def add(self, page: Iterable[Manifest]) -> list[Key]:
        """Keep what is listed; the owner of each object that appeared or changed."""
        changed = []
        for manifest in page:
            self.listed.add(key_of(manifest))
            if self.cache.put(self.kind, manifest):
                changed.append(service_of(self.kind, manifest))
        return changed

    def end(self) -> list[Key]:
        """Drop what was not listed, once the last page was added; the owner of each such object."""
        return self.cache.remove_unlisted(self)


def _older(one: int | None, other: int | None) -> bool:
    """Whether the first version is known to be older than the second."""
    return one is not None and other is not None and one < other


class Cache:
    """The newest known objects by kind, namespace and name, and the children of each service."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._objects: dict[str, dict[Key, Held]] = defaultdict(dict)
        self._children: dict[Key, set[tuple[str, Key]]] = defaultdict(set)
        self._tests: dict[str, Callable[[Manifest], bool]] = {}
        self._counts: dict[str, dict[Key, int]] = defaultdict(dict)
        self._tombstones: dict[tuple[str, str], tuple[int, int | None]] = {}
        self._listed_at: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._clock = 0

    def count_where(self, kind: str, test: Callable[[Manifest], bool]) -> None:
        """Keep count, from now on, of the objects of a kind that pass a test; one test per kind.

        A pass that needs a number of the whole fleet must not go through the fleet for it.
        """
        self._tests[kind] = test
        for key, held in list(self._objects[kind].items()):
            self._store(kind, key, held.manifest)

    def counts(self, kind: str) -> Mapping[Key, int]:
        """How many objects of a kind pass its test, by the service that they belong to."""
        return self._counts[kind]

    def put(self, kind: str, manifest: Manifest) -> bool:
        """Keep an object unless something newer is held; say whether it brought news."""
        key, version = key_of(manifest), _version(manifest)
        held = self._objects[kind].get(key)
        if held is not None:
            if _older(version, held.version):
                return False
            if version is not None and (held.uid, held.version) == (_uid(manifest), version):
                # Seen again is seen: a running re-list must not take it for missing.
                self._objects[kind][key] = replace(held, seen=self._tick())
                return False
        elif self._is_of_the_deleted(kind, manifest):
            return False
        self._store(kind, key, manifest)
        return True

    def drop(self, kind: str, gone: Manifest | Key) -> bool:
        """Let go of an object that was deleted; an older namesake's deletion changes nothing."""
        key = key_of(gone) if isinstance(gone, dict) else gone
        held = self._objects[kind].get(key)
        if isinstance(gone, dict):
            uid, version = _uid(gone), _version(gone)
        else:
            uid, version = (held.uid, held.version) if held is not None else ("", None)
        if uid:
            self._tombstones[kind, uid] = (self._tick(), version)
        if held is None or (uid and held.uid != uid) or _older(version, held.version):
            return False
        self._remove(kind, key)
        return True

    def listing(self, kind: str, namespace: str | None = None) -> Listing:
        """Begin to make the cache equal a complete list; call it before the list is asked for.

        What a watch or a write brings from now on may be newer than the list: it stays.
        """
        return Listing(self, kind, namespace, self._clock)

    def remove_unlisted(self, listing: Listing) -> list[Key]:
        """Let go of what a complete list did not have; the owner of each such object."""
        gone = []
        for key, held in list(self._objects[listing.kind].items()):
            inside = listing.namespace in (None, key[0])
            if inside and key not in listing.listed and held.seen <= listing.since:
                self._remove(listing.kind, key)
                gone.append(held.owner)
        self._drop_tombstones(listing.kind, listing.namespace, listing.since)
        self._count(listing.kind)
        return gone

    def get(self, kind: str, key: Key) -> Manifest | None:
        """The object, or None."""
        held = self._objects[kind].get(key)
        return held.manifest if held is not None else None

    def keys(self, kind: str) -> list[Key]:
        """Namespace and name of every object of a kind."""
        return list(self._objects[kind])

    def children(self, namespace: str, service: str) -> Iterator[Manifest]:
        """The objects that carry a service's label, each with its `kind`."""
        for kind, key in sorted(self._children.get((namespace, service), ())):
            yield self._objects[kind][key].manifest

    def _drop_tombstones(self, kind: str, namespace: str | None, since: int) -> None:
        """Drop tombstones older than the previous full list: no answer is under way for that long."""
        starts = self._listed_at[kind]
        last = min(starts.values(), default=0)
        starts[namespace] = since
        self._tombstones = {
            entry: when
            for entry, when in self._tombstones.items()
            if entry[0] != kind or when[0] > last
        }

    def _is_of_the_deleted(self, kind: str, manifest: Manifest) -> bool:
        """Whether this is a late word of an object whose deletion was seen.

        A higher version than the deletion's is no ghost: an object that loses its label leaves
        the watch as deleted, and comes back when the label does.
        """
        entry = self._tombstones.get((kind, manifest["metadata"].get("uid", "")))
        if entry is None:
            return False
        version = _version(manifest)
        return entry[1] is None or version is None or version <= entry[1]

    def _store(self, kind: str, key: Key, manifest: Manifest) -> None:
        self._unindex(kind, key)
        read = slim(kind, manifest)
        held = self._objects[kind][key] = Held(
            uid=_uid(read),
            version=_version(read),
            owner=service_of(kind, read),
            counted=kind in self._tests and self._tests[kind](read),
            seen=self._tick(),
            text=zlib.compress(json.dumps(read, separators=(",", ":")).encode(), FASTEST),
        )
        if held.owner[1] and kind != resource.KIND:
            self._children[held.owner].add((kind, key))
        if held.counted:
            self._add_to_count(kind, held.owner, 1)
        self._count(kind)

    def _remove(self, kind: str, key: Key) -> None:
        self._unindex(kind, key)
        del self._objects[kind][key]
        self._count(kind)

    def _unindex(self, kind: str, key: Key) -> None:
        held = self._objects[kind].get(key)
        if held is None:
            return
        if held.counted:
            self._add_to_count(kind, held.owner, -1)
        if held.owner[1] and kind != resource.KIND:
            siblings = self._children[held.owner]
            siblings.discard((kind, key))
            if not siblings:
                del self._children[held.owner]

    def _add_to_count(self, kind: str, owner: Key, number: int) -> None:
        counts = self._counts[kind]
        counts[owner] = counts.get(owner, 0) + number
        if not counts[owner]:
            del counts[owner]

    def _count(self, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.cache_objects.labels(kind=kind).set(len(self._objects[kind]))

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
