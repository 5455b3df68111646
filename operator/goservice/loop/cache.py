"""What the watches have seen: the newest known state of every object that matters.

It is filled by watch events, by re-lists and by the answers to our own writes, in any order, and
keeps the newest of them, as compressed JSON: a fleet of dicts would be most of the operator's memory.
Anybody can write an object with our labels: of one that is not made by a GoService the name is kept.
"""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from goservice import names
from goservice.api import resource
from goservice.decide.facts import TAKEN_UP
from goservice.loop.words import METADATA, OWNERS, STATUS, masked
from goservice.manifest import Key, Manifest, controller_uid, key_of
from goservice.metrics import Metrics
from goservice.objects import children

LONGEST_ANNOTATION = 1024
"""Characters of an annotation of ours: the longest is an image's name."""
MOST_TOMBSTONES = 20_000
"""Objects whose deletion is remembered at the most: some 6 MB."""
OLDEST_TOMBSTONE = 900.0
"""Seconds for which a deletion is remembered: an answer or a stale server is not behind for so long."""
MOST_MANAGERS = 3
"""Field managers of objects that are kept."""
LONGEST_MANAGER = 128
"""Characters of a field manager's name, as many as the API server takes."""
FASTEST = 1
"""zlib's level: 25 µs an object; higher ones save little of JSON this small."""


def slim(kind: str, manifest: Manifest, *, whole: bool = True) -> Manifest:
    """A copy without what no pass reads; not `whole`: what tells whose it is, and its name."""
    found = manifest["metadata"]
    metadata: Manifest = masked(found, {**METADATA, "ownerReferences": None})
    owners = sorted(found.get("ownerReferences") or (), key=lambda r: not r.get("controller"))
    metadata["ownerReferences"] = masked(owners, OWNERS)
    labels = found.get("labels") or {}
    metadata["labels"] = {key: labels[key] for key in names.LABELS if key in labels}
    short = {"apiVersion": manifest.get("apiVersion", ""), "kind": kind, "metadata": metadata}
    if not whole:
        return short
    managers = _other_managers(manifest)
    if managers:
        metadata["managers"] = managers
    annotations = found.get("annotations") or {}
    metadata["annotations"] = {
        key: str(annotations[key])[:LONGEST_ANNOTATION]
        for key in sorted(names.ANNOTATIONS)
        if key in annotations
    }
    if kind == resource.KIND:
        return short | {key: manifest[key] for key in ("spec", "status") if key in manifest}
    unread = (children.UNREAD.get(kind), "binaryData", "status")
    read = {key: value for key, value in manifest.items() if key not in unread}
    if "status" in manifest:
        read["status"] = masked(manifest["status"], STATUS)
    return read | short


def is_made(kind: str, manifest: Manifest) -> bool:
    """Whether an object is, by its controller and its name, what a GoService or a build's Job makes."""
    if kind == resource.KIND:
        return True
    maker = "Job" if kind == "Pod" else resource.KIND
    references = manifest["metadata"].get("ownerReferences") or ()
    made = any(r.get("controller") and r.get("kind") == maker for r in references)
    _, service = service_of(kind, manifest)
    fits = names.is_of_a_build if kind in children.UNREAD else names.is_lasting
    return made and fits(service, manifest["metadata"]["name"])


def is_left(kind: str, manifest: Manifest) -> bool:
    """Whether an object has no controller, and a GoService that comes may take it up again."""
    metadata = manifest["metadata"]
    references = metadata.get("ownerReferences") or ()
    _, service = service_of(kind, manifest)
    return (
        kind in TAKEN_UP
        and not any(r.get("controller") for r in references)
        and bool(service)
        and names.is_lasting(service, metadata["name"])
    )


