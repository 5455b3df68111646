"""The newest commit of each repository and revision, asked once for all services that share it.

Nothing of an answer leaves this package but a commit, and the same fault has the same words each
time, so that an outage writes each status once.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver

from goservice.errors import GitUnavailable, SourceError
from goservice.loop.metrics import Metrics
from goservice.sources.gate import Gate
from goservice.sources.git import CONCURRENCY, LONGEST_ANSWER, LONGEST_SECONDS, Git
from goservice.sources.refs import is_commit

log = logging.getLogger(__name__)

Key = tuple[str, str]

FIRST_DELAY = 10.0
LONGEST_DELAY = 600.0
JITTER = 0.1


@dataclass(frozen=True)
class Resolution:
    """The last answer of a repository."""

    sha: str
    """The newest commit that is known, also after an error; empty if none ever was."""
    error: SourceError | None
    """Why the last question had no answer."""
    asked_at: float
    """When the last question was put, on the clock of `refresh_now`."""


@dataclass
class _Topic:
    """A repository and revision that at least one service wants to know of."""

    url: str
    revision: str | None
    wishes: dict[Key, float] = field(default_factory=dict)
    resolution: Resolution | None = None
    due: float | None = None
    demanded_at: float | None = None
    """Since when an answer is wanted that is newer than this; None once it was given."""
    failures: int = 0
    asking: bool = False

    @property
    def interval(self) -> float | None:
        """The shortest interval that is wanted; None if nobody wants any."""
        return min((seconds for seconds in self.wishes.values() if seconds > 0), default=None)


class Sources:
    """Knows the newest commits of the repositories that services want, and keeps asking."""

    def __init__(
        self,
        *,
        allow_http: bool = False,
        allowed_networks: Iterable[str] = (),
        concurrency: int = CONCURRENCY,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        longest_answer: int = LONGEST_ANSWER,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._git = Git(
            Gate(allowed_networks),
            allow_http=allow_http,
            concurrency=concurrency,
            resolver=resolver,
            longest_answer=longest_answer,
            longest_seconds=longest_seconds,
        )
        self._concurrency = concurrency
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._topics: dict[tuple[str, str | None], _Topic] = {}
        self._wanted: dict[Key, _Topic] = {}
        self._heap: list[tuple[float, int, _Topic]] = []
        self._entries = 0
        self._changed = asyncio.Event()
        self._last_moment = 0.0

    # --- what services want -----------------------------------------------------------------------

    def known(self, url: str, revision: str | None) -> Resolution | None:
        """The last answer; None if there was none yet or nobody wants it."""
        topic = self._topics.get((url, revision))
        return topic.resolution if topic else None

    def want(self, url: str, revision: str | None, interval_seconds: float, key: Key) -> None:
        """A service wants to know, and how often to ask; 0: once. It wants one thing at a time."""
        topic = self._topics.get((url, revision))
        if topic is None:
            topic = self._topics[url, revision] = _Topic(url, revision)
            self._demand(topic)
        if self._wanted.get(key) is not topic:
            self.forget(key)
            self._wanted[key] = topic
        if topic.wishes.get(key) != interval_seconds:
            before = topic.interval
            topic.wishes[key] = interval_seconds
            if topic.interval != before:
                self._schedule(topic)

    def forget(self, key: Key) -> None:
        """A service wants to know nothing any more."""
        topic = self._wanted.pop(key, None)
        if topic is None:
            return
        del topic.wishes[key]
        if not topic.wishes:
            topic.due = None
            del self._topics[topic.url, topic.revision]

    def refresh_now(self, url: str, revision: str | None) -> float:
        """Ask again at once; an answer whose `asked_at` is not below the returned time is newer."""
        topic = self._topics.get((url, revision))
        return self._demand(topic) if topic else self._moment()

    def _demand(self, topic: _Topic) -> float:
        now = topic.demanded_at = self._moment()
        if topic.revision is not None and is_commit(topic.revision):
            # A commit is its own answer, and never becomes another one.
            topic.resolution = Resolution(topic.revision.lower(), None, now)
            topic.demanded_at = None
        elif not topic.asking:
            self._at(topic, self._clock())
        return now

    # --- asking on time ---------------------------------------------------------------------------

    async def run(self, on_change: Callable[[Key], None]) -> None:
        """Ask whatever is due until cancelled, and tell every service whose answer is new."""
        places = asyncio.Semaphore(self._concurrency)
        try:
            async with asyncio.TaskGroup() as questions:
                while True:
                    # The place comes first: what is due longest is then asked next.
                    await places.acquire()
                    topic = await self._next()
                    topic.asking = True
                    question = questions.create_task(self._ask(topic, on_change))
                    question.add_done_callback(lambda _: places.release())
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        await self._git.close()

    async def resolve(self, url: str, revision: str | None) -> str:
        """Ask once, whoever wants to know, and raise the `SourceError` if there is no answer."""
        return await self._git.resolve(url, revision)

    async def _next(self) -> _Topic:
        """The topic that is due, waiting for it."""
        while True:
            while self._heap and self._heap[0][2].due != self._heap[0][0]:
                heapq.heappop(self._heap)
            delay = self._heap[0][0] - self._clock() if self._heap else None
            if delay is not None and delay <= 0:
                topic = heapq.heappop(self._heap)[2]
                topic.due = None
                return topic
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _ask(self, topic: _Topic, on_change: Callable[[Key], None]) -> None:
        """One question, its answer's consequences, and when to ask next."""
        asked_at = self._moment()
        sha, error = "", None
        try:
            sha = await self.resolve(topic.url, topic.revision)
        except SourceError as refusal:
            error = refusal
        except Exception:
            log.exception("a defect of the operator while asking a git server")
            error = GitUnavailable("the operator failed to ask the repository; see its log")
        topic.asking = False
        self._count(error)
        before = topic.resolution
        if error is not None and before is not None:
            sha = before.sha
        topic.resolution = Resolution(sha, error, asked_at)
        topic.failures = topic.failures + 1 if isinstance(error, GitUnavailable) else 0
        answered = topic.demanded_at is not None and asked_at >= topic.demanded_at
        if answered and not isinstance(error, GitUnavailable):
            topic.demanded_at = None
        if not topic.wishes:
            return
        self._schedule(topic)
        news = before is None or (before.sha, type(before.error)) != (sha, type(error))
        if news or (answered and topic.demanded_at is None):
            for key in list(topic.wishes):
                on_change(key)

    def _schedule(self, topic: _Topic) -> None:
        """When to ask a topic next, from its last answer on."""
        last = topic.resolution
        if topic.asking or last is None:
            return
        if topic.demanded_at is not None and last.asked_at < topic.demanded_at:
            self._at(topic, self._clock())
            return
        delay = topic.interval
        if topic.failures and (delay is not None or topic.demanded_at is not None):
            backoff = FIRST_DELAY * 2.0 ** min(topic.failures - 1, 20)
            delay = min(backoff, max(delay or 0.0, LONGEST_DELAY))
        if delay is None or is_commit(topic.revision):
            topic.due = None
            return
        due = last.asked_at + delay * (1 - JITTER + 2 * JITTER * self._chance())
        # What is due within a second is asked together: to wake up costs more than a question.
        self._at(topic, float(math.ceil(due)))

    def _at(self, topic: _Topic, due: float) -> None:
        topic.due = due
        # Topics have no order of their own: the running number decides between equal times.
        self._entries += 1
        heapq.heappush(self._heap, (due, self._entries, topic))
        self._changed.set()

    def _moment(self) -> float:
        """The time, and never the same one twice: "asked after" must not depend on luck."""
        self._last_moment = max(self._clock(), self._last_moment + 1e-6)
        return self._last_moment

    def _count(self, error: SourceError | None) -> None:
        if self._metrics is not None:
            result = type(error).__name__ if error else "Resolved"
            self._metrics.sources_polls_total.labels(result=result).inc()
