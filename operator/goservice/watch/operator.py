"""The operator's parts of one process: cache, queue, sources, watches and workers.

Watch events are stored and wake the service that they belong to; workers make passes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from goservice import metrics
from goservice.api import resource
from goservice.cluster.kinds import kinds_of, watched
from goservice.cluster.protocol import Cluster
from goservice.errors import ClusterError, GoServiceError
from goservice.loop.cache import Cache, service_of
from goservice.loop.gates import Gates, StartGate
from goservice.loop.queue import ClosedError, Queue
from goservice.loop.reconcile import Reconciler
from goservice.manifest import Key
from goservice.objects.children import CHILDREN, Child, optional_kinds, watch_selector
from goservice.settings import Settings
from goservice.sources.polling import Sources
from goservice.watch.liveness import Watches

log = logging.getLogger(__name__)

LOOK_FOR_APIS_SECONDS = 60.0
"""Seconds between two looks whether the cluster serves the optional kinds."""
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
        children: Sequence[Child] = CHILDREN,
    ) -> None:
        self._children = children
        self._optional = optional_kinds(children)
        self._clock = monotonic
        self._chance = chance
        self._settings = settings
        self._cluster = cluster
        self._metrics = counters
        self.cache = Cache(counters)
        self.queue: Queue[Key] = Queue(clock=monotonic, chance=chance, metrics=counters)
        self.watches = Watches(
            [kind for kind in watched(children) if kind not in self._optional],
            settings.namespaces,
            clock=monotonic,
            known=kinds_of(children),
        )
        self.sources = sources or Sources(
            allow_http=settings.git.allow_http,
            allowed_hosts=settings.git.allowed_hosts,
            allowed_networks=[str(network) for network in settings.git.allowed_networks],
            longest_seconds=settings.git.timeout_seconds,
            metrics=counters,
        )
        self.reconciler = Reconciler(
            cluster,
            self.cache,
            self.sources,
            settings,
            clock=now,
            wake=self.queue.add,
            sends=self.queue.sends,
            metrics=counters,
            children=children,
        )
        self.reconciler.leave_alone(frozenset(self._optional))
        self._looked = asyncio.Event()
        if not self._optional:
            self._looked.set()
        self.synced = StartGate("synced", self._unsynced)
        self.gates = Gates((self.synced, *gates))
        for kind in self.watches.kinds:
            self._show_silence(kind)

    def _show_silence(self, kind: str) -> None:
        silence = self._metrics.watch_silence_seconds.labels(kind)
        silence.set_function(partial(self.watches.silence, kind))

    # --- events -------------------------------------------------------------------------------------

    def saw(self, kind: str, event: str | None, manifest: dict[str, Any]) -> None:
        """Store one watch event and wake the service that it belongs to."""
        if kind not in self.watches.kinds:
            return  # the last words of a watch that is being ended
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
        parts = [self.keep_listed(), self.sources.run(self.queue.add)]
        if self._optional:
            parts.append(self.keep_looking())
        parts += [self.work() for _ in range(self._settings.client.workers)]
        return [asyncio.create_task(part) for part in parts]

    async def relist(self, kinds: Iterable[str]) -> None:
        """List these kinds, page by page: a watch does not report deletions that it missed."""
        for kind in kinds:
            selector = "" if kind == resource.KIND else watch_selector(kind, self._children)
            for namespace in self._settings.namespaces or (None,):
                listing = self.cache.listing(kind, namespace)
                async for page in self._cluster.pages(kind, namespace, label_selector=selector):
                    self._wake_all(kind, listing.add(page))
                self._wake_all(kind, listing.end())

    async def keep_listed(self) -> None:
        """The first list, after which the workers begin, and one every `relistSeconds`.

        A kind that kopf lists again is listed at once, since kopf does not report what was deleted
        meanwhile; the first list waits for the watches for the same reason. An optional kind is
        listed once its watch is open, and only then used.
        """
        await self._looked.wait()
        await self.watches.all_open()
        self.watches.take_relisted()
        kinds: Iterable[str] = self.watches.kinds
        due = self._next_relist()
        while True:
            kinds = [kind for kind in kinds if kind in self.watches.kinds]
            try:
                await self.relist(kinds)
            except ClusterError as error:
                log.warning("the cluster cannot be listed, trying again: %s", error)
                await asyncio.sleep(2)
                continue
            self._leave_alone(self.reconciler.absent - self.watches.added.intersection(kinds))
            if not self.synced.is_open:
                log.info("caches are filled: %d services", len(self.cache.keys(resource.KIND)))
                self.synced.open()
            kinds = await self.watches.next_relisted(due - self._clock())
            if not kinds:
                kinds, due = self.watches.kinds, self._next_relist()

    def _next_relist(self) -> float:
        return self._clock() + self._settings.relist_seconds * (0.9 + 0.2 * self._chance())

    # --- optional kinds -----------------------------------------------------------------------------

    async def keep_looking(self) -> None:
        """Look now and then which optional kinds the cluster serves, and at once when one has gone."""
        while True:
            try:
                served = [kind for kind in self._optional if await self._cluster.serves(kind)]
            except ClusterError as error:
                log.warning("the cluster does not say what it serves, trying again: %s", error)
                await asyncio.sleep(2)
                continue
            self._watch_optional(served)
            self._looked.set()
            await self.watches.next_doubt(LOOK_FOR_APIS_SECONDS)

    def _watch_optional(self, served: Sequence[str]) -> None:
        """Watch the optional kinds that are served, and no others."""
        for kind in self._optional:
            if kind in served and kind not in self.watches.kinds:
                log.info("the cluster serves %s: it is watched from now on", kind)
                self.watches.add(kind)
                self._show_silence(kind)
            elif kind not in served and kind in self.watches.kinds:
                log.info("the cluster serves %s no more: it is left alone", kind)
                self.watches.remove(kind)
                self._metrics.watch_silence_seconds.remove(kind)
                self.cache.listing(kind).end()
                self._leave_alone(self.reconciler.absent | {kind})

    def _leave_alone(self, absent: frozenset[str]) -> None:
        """Tell the passes, and have one made of each service if that is news."""
        if self.reconciler.leave_alone(absent):
            self._wake_all(resource.KIND, self.cache.keys(resource.KIND))

    # --- workers ------------------------------------------------------------------------------------

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
