"""The operator's watches: one stream of events for each kind, which can go wrong."""

from collections import deque
from typing import Any

from goservice import names
from goservice.api import resource
from goservice.cluster.kinds import WATCHED
from goservice.manifest import Manifest
from goservice.watch.operator import Operator
from testbed.faults import Fault, Script
from testbed.inmemory.world import World
from tests.faults.virtual import VirtualLoop

Event = tuple[str | None, Manifest]
"""Its type, None for what a list found, and the object."""

LATENCY = 0.05
"""Virtual seconds from a change to its event."""
INSTANT = 1e-6
"""Sums of floats are not exact, and asyncio wakes a timer a little early."""
GAP_SECONDS = 20.0
"""How long a cut watch is away; what happens meanwhile is never sent."""
DELAY_SECONDS = 90.0
"""Virtual seconds that a delayed watch is behind: longer than a build."""
REPEAT_SECONDS = 30.0
"""Virtual seconds until an event comes once more."""
JOURNEY = 10
"""How many events back a stale API server's view is."""
JOURNEY_SECONDS = 30.0
"""For how long a stale API server stays stale, in virtual seconds."""


class Stream:
    """Events of one kind on their way to one process of the operator."""

    def __init__(self, loop: VirtualLoop, operator: Operator, kind: str) -> None:
        self._loop = loop
        self._operator = operator
        self._kind = kind
        self._under_way: deque[tuple[float, Event]] = deque()
        self._held_until = 0.0
        self.deaf_until = 0.0

    def send(self, change: str | None, manifest: Manifest) -> None:
        """Put an event on its way."""
        due = max(self._loop.time() + LATENCY, self._held_until)
        self._under_way.append((due, (change, manifest)))
        self._loop.call_at(due, self._deliver)

    def hold(self, seconds: float) -> None:
        """Deliver nothing for some seconds, then all of it in order."""
        self._held_until = self._loop.time() + seconds

    def begin(self) -> None:
        """Tell the operator that kopf has listed the kind and watches it from there."""
        for path in self._operator.watches.paths(self._kind):
            self._operator.watches.listed(path)
            self._operator.watches.opened(path)

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= self._loop.time() + INSTANT:
            _, (change, manifest) = self._under_way.popleft()
            self._operator.saw(self._kind, change, manifest)


class Watches:
    """What kopf does: list each kind, then send every change, until a fault says otherwise."""

    def __init__(self, loop: VirtualLoop, world: World, script: Script) -> None:
        self._loop = loop
        self._world = world
        self._script = script
        self._streams: dict[str, Stream] = {}
        self._past: list[Event] = [("ADDED", m) for kind in WATCHED for m in world.all(kind)]
        self._first = len(self._past)
        self._journey = 0
        self.restart: Any = None
        """Called to end the operator's process when the next one is to meet a stale server."""
        world.on_change(self._changed)

    def connect(self, operator: Operator) -> None:
        """Start over for a new process."""
        self._streams = {kind: Stream(self._loop, operator, kind) for kind in WATCHED}
        for stream in self._streams.values():
            stream.begin()
        back, self._journey = self._journey, 0
        if not back:
            for kind in WATCHED:
                self._list(kind)
            return
        then = max(self._first, len(self._past) - back)
        stale: dict[tuple[str, str, str], Manifest] = {}
        for change, manifest in self._past[:then]:
            if change == "DELETED":
                stale.pop(_key(manifest), None)
            else:
                stale[_key(manifest)] = manifest
        for manifest in stale.values():
            self._send(None, manifest)
        for stream in self._streams.values():
            stream.hold(JOURNEY_SECONDS)
        for change, manifest in self._past[then:]:
            self._send(change, manifest)

    def disconnect(self) -> None:
        """The operator's process has ended."""
        self._streams = {}

    def _changed(self, change: str, manifest: Manifest) -> None:
        if manifest["kind"] not in WATCHED:
            return
        if not _selected(manifest):
            return
        self._past.append((change, manifest))
        stream = self._streams.get(manifest["kind"])
        if stream is None:
            return
        kind = manifest["kind"]
        match self._script.arrive(change, kind, manifest["metadata"]["name"]):
            case None:
                pass
            case Fault.CUT:
                stream.deaf_until = self._loop.time() + GAP_SECONDS
                self._loop.call_later(GAP_SECONDS, self._list_again, stream, kind)
            case Fault.SILENCED:
                stream.deaf_until = float("inf")
            case Fault.DELAYED:
                stream.hold(DELAY_SECONDS)
            case Fault.REPEATED:
                self._loop.call_later(REPEAT_SECONDS, stream.send, change, manifest)
            case Fault.TRAVELLED:
                self._journey = JOURNEY
                self.restart()
                return
            case other:
                raise AssertionError(f"{other} strikes a request, not an event")
        self._send(change, manifest)

    def _send(self, change: str | None, manifest: Manifest) -> None:
        stream = self._streams.get(manifest["kind"])
        if stream is not None and stream.deaf_until <= self._loop.time():
            stream.send(change, manifest)

    def _list(self, kind: str) -> None:
        for manifest in self._world.all(kind):
            if _selected(manifest):
                self._send(None, manifest)

    def _list_again(self, stream: Stream, kind: str) -> None:
        if self._streams.get(kind) is stream:
            self._list(kind)
            stream.begin()


def _selected(manifest: Manifest) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    return manifest["kind"] == resource.KIND or labels.get(names.MANAGED_BY) == names.OPERATOR


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]
