"""The newest commit of each repository and revision, polled once for all services that share it.

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
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver

from goservice.errors import GitUnavailable, SourceError
from goservice.manifest import Key
from goservice.metrics import Metrics
from goservice.sources.gate import Gate
from goservice.sources.git import (
    CONCURRENCY,
    LONGEST_ANSWER,
    LONGEST_SECONDS,
    Found,
    GitServers,
)
from goservice.sources.refs import is_commit

log = logging.getLogger(__name__)


FIRST_DELAY = 10.0
"""Seconds from the first poll that fails to the next one; each further failure doubles them."""

LONGEST_DELAY = 600.0
"""Seconds between polls of a server that fails for long; a longer interval of the services counts."""

JITTER = 0.1
"""Share of a delay, so that services which started together do not poll together for ever."""


@dataclass(frozen=True)
class Answer:
    """The last answer of a repository."""

    sha: str
    """The newest commit that is known, also after an error; empty if none ever was."""
    error: SourceError | None
    """Why the last poll had no answer; None if it had."""
    asked_at: float
    """When the last poll began, in seconds on the clock of `refresh_now`."""
    tag: str = ""
    """The commit of a tag that has the name of the branch which `sha` is of; empty if there is none."""


@dataclass
class _Topic:
    """A repository and revision that at least one service subscribes to."""

    url: str
    """The repository's http(s) address."""
    revision: str | None
    """A branch, a tag or a commit; None: the remote's HEAD."""
    intervals: dict[Key, float] = field(default_factory=dict)
    """The subscribers, and the seconds between polls that each asks for; 0: polled once."""
    answer: Answer | None = None
    """The last answer; None before the first poll has ended."""
    due: float | None = None
    """When the next poll begins, in seconds of the clock; None: none is planned."""
    demanded_at: float | None = None
    """An answer must be newer than this, in seconds of the clock; None once such a one came."""
    failures: int = 0
    """How many polls in a row the server did not answer."""
    polling: bool = False
    """Whether a poll is under way."""

    @property
    def interval(self) -> float | None:
        """The shortest interval of all subscribers, in seconds; None if none of them has one."""
        return min((seconds for seconds in self.intervals.values() if seconds > 0), default=None)


