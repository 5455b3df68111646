"""Which services wait for a build slot, in order, and whose build is just being started.

The running builds themselves are the Jobs that the cache shows. Whenever a slot may have become
free and no Job's end wakes those who wait for it, they are woken here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

from goservice.decide.observed import Fleet
from goservice.manifest import Key


class BuildSlots:
    """The queue for the platform's build slots (builds.maxConcurrent)."""

    def __init__(self, most: int, wake: Callable[[Key], object]) -> None:
        self._most = most
        self._wake = wake
        self._waiting: dict[Key, None] = {}
        self._starting: set[Key] = set()

    def fleet(self, key: Key, running: Collection[Key]) -> Fleet:
        """What a service sees of the others: builds that run or start, and who waits before it."""
        others = len(running) + sum(one not in running for one in self._starting)
        others -= key in running or key in self._starting
        # Past the cap nobody asks how many more there are.
        first = self.next()
        return Fleet(others, first.index(key) if key in first else len(first))

    def wait(self, key: Key) -> None:
        """Join the queue; who is in it keeps its turn."""
        self._waiting.setdefault(key)

    def start(self, key: Key) -> None:
        """Take the slot that is free, before anyone else decides."""
        self._waiting.pop(key, None)
        self._starting.add(key)

    def started(self, key: Key) -> None:
        """The Job is made and counts by itself."""
        self._starting.discard(key)

    def leave(self, key: Key) -> None:
        """Neither wait nor start any more."""
        if key in self._waiting or key in self._starting:
            self._waiting.pop(key, None)
            self._starting.discard(key)
            for waiting in self.next():
                self._wake(waiting)

    def next(self) -> list[Key]:
        """The services whose build may find a slot when one becomes free."""
        return list(itertools.islice(self._waiting, self._most))
