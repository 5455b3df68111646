"""The operator process: kopf watches, the queue wakes, workers make passes.

The only package that imports kopf, which serves as an informer and writes nothing: its handlers
store what they are given and wake the service that it belongs to. Everything that does work is ours,
is made before kopf starts and is drained when it ends. The process ends when any part of it does:
a restart costs lists and no write.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import kopf
from pythonjsonlogger.json import JsonFormatter

from goservice import __version__, metrics, spec, web
from goservice.cache import Cache, service_of
from goservice.cluster import ACCESS, Cluster, connect
from goservice.errors import ClusterError, GoServiceError, TooManyRequests, Unavailable
from goservice.queue import ClosedError, Queue
from goservice.reconcile import Key, Reconciler
from goservice.settings import Settings
from goservice.sources import Sources
from goservice.watch.informer import kopf_settings, registry, selector_of
from goservice.watch.liveness import QUIET_SHARE, Watches
from goservice.watch.login import login

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
LINGER_SECONDS = 2.0
STUCK_SECONDS = 120.0
"""How long a pass may run. Its requests have 30 s each."""
WATCHED = (
    "GoService",
    "ConfigMap",
    "Job",
    "Pod",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)


class Operator:
    """Cache, queue, sources and workers of one process."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        counters: metrics.Metrics,
        *,
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
        self._synced = asyncio.Event()
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
        if key[1]:
            self.queue.add(key)
        if kind == "Job":
            for waiting in self.reconciler.next_waiting():
                self.queue.add(waiting)

    # --- work ---------------------------------------------------------------------------------------

    def start(self) -> list[asyncio.Task[None]]:
        """Everything that runs until it is cancelled: re-lists, questions to git, workers."""
        return [
            asyncio.create_task(self.keep_listed()),
            asyncio.create_task(self.sources.run(self.queue.add)),
            *(asyncio.create_task(self.work()) for _ in range(self._settings.client.workers)),
        ]

    async def relist(self, kinds: Iterable[str] = WATCHED) -> None:
        """Look at everything, page by page: a watch tells of no deletion that it missed."""
        for kind in kinds:
            selector = "" if kind == spec.KIND else selector_of(kind)
            for namespace in self._settings.namespaces or (None,):
                listing = self.cache.listing(kind, namespace)
                async for page in self._cluster.pages(kind, namespace, label_selector=selector):
                    self._wake_all(kind, listing.add(page))
                self._wake_all(kind, listing.end())

    async def keep_listed(self) -> None:
        """The first look, which opens the gate for the workers, and one every hour.

        A kind whose watch began anew is looked at at once, since the watch will not tell what was
        deleted meanwhile; the first look follows the watches for the same reason.
        """
        await self.watches.all_open()
        self.watches.take_anew()
        kinds: Iterable[str] = WATCHED
        due = self._next_look()
        while True:
            try:
                await self.relist(kinds)
            except ClusterError as error:
                log.warning("the cluster cannot be listed, trying again: %s", error)
                await asyncio.sleep(2)
                continue
            if not self._synced.is_set():
                log.info("caches are filled: %d services", len(self.cache.keys(spec.KIND)))
                self._synced.set()
            kinds = await self.watches.next_anew(due - self._clock())
            if not kinds:
                kinds, due = WATCHED, self._next_look()

    def _next_look(self) -> float:
        return self._clock() + self._settings.relist_seconds * (0.9 + 0.2 * self._chance())

    async def work(self) -> None:
        """One worker: a pass for each key that is due."""
        await self._synced.wait()
        while True:
            try:
                key = await self.queue.get()
            except ClosedError:
                return
            started = time.monotonic()
            outcome = "error"
            try:
                again = await self.reconciler.reconcile(key)
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
                outcome = "ok"
            except GoServiceError as error:
                patience = getattr(error, "retry_after", None) or 0.0
                delay = self.queue.retry(key, at_least=patience)
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
        if missing := self.watches.missing():
            return f"there is no watch yet of {', '.join(missing)}"
        return "" if self._synced.is_set() else "the caches are not filled yet"