class Sources:
    """Polls the repositories that services subscribe to, and keeps their newest commits."""

    def __init__(
        self,
        *,
        allow_http: bool = False,
        allowed_hosts: Collection[str] = (),
        allowed_networks: Iterable[str] = (),
        concurrency: int = CONCURRENCY,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        longest_answer: int = LONGEST_ANSWER,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._git = GitServers(
            Gate(allowed_networks),
            allow_http=allow_http,
            allowed_hosts=allowed_hosts,
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
        self._subscribed: dict[Key, _Topic] = {}
        self._heap: list[tuple[float, int, _Topic]] = []
        self._entries = 0
        self._changed = asyncio.Event()
        self._last_moment = 0.0

    # --- subscribers --------------------------------------------------------------------------------

    def known(self, url: str, revision: str | None) -> Answer | None:
        """The last answer; None if there is none yet or nobody subscribes to it."""
        topic = self._topics.get((url, revision))
        return topic.answer if topic else None

    def want(self, url: str, revision: str | None, interval_seconds: float, key: Key) -> None:
        """Subscribe a service, to one repository and revision at a time; interval 0: polled once."""
        topic = self._topics.get((url, revision))
        if topic is None:
            topic = self._topics[url, revision] = _Topic(url, revision)
            self._demand(topic)
        if self._subscribed.get(key) is not topic:
            self.forget(key)
            self._subscribed[key] = topic
        if topic.intervals.get(key) != interval_seconds:
            before = topic.interval
            topic.intervals[key] = interval_seconds
            if topic.interval != before:
                self._schedule(topic)

    def forget(self, key: Key) -> None:
        """End a service's subscription; one that has none is no fault."""
        topic = self._subscribed.pop(key, None)
        if topic is None:
            return
        del topic.intervals[key]
        if not topic.intervals:
            topic.due = None
            del self._topics[topic.url, topic.revision]
            self._tell(topic.answer, None)

    def refresh_now(self, url: str, revision: str | None) -> float:
        """Poll again at once; an answer whose `asked_at` is not below the returned time is newer."""
        topic = self._topics.get((url, revision))
        return self._demand(topic) if topic else self._moment()

    def _demand(self, topic: _Topic) -> float:
        """Require an answer that is newer than now, and return now."""
        now = topic.demanded_at = self._moment()
        if topic.revision is not None and is_commit(topic.revision):
            # A commit is its own answer, and never becomes another one.
            topic.answer = Answer(topic.revision.lower(), None, now)
            topic.demanded_at = None
        elif not topic.polling:
            self._poll_at(topic, self._clock())
        return now

    # --- polls --------------------------------------------------------------------------------------

    async def run(self, on_change: Callable[[Key], None]) -> None:
        """Poll what is due until cancelled; call `on_change` for each service whose answer is new."""
        slots = asyncio.Semaphore(self._concurrency)
        try:
            async with asyncio.TaskGroup() as polls:
                while True:
                    # Wait for a slot before choosing: what has been due longest is polled next.
                    await slots.acquire()
                    topic = await self._next()
                    topic.polling = True
                    poll = polls.create_task(self._poll(topic, on_change))
                    poll.add_done_callback(lambda _: slots.release())
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections; the next poll opens new ones."""
        await self._git.close()

    async def resolve(self, url: str, revision: str | None) -> str:
        """Ask the server once, whoever subscribes; raises the `SourceError` if there is no answer."""
        return (await self.look(url, revision)).sha

    async def look(self, url: str, revision: str | None) -> Found:
        """The same, and what else has the revision's name; raises the same."""
        return await self._git.look(url, revision)

    async def _next(self) -> _Topic:
        """Wait for a topic to be due, and take it off the heap."""
        while True:
            # An entry whose topic is due at another time by now was replaced by a later one.
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

    async def _poll(self, topic: _Topic, on_change: Callable[[Key], None]) -> None:
        """Poll once, plan the next poll, and call `on_change` if the answer is new or was demanded."""
        asked_at = self._moment()
        found, error = Found(""), None
        try:
            found = await self.look(topic.url, topic.revision)
        except SourceError as refusal:
            error = refusal
        except Exception:
            log.exception("a defect of the operator while asking a git server")
            error = GitUnavailable("the operator failed to ask the repository; see its log")
        topic.polling = False
        self._count(error)
        before = topic.answer
        if error is not None and before is not None:
            found = Found(before.sha, before.tag)
        topic.answer = Answer(found.sha, error, asked_at, found.tag)
        self._tell(before, topic.answer)
        topic.failures = topic.failures + 1 if isinstance(error, GitUnavailable) else 0
        answered = topic.demanded_at is not None and asked_at >= topic.demanded_at
        if answered and not isinstance(error, GitUnavailable):
            topic.demanded_at = None
        if not topic.intervals:
            return
        self._schedule(topic)
        said = (found.sha, found.tag, type(error))
        changed = before is None or (before.sha, before.tag, type(before.error)) != said
        if changed or (answered and topic.demanded_at is None):
            for key in list(topic.intervals):
                on_change(key)

    def _schedule(self, topic: _Topic) -> None:
        """Plan a topic's next poll, counted from its last one."""
        last = topic.answer
        if topic.polling or last is None:
            return
        if topic.demanded_at is not None and last.asked_at < topic.demanded_at:
            self._poll_at(topic, self._clock())
            return
        delay = topic.interval
        if topic.failures and (delay is not None or topic.demanded_at is not None):
            backoff = FIRST_DELAY * 2.0 ** min(topic.failures - 1, 20)
            delay = min(backoff, max(delay or 0.0, LONGEST_DELAY))
        if delay is None or is_commit(topic.revision):
            topic.due = None
            return
        due = last.asked_at + delay * (1 - JITTER + 2 * JITTER * self._chance())
        # Polls of the same second begin together: each waking of the loop costs more than a poll.
        self._poll_at(topic, float(math.ceil(due)))

    def _poll_at(self, topic: _Topic, due: float) -> None:
        topic.due = due
        # Topics have no order of their own: the running number decides between equal times.
        self._entries += 1
        heapq.heappush(self._heap, (due, self._entries, topic))
        self._changed.set()

    def _moment(self) -> float:
        """The clock's time, never the same twice: a poll and a demand must not be at the same moment."""
        self._last_moment = max(self._clock(), self._last_moment + 1e-6)
        return self._last_moment

    def _tell(self, before: Answer | None, now: Answer | None) -> None:
        """Keep count of the repositories whose last poll had no answer."""
        if self._metrics is None:
            return
        for answer, number in ((before, -1), (now, 1)):
            if answer is not None and answer.error is not None:
                result = type(answer.error).__name__
                self._metrics.sources_unresolved.labels(result=result).inc(number)

    def _count(self, error: SourceError | None) -> None:
        if self._metrics is not None:
            result = type(error).__name__ if error else "Resolved"
            self._metrics.sources_polls_total.labels(result=result).inc()
