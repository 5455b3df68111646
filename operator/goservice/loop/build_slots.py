"""Which services wait for a build slot, in order, and whose build is just being started.

The running builds themselves are the Jobs that the cache shows. Namespaces take turns: the next slot
goes to the one that holds the fewest, among these to the one whose last start is longest ago; within
a namespace who came first goes first. Whenever a slot may have become free and no Job's end wakes
those who wait for it, they are woken here.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from goservice.decide.observed import Fleet
from goservice.manifest import Key


class BuildSlots:
    """The queue for the platform's build slots: `most` at once, `most_here` of one namespace."""

    def __init__(
        self,
        most: int,
        most_here: int,
        running: Callable[[], Mapping[Key, int]],
        wake: Callable[[Key], object],
    ) -> None:
        self._most = most
        self._most_here = most_here
        self._running = running
        self._wake = wake
        self._waiting: dict[str, dict[Key, None]] = defaultdict(dict)
        self._starting: set[Key] = set()
        self._gave_way: set[Key] = set()
        self._turns = itertools.count(1)
        self._last_turn: dict[str, int] = {}

    def fleet(self, key: Key) -> Fleet:
        """What a service sees of the others: builds that hold a slot, and who comes before it."""
        held, namespace = self._held(key), key[0]
        queue = self._waiting.get(namespace, {})
        before = sum(1 for _ in itertools.takewhile(key.__ne__, queue))
        ahead = list(itertools.takewhile(key.__ne__, self._order(held, key)))
        return Fleet(
            running=held.total(),
            ahead=len(ahead),
            running_here=held[namespace],
            ahead_here=sum(one[0] == namespace for one in ahead),
            before=before,
        )

    def wait(self, key: Key) -> None:
        """Join the queue; who is in it keeps its turn."""
        self._waiting[key[0]].setdefault(key)

    def start(self, key: Key) -> None:
        """Take the slot that is free, before anyone else decides."""
        self._unqueue(key)
        self._starting.add(key)
        self._last_turn[key[0]] = next(self._turns)

    def started(self, key: Key) -> None:
        """The Job is made and counts by itself."""
        self._starting.discard(key)

    def give_way(self, key: Key, gives_way: bool) -> None:
        """Whether a build that cannot start lets others have its slot; it counts again once it runs."""
        if not gives_way:
            self._gave_way.discard(key)
        elif key not in self._gave_way:
            self._gave_way.add(key)
            self._wake_next()

    def leave(self, key: Key) -> None:
        """Neither wait nor start any more."""
        if self._unqueue(key) or key in self._starting:
            self._starting.discard(key)
            self._wake_next()

    def next(self) -> list[Key]:
        """The services whose build may find a slot when one becomes free."""
        return self._order(self._held(None), None)

    def _held(self, key: Key | None) -> Counter[str]:
        """How many slots the builds of the others hold, by namespace."""
        running = self._running()
        counts = Counter(one[0] for one in self._starting if one not in running and one != key)
        for one, number in running.items():
            if one != key and one not in self._gave_way:
                counts[one[0]] += number
        return counts

    def _order(self, held: Counter[str], newcomer: Key | None) -> list[Key]:
        """Who would get the next slots, as many as there are at all, if the newcomer waited too."""
        queues = {namespace: iter(queue) for namespace, queue in self._waiting.items()}
        if newcomer is not None and newcomer not in self._waiting.get(newcomer[0], ()):
            queues[newcomer[0]] = itertools.chain(queues.get(newcomer[0], ()), (newcomer,))
        turns = [(held[name], self._last_turn.get(name, 0), name) for name in queues]
        heapq.heapify(turns)
        order: list[Key] = []
        while turns and len(order) < self._most:
            count, turn, namespace = heapq.heappop(turns)
            waiting = next(queues[namespace], None)
            if waiting is not None and count < self._most_here:
                order.append(waiting)
                heapq.heappush(turns, (count + 1, turn, namespace))
        return order

    def _unqueue(self, key: Key) -> bool:
        queue = self._waiting.get(key[0], {})
        if key not in queue:
            return False
        del queue[key]
        if not queue:
            del self._waiting[key[0]]
        return True

    def _wake_next(self) -> None:
        for waiting in self.next():
            self._wake(waiting)