def _other_managers(manifest: Manifest) -> list[str]:
    """Who else wrote an object beside its status, the newest first."""
    entries = [
        entry
        for entry in manifest["metadata"].get("managedFields") or ()
        if not entry.get("subresource")
        and entry.get("manager") not in (names.OPERATOR, names.HANDOVER)
    ]
    entries.sort(key=lambda entry: str(entry.get("time", "")), reverse=True)
    return [str(entry.get("manager", ""))[:LONGEST_MANAGER] for entry in entries[:MOST_MANAGERS]]


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
    counted: str
    """The uid of its controller if it passes the test of `count_where`, else empty."""
    seen: int
    """When it was seen last, on the cache's own clock."""
    whole: bool
    """Whether all that passes read is kept; else the name, and whose it is."""
    left: bool
    """Whether it is kept by its name, and a GoService of its label may take it up again."""
    text: bytes
    """The object as compressed JSON."""

    @property
    def manifest(self) -> Manifest:
        """The object, as a dict of its own."""
        found: Manifest = json.loads(zlib.decompress(self.text))
        return found


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deletion."""

    seen: int
    """When it was seen, on the cache's own clock."""
    version: int | None
    """The object's last resourceVersion; None if it is not known."""
    at: float
    """When it was seen, in seconds."""


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

    def __init__(
        self, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._seconds = clock
        self._objects: dict[str, dict[Key, Held]] = defaultdict(dict)
        self._children: dict[Key, set[tuple[str, Key]]] = defaultdict(set)
        self._tests: dict[str, Callable[[Manifest], bool]] = {}
        self._candidates: dict[str, dict[Key, Counter[str]]] = defaultdict(dict)
        self._counts: dict[str, dict[Key, int]] = defaultdict(dict)
        self._left: dict[Key, set[tuple[str, Key]]] = defaultdict(set)
        self._tombstones: dict[tuple[str, str], Tombstone] = {}
        self._listed_at: dict[str, dict[str | None, int]] = defaultdict(dict)
        self._clock = 0

    def count_where(self, kind: str, test: Callable[[Manifest], bool]) -> None:
        """Keep count, from now on, of the objects of a kind that pass a test; one test per kind.

        A pass that needs a number of the whole fleet must not go through the fleet for it.
        """
        self._tests[kind] = test
        for key, held in list(self._objects[kind].items()):
            if held.whole:
                self._store(kind, key, held.manifest, whole=True)

    def counts(self, kind: str) -> Mapping[Key, int]:
        """How many objects of a kind pass its test, by the service whose uid their controller has.

        What names a service by its label alone is not counted: anybody can write a label.
        """
        return self._counts[kind]

    def put(self, kind: str, manifest: Manifest, *, whole: bool = False) -> bool:
        """Keep an object unless something newer is held; say whether it brought news.

        `whole`: all of it that passes read, also if no GoService has made it.
        """
        key, version = key_of(manifest), _version(manifest)
        held = self._objects[kind].get(key)
        if held is not None:
            if _older(version, held.version):
                return False
            same = version is not None and (held.uid, held.version) == (_uid(manifest), version)
            if same and (held.whole or not whole):
                # Seen again is seen: a running re-list must not take it for missing.
                self._objects[kind][key] = replace(held, seen=self._tick())
                return False
        elif self._is_of_the_deleted(kind, manifest):
            return False
        self._store(kind, key, manifest, whole=whole)
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
            self._bury(kind, uid, version)
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

    def left(self, namespace: str, service: str) -> list[tuple[str, Key]]:
        """Objects that a service may take up, and of which only the name is kept: kind and key."""
        return sorted(self._left.get((namespace, service), ()))

    def _bury(self, kind: str, uid: str, version: int | None) -> None:
        """Remember a deletion, and let go of those that are too old or too many."""
        now = self._seconds()
        self._tombstones.pop((kind, uid), None)
        self._tombstones[kind, uid] = Tombstone(self._tick(), version, now)
        while True:
            oldest = next(iter(self._tombstones))
            aged = now - self._tombstones[oldest].at > OLDEST_TOMBSTONE
            if not aged and len(self._tombstones) <= MOST_TOMBSTONES:
                return
            del self._tombstones[oldest]

    def _drop_tombstones(self, kind: str, namespace: str | None, since: int) -> None:
        """Drop tombstones older than the previous full list: no answer is under way for that long."""
        starts = self._listed_at[kind]
        last = min(starts.values(), default=0)
        starts[namespace] = since
        self._tombstones = {
            entry: when
            for entry, when in self._tombstones.items()
            if entry[0] != kind or when.seen > last
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
        return entry.version is None or version is None or version <= entry.version

    def _store(self, kind: str, key: Key, manifest: Manifest, *, whole: bool) -> None:
        self._unindex(kind, key)
        whole = whole or is_made(kind, manifest)
        read = slim(kind, manifest, whole=whole)
        held = self._objects[kind][key] = Held(
            uid=_uid(read),
            version=_version(read),
            owner=service_of(kind, read),
            counted=self._controller(kind, manifest),
            seen=self._tick(),
            whole=whole,
            left=not whole and is_left(kind, manifest),
            text=zlib.compress(json.dumps(read, separators=(",", ":")).encode(), FASTEST),
        )
        if held.owner[1] and kind != resource.KIND:
            self._children[held.owner].add((kind, key))
        if held.left:
            self._left[held.owner].add((kind, key))
        if held.counted:
            self._add_to_count(kind, held, 1)
        if kind == resource.KIND:
            self._count_anew(held.owner)
        self._count(kind)

    def _controller(self, kind: str, manifest: Manifest) -> str:
        if kind not in self._tests or not self._tests[kind](manifest):
            return ""
        return controller_uid(manifest)

    def _remove(self, kind: str, key: Key) -> None:
        self._unindex(kind, key)
        del self._objects[kind][key]
        if kind == resource.KIND:
            self._count_anew(key)
        self._count(kind)

    def _unindex(self, kind: str, key: Key) -> None:
        held = self._objects[kind].get(key)
        if held is None:
            return
        if held.counted:
            self._add_to_count(kind, held, -1)
        if held.owner[1] and kind != resource.KIND:
            waiting = self._left.get(held.owner, set())
            waiting.discard((kind, key))
            if not waiting:
                self._left.pop(held.owner, None)
            siblings = self._children[held.owner]
            siblings.discard((kind, key))
            if not siblings:
                del self._children[held.owner]

    def _add_to_count(self, kind: str, held: Held, number: int) -> None:
        every = self._candidates[kind].setdefault(held.owner, Counter())
        every[held.counted] += number
        if not every[held.counted]:
            del every[held.counted]
        if not every:
            del self._candidates[kind][held.owner]
        self._count_anew(held.owner)

    def _count_anew(self, owner: Key) -> None:
        """How many objects of each counted kind the service that is there now controls."""
        service = self._objects[resource.KIND].get(owner)
        for kind in self._tests:
            every: Mapping[str, int] = self._candidates[kind].get(owner, {})
            number = every.get(service.uid, 0) if service is not None else 0
            if number:
                self._counts[kind][owner] = number
            else:
                self._counts[kind].pop(owner, None)

    def _count(self, kind: str) -> None:
        if self._metrics is not None:
            self._metrics.cache_objects.labels(kind=kind).set(len(self._objects[kind]))

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
