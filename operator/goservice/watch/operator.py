"""The operator's parts of one process: cache, queue, sources, watches and workers.

Watch events are stored and wake the service that they belong to; workers make passes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from goservice import metrics
from goservice.api import resource
from goservice.cluster.kinds import WATCHED
from goservice.cluster.protocol import Cluster
from goservice.errors import ClusterError, GoServiceError
from goservice.loop.cache import Cache, service_of
from goservice.loop.gates import Gates, StartGate
from goservice.loop.queue import ClosedError, Queue
from goservice.loop.reconcile import Reconciler
from goservice.manifest import Key
from goservice.objects.children import watch_selector
from goservice.settings import Settings
from goservice.sources.polling import Sources
from goservice.watch.liveness import Watches

log = logging.getLogger(__name__)

STUCK_SECONDS = 120.0
"""Seconds that a pass may run before /healthz fails; each of its requests times out after 30."""


class Operator:
    """Cache, queue, sources and workers of one process.

    The workers begin when every gate is open: `synced`, which is ours, and those that are handed in.
    """

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        counters: metrics.Metrics,
        *,
        gates: Iterable[StartGate] = (),
        sources: Sources | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = monotonic
        self._chance = chance
        self._settings = settings
        self._cluster = cluster
        self._metrics = counters
        self.cache = Cache(counters)
        self.queue: Queue[Key] = Queue(clock=monotonic, chance=chance, metrics=counters)
        self.watches = Watches(WATCHED, settings.namespaces, clock=monotonic)
        self.sources = sources or Sources(
            allow_http=settings.git.allow_http,
            allowed_networks=[str(network) for network in settings.git.allowed_networks],
            metrics=counters,
        )
        self.reconciler = Reconciler(
            cluster,
            self.cache,
            self.sources,
            settings,
            clock=now,
            wake=self.queue.add,
            metrics=counters,
        )
        self.synced = StartGate("synced", self._unsynced)
        self.gates = Gates((self.synced, *gates))
        for kind in WATCHED:
            silence = counters.watch_silence_seconds.labels(kind)
            silence.set_function(partial(self.watches.silence, kind))

    # --- events -------------------------------------------------------------------------------------

    def saw(self, kind: str, event: str | None, manifest: dict[str, Any]) -> None:
        """Store one watch event and wake the service that it belongs to."""
        self._metrics.watch_last_event_timestamp_seconds.labels(kind).set(time.time())
        if event == "DELETED":
            self.cache.drop(kind, manifest)
        else:
            self.cache.put(kind, manifest)
        self._wake(kind, service_of(kind, manifest))

    def _wake_all(self, kind: str, keys: Iterable[Key]) -> None:
        for key in keys:
            self._wake(kind, key)

    def _wake(self, kind: str, key: Key) -> None:
        """Queue the service; after any change of a Job also those that wait for a build slot."""
        if key[1]:
            self.queue.add(key)
        if kind == "Job":
            for waiting in self.reconciler.next_waiting():
                self.queue.add(waiting)

    # --- work ---------------------------------------------------------------------------------------

    def start(self) -> list[asyncio.Task[None]]:
        """Start everything that runs until it is cancelled: re-lists, polls of git servers, workers."""
        return [
            asyncio.create_task(self.keep_listed()),
            asyncio.create_task(self.sources.run(self.queue.add)),
            *(asyncio.create_task(self.work()) for _ in range(self._settings.client.workers)),
        ]

    async def relist(self, kinds: Iterable[str] = WATCHED) -> None:
        """List everything, page by page: a watch does not report deletions that it missed."""
        for kind in kinds:
            selector = "" if kind == resource.KIND else watch_selector(kind)
            for namespace in self._settings.namespaces or (None,):
                listing = self.cache.listing(kind, namespace)
                async for page in self._cluster.pages(kind, namespace, label_selector=selector):
                    self._wake_all(kind, listing.add(page))
                self._wake_all(kind, listing.end())

    async def keep_listed(self) -> None:
        """The first list, after which the workers begin, and one every `relistSeconds`.

        A kind that kopf lists again is listed at once, since kopf does not report what was deleted
        meanwhile; the first list waits for the watches for the same reason.
        """
        await self.watches.all_open()
        self.watches.take_relisted()
        kinds: Iterable[str] = WATCHED
        due = self._next_relist()
        while True:
            try:
                await self.relist(kinds)
            except ClusterError as error:
                log.warning("the cluster cannot be listed, trying again: %s", error)
                await asyncio.sleep(2)
                continue
            if not self.synced.is_open:
                log.info("caches are filled: %d services", len(self.cache.keys(resource.KIND)))
                self.synced.open()
            kinds = await self.watches.next_relisted(due - self._clock())
            if not kinds:
                kinds, due = WATCHED, self._next_relist()

    def _next_relist(self) -> float:
        return self._clock() + self._settings.relist_seconds * (0.9 + 0.2 * self._chance())

    async def work(self) -> None:
        """One worker: a pass for each key that is due, once every gate is open."""
        await self.gates.all_open()
        while True:
            try:
                key = await self.queue.get()
            except ClosedError:
                return
            started = time.monotonic()
            outcome = "error"
            try:
                requeue_after = await self.reconciler.reconcile(key)
                self.queue.forget(key)
                if requeue_after is not None:
                    self.queue.add_after(key, requeue_after)
                outcome = "ok"
            except GoServiceError as error:
                at_least = getattr(error, "retry_after", None) or 0.0
                delay = self.queue.retry(key, at_least=at_least)
                log.warning("%s/%s: %s; next try in %.1f s", *key, error, delay)
            except Exception:
                delay = self.queue.retry(key)
                log.exception("%s/%s: a defect of the operator; next try in %.1f s", *key, delay)
            finally:
                self.queue.done(key)
                self._metrics.passed(outcome, time.monotonic() - started)

    # --- health -------------------------------------------------------------------------------------

    def healthy(self) -> str:
        """Why the process should be restarted; empty if it is well."""
        if self.queue.oldest_busy() > STUCK_SECONDS:
            return f"a pass has been running for {self.queue.oldest_busy():.0f} s"
        return self.watches.fault(self._settings.watch_silence_seconds)

    def ready(self) -> str:
        """Why the operator does no work yet; empty if it does."""
        return self.gates.why_closed()

    def _unsynced(self) -> str:
        missing = self.watches.missing()
        if missing:
            return f"there is no watch yet of {', '.join(missing)}"
        return "the caches are not filled yet"
