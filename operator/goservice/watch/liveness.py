"""Whether the watches live: when something last came on each, and which were opened after a list.

A dead connection may stay open without a byte. On a cluster where nothing happens the signs of life
are the API server's bookmarks, about one a minute, and where those fail to come the answer when
kopf reopens the watch. This module does no I/O: the session of `login` reports to it.

What is watched may change while the process runs: a kind that the cluster does not always serve
comes with `add` and goes with `remove`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from goservice.cluster.kinds import KINDS, path
from goservice.manifest import Kind

QUIET_SHARE = 7 / 12
"""kopf reopens a watch that is silent for this share of `watchSilenceSeconds`: 70 of 120 seconds."""


@dataclass
class _Watch:
    """One stream of one kind, of one namespace or of all."""

    kind: str
    """The kind that is watched."""
    heard_at: float
    """When something last came on it, in seconds of the clock; at first when it was set up."""
    listed: bool = False
    """Whether kopf took a list since the stream was last opened."""
    open: bool = False
    """Whether it was ever opened."""


class Watches:
    """Every watch that there should be, by its request path."""

    def __init__(
        self,
        kinds: Iterable[str],
        namespaces: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        known: Mapping[str, Kind] = KINDS,
    ) -> None:
        """`known`: how each kind is addressed, also of those that are added later."""
        self._clock = clock
        self._known = known
        self._scopes = tuple(namespaces) or (None,)
        self._watches: dict[str, _Watch] = {}
        self._added: set[str] = set()
        self._relisted: set[str] = set()
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self._doubted = asyncio.Event()
        self.kinds: tuple[str, ...] = ()
        """The kinds that there should be watches of."""
        self.renewed = asyncio.Event()
        """Set when a kind came or went; whoever follows the kinds clears it."""
        for kind in kinds:
            self._begin(kind)

    # --- what is watched ----------------------------------------------------------------------------

    @property
    def added(self) -> frozenset[str]:
        """The kinds that came with `add`."""
        return frozenset(self._added)

    def add(self, kind: str) -> None:
        """Watch a kind from now on, which the cluster may cease to serve."""
        self._added.add(kind)
        self._begin(kind)
        self.renewed.set()

    def remove(self, kind: str) -> None:
        """Watch a kind no more."""
        self._added.discard(kind)
        self._watches = {path: watch for path, watch in self._watches.items() if watch.kind != kind}
        self.kinds = tuple(other for other in self.kinds if other != kind)
        self._relisted.discard(kind)
        if not self._relisted:
            self._changed.clear()
        self._opened.set()
        self.renewed.set()

    def _begin(self, kind: str) -> None:
        self.kinds = (*self.kinds, kind)
        for namespace in self._scopes:
            where = path(self._known[kind], namespace, "")
            self._watches[where] = _Watch(kind, self._clock())

    # --- what the session reports -------------------------------------------------------------------

    def listed(self, where: str) -> None:
        """A page of a list was answered."""
        watch = self._watches.get(where)
        if watch is not None:
            watch.heard_at = self._clock()
            watch.listed = True

    def opened(self, where: str) -> None:
        """A watch was answered; after a list it does not report what was deleted before that list."""
        watch = self._watches.get(where)
        if watch is None:
            return
        watch.heard_at = self._clock()
        watch.open = True
        if watch.listed:
            watch.listed = False
            self._relisted.add(watch.kind)
            self._changed.set()
        self._opened.set()

    def not_found(self, where: str) -> bool:
        """A list or watch was answered 404; say whether that is no wonder: the kind may have gone."""
        watch = self._watches.get(where)
        if watch is None or watch.kind not in self._added:
            return False
        self._doubted.set()
        return True

    def heard(self, where: str) -> None:
        """Something came on a watch: an event or a bookmark."""
        watch = self._watches.get(where)
        if watch is not None:
            watch.heard_at = self._clock()

    def paths(self, kind: str) -> list[str]:
        """The request paths of a kind's watches, one for each namespace."""
        return [path for path, watch in self._watches.items() if watch.kind == kind]

    # --- what the operator reads --------------------------------------------------------------------

    def silence(self, kind: str) -> float:
        """For how many seconds nothing was heard of a kind, in the quietest of its namespaces."""
        return self._clock() - min(w.heard_at for w in self._watches.values() if w.kind == kind)

    def fault(self, longest: float) -> str:
        """Which watches have been silent for longer than they may; empty if none has."""
        silent = [kind for kind in self.kinds if self.silence(kind) > longest]
        if not silent:
            return ""
        worst = max(self.silence(kind) for kind in silent)
        return (
            f"nothing was heard for {worst:.0f} s on the watches of {', '.join(silent)};"
            f" at most {longest:.0f} s are well"
        )

    def missing(self) -> list[str]:
        """The kinds that were never watched yet."""
        return list(dict.fromkeys(w.kind for w in self._watches.values() if not w.open))

    async def all_open(self) -> None:
        """Wait until every watch was opened once, also those that are added meanwhile."""
        while self.missing():
            self._opened.clear()
            await self._opened.wait()

    async def next_doubt(self, seconds: float) -> None:
        """Wait until a kind may have gone, for so many seconds at the most."""
        try:
            async with asyncio.timeout(seconds):
                await self._doubted.wait()
        except TimeoutError:
            pass
        self._doubted.clear()

    def take_relisted(self) -> set[str]:
        """The kinds that kopf listed again since the last call."""
        taken, self._relisted = self._relisted, set()
        self._changed.clear()
        return taken

    async def next_relisted(self, seconds: float) -> set[str]:
        """Wait for kinds that kopf lists again; an empty set if none is for so many seconds."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return set()
        return self.take_relisted()
