"""The work queue: which service is next, and none of them twice at once.

A key is in at most one place: waiting, busy, or busy and dirty (something happened meanwhile, so
it waits again once done). A hundred events of one service are therefore one pass. Keys that are
due later sit on a heap; keys that failed come back with backoff. A key whose passes keep sending
requests, because somebody undoes what they do, is slowed down, whatever is fought over. The queue
knows nothing of Kubernetes and does no I/O.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from goservice.metrics import Metrics

FIRST_DELAY = 1.0
"""Seconds until a key that failed once is tried again; each further failure doubles them."""

LONGEST_DELAY = 300.0
"""Seconds between tries of a key that fails for long, but for JITTER."""

JITTER = 0.2
"""Share by which a delay is shortened or lengthened, so that keys do not come back together."""

SENDING_AT_ONCE = 60
"""Passes of one key in a row that may send something as soon as there is a reason: more than any life needs."""

SENDING_EACH = 30.0
"""Seconds for each further one: two parties who undo each other's work meet 120 times an hour."""

AnyKey = TypeVar("AnyKey", bound=Hashable)


class ClosedError(Exception):
    """The queue was shut down: there will be no more keys."""


class Queue(Generic[AnyKey]):
    """A keyed, debouncing work queue with delays and per-key backoff, for one event loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        metrics: Metrics | None = None,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._metrics = metrics
        self._pending: dict[AnyKey, float] = {}
        self._busy: dict[AnyKey, float] = {}
        self._dirty: set[AnyKey] = set()
        self._due: dict[AnyKey, float] = {}
        self._heap: list[tuple[float, int, AnyKey]] = []
        self._entries = 0
        self._failures: dict[AnyKey, int] = {}
        self._sending: set[AnyKey] = set()
        self._paid_at: dict[AnyKey, float] = {}
        self._swept_at = clock()
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def depth(self) -> int:
        """How many keys wait and are due."""
        return len(self._pending)

    @property
    def busy(self) -> int:
        """How many keys are handed out."""
        return len(self._busy)

    @property
    def closed(self) -> bool:
        """Whether `shutdown` was called."""
        return self._closed

    def add(self, key: AnyKey) -> None:
        """Ask for a pass over the key; asking again before it starts changes nothing."""
        if self._closed or key in self._pending:
            return
        if key in self._busy:
            self._dirty.add(key)
            return
        rest = self._rest(key)
        if rest > 0:
            self.add_after(key, rest)
            return
        self._pending[key] = self._clock()
        self._notice()

    def add_after(self, key: AnyKey, seconds: float) -> None:
        """Ask for a pass in some seconds; of two delays of one key the earlier one counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        # Keys need no order of their own: the running number decides between equal times.
        self._entries += 1
        heapq.heappush(self._heap, (due, self._entries, key))
        self._notice()

    def retry(self, key: AnyKey, at_least: float = 0.0) -> float:
        """Ask for a pass after the key's next backoff, and say how many seconds that is.

        `at_least` is how many seconds a server asked to wait (Retry-After).
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is capped so that a key which fails for weeks does not overflow a float.
        delay = min(FIRST_DELAY * 2.0 ** min(failures, 20), LONGEST_DELAY)
        delay = max(at_least, delay * (1 - JITTER + 2 * JITTER * self._chance()))
        self.add_after(key, delay)
        return delay

    def forget(self, key: AnyKey) -> None:
        """End the key's backoff: its next failure starts from the first delay."""
        self._failures.pop(key, None)

    def sends(self, key: AnyKey) -> None:
        """Say that the pass over this key, which is handed out, sends requests; once or more often."""
        self._sending.add(key)

    async def get(self) -> AnyKey:
        """The next key, which is the caller's until `done`.

        Raises:
            ClosedError: the queue was shut down.
        """
        while True:
            if self._closed:
                raise ClosedError
            key = self.take()
            if key is not None:
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(self.next_due()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def take(self) -> AnyKey | None:
        """The next key if one waits now; for `get`, and for tests with their own clock."""
        self._promote()
        if self._closed or not self._pending:
            return None
        key = next(iter(self._pending))
        now = self._clock()
        added = self._pending.pop(key)
        self._busy[key] = now
        if self._metrics is not None:
            self._metrics.queue_duration_seconds.observe(now - added)
            self._metrics.queue_depth.set(len(self._pending))
        return key

    def next_due(self) -> float | None:
        """Seconds until the next delayed key is due; None if there is none."""
        # An entry whose key is due at another time by now was replaced by an earlier one.
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def done(self, key: AnyKey) -> None:
        """Give a key back; if it was added meanwhile, it waits again."""
        self._busy.pop(key, None)
        if key in self._sending:
            self._sending.discard(key)
            self._pay(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)
        self._notice()

    def oldest_busy(self) -> float:
        """For how many seconds the longest pass has been running; 0 if none is."""
        return self._clock() - min(self._busy.values()) if self._busy else 0.0

    def shutdown(self) -> None:
        """Hand out no more keys; what is busy may finish."""
        self._closed = True
        self._pending.clear()
        self._dirty.clear()
        self._due.clear()
        self._heap.clear()
        self._notice()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until nothing is busy, at most `timeout` seconds; say whether that was reached."""
        try:
            async with asyncio.timeout(timeout):
                while self._busy:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _pay(self, key: AnyKey) -> None:
        """Move on the moment from which a key owes nothing, by what a pass costs."""
        now = self._clock()
        if now - self._swept_at >= SENDING_EACH:
            self._swept_at = now
            self._paid_at = {other: at for other, at in self._paid_at.items() if at > now}
        self._paid_at[key] = max(self._paid_at.get(key, now), now) + SENDING_EACH

    def _rest(self, key: AnyKey) -> float:
        """Seconds until a key may have another pass that sends something; not above 0: at once."""
        return self._paid_at.get(key, 0.0) - self._clock() - (SENDING_AT_ONCE - 1) * SENDING_EACH

    def _promote(self) -> None:
        """Move the delayed keys that are due to the waiting ones."""
        while self.next_due() == 0.0:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key]
            self.add(key)

    def _notice(self) -> None:
        if self._metrics is not None:
            self._metrics.queue_depth.set(len(self._pending))
        self._changed.set()