def configure_logging(settings: Settings) -> None:
    """Our log lines, as text or one JSON object each; kopf's chatter only from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log.format == "json":
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.log.level.upper(), force=True)
    for chatty in ("kopf", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _collect_seldom() -> None:
    """Look for garbage less often than after 700 containers: one watch event has hundreds.

    They are freed without it. What is imported by now is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


async def run(settings: Settings, kubeconfig: str | None = None) -> None:
    """The operator until it is told to stop.

    Raises:
        ClusterError: when the cluster lacks the CRD or refuses a right that is needed.
    """
    configure_logging(settings)
    _collect_seldom()
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf's login reads it there
    counters = metrics.Metrics()
    async with connect(
        kubeconfig=kubeconfig,
        version=__version__,
        metrics=counters,
        qps=settings.client.qps,
        burst=settings.client.burst,
    ) as cluster:
        await _check(cluster, settings)
        operator = Operator(settings, cluster, counters)
        site = await web.serve(
            port=settings.port,
            health=operator.healthy,
            ready=operator.ready,
            metrics=counters.text,
            lag=counters.loop_lag_seconds.set,
        )
        stop = asyncio.Event()
        tasks = operator.start()
        for task in tasks:
            # None of them ends by itself: without it the process would only look well.
            task.add_done_callback(lambda _: stop.set())
        log.info(
            "goservice-operator watches %s", ", ".join(settings.namespaces) or "all namespaces"
        )
        try:
            await _watch(operator, settings, stop)
        finally:
            operator.queue.shutdown()
            await operator.queue.drain(DRAIN_SECONDS)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await site.close()
        for error in ended:
            if isinstance(error, Exception):
                raise GoServiceError("a part of the operator ended; see the log") from error


async def _watch(operator: Operator, settings: Settings, stop: asyncio.Event) -> None:
    """kopf until it is told to stop, or until a watch cannot go on."""
    ending = asyncio.Event()
    ours = asyncio.all_tasks()
    nudge = asyncio.create_task(_nudge(ending, ours))
    ours.add(nudge)
    try:
        await kopf.operator(
            registry=registry(WATCHED, operator.saw, login(operator.watches), ending.set),
            settings=kopf_settings(WATCHED, settings.watch_silence_seconds * QUIET_SHARE),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            stop_flag=stop,
        )
    except Exception as error:
        raise GoServiceError(
            f"a watch of the API server ended: {error}; the operator ends, to be started again"
        ) from error
    finally:
        nudge.cancel()


async def _nudge(ending: asyncio.Event, ours: set[asyncio.Task[Any]]) -> None:
    """Cancel what kopf leaves behind once it ends, until it is gone.

    A stream that is cancelled together with its stopper takes the one for the other, begins anew
    (kopf 1.45.2, clients/api.py, stream) and never ends, and kopf would wait for it for ever.
    """
    await ending.wait()
    while True:
        await asyncio.sleep(LINGER_SECONDS)
        for task in asyncio.all_tasks() - ours:
            task.cancel()


async def _crd_is_there(cluster: Cluster, namespace: str | None) -> None:
    """Ask for the kind, without fetching what may be thousands, once the API server can tell."""
    while True:
        try:
            await cluster.list(spec.KIND, namespace, field_selector="metadata.name=none")
        except (TooManyRequests, Unavailable) as error:
            # So it answers for some seconds after a CRD is made, and while it starts.
            log.warning("the API server is not ready, trying again: %s", error)
            await asyncio.sleep(2)
        else:
            return


async def _check(cluster: Cluster, settings: Settings) -> None:
    """Fail at once, in words, where a right or the CRD is missing."""
    namespace = settings.namespaces[0] if settings.namespaces else None
    await _crd_is_there(cluster, namespace)
    for resource, verbs in sorted(ACCESS.items()):
        for verb in sorted(verbs & {"list", "watch"}):
            if not await cluster.can_i(verb, resource, namespace=namespace):
                raise GoServiceError(
                    f"the operator may not {verb} {resource}; apply manifests/ again (rbac.yaml)"
                )
