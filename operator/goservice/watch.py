"""The operator process: kopf watches, the queue wakes, workers make passes.

The only importer of kopf, which serves as an informer and writes nothing: its handlers store what
they are given and wake the service that it belongs to. Everything that does work is ours, is made
before kopf starts and is drained when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

from goservice import __version__, metrics, names, spec, web
from goservice.cache import Cache
from goservice.cluster import ACCESS, KINDS, Cluster, connect
from goservice.errors import ClusterError, GoServiceError
from goservice.queue import ClosedError, Queue
from goservice.reconcile import Key, Reconciler
from goservice.settings import Settings
from goservice.sources import Sources

log = logging.getLogger(__name__)

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
DRAIN_SECONDS = 20.0
STUCK_SECONDS = 150.0
WATCHED = (
    "GoService",
    "ConfigMap",
    "Job",
    "Pod",
    "ServiceAccount",
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)


def _selector(kind: str) -> str:
    """What is watched of a kind: our own objects, and of the pods only those that build."""
    ours = f"{names.MANAGED_BY}={names.OPERATOR}"
    return f"{ours},{names.COMPONENT}=build" if kind == "Pod" else ours


class NoDiffBase(kopf.DiffBaseStorage):
    """kopf keeps no copy of what it saw: nothing here asks for differences."""

    @override
    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Nothing."""
        return {}

    @override
    def fetch(self, *, body: Any) -> Any:
        """Nothing."""
        return None

    @override
    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing."""


class NoProgress(kopf.ProgressStorage):
    """kopf keeps no progress: its handlers only store and wake."""

    @override
    def fetch(self, *, key: Any, body: Any) -> Any:
        """Nothing."""
        return None

    @override
    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing."""

    @override
    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing."""

    @override
    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing."""

    @override
    def clear(self, *, essence: Any) -> Any:
        """Nothing is cleared."""
        return essence


class Backoffs:
    """Delays between a watch's tries, without end: the default ends the operator after 54 s."""

    def __iter__(self) -> Iterator[float]:
        """Half a second, doubling to 30, with jitter."""
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.5)  # noqa: S311
            delay = min(delay * 2, 30.0)


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
        self._settings = settings
        self._cluster = cluster
        self._metrics = counters
        self._chance = chance
        self.cache = Cache(counters)
        self.queue: Queue[Key] = Queue(clock=monotonic, chance=chance, metrics=counters)
        self.sources = sources or Sources(
            allow_http=settings.git.allow_http,
            allowed_networks=[str(network) for network in settings.git.allowed_networks],
            metrics=counters,
        )
        self.reconciler = Reconciler(cluster, self.cache, self.sources, settings, clock=now)
        self._synced = asyncio.Event()

    # --- events -------------------------------------------------------------------------------------

    def saw(self, kind: str, event: str | None, manifest: dict[str, Any]) -> None:
        """Store one watch event and wake the service that it belongs to."""
        self._metrics.watch_last_event_timestamp_seconds.labels(kind).set(time.time())
        if event == "DELETED":
            self.cache.drop(kind, manifest)
        else:
            self.cache.put(kind, manifest)
        self._wake(kind, manifest)

    def _wake(self, kind: str, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "")
        if kind == spec.KIND:
            self.queue.add((namespace, metadata["name"]))
            return
        owner = (metadata.get("labels") or {}).get(names.SERVICE)
        if owner:
            self.queue.add((namespace, owner))
        if kind == "Job":
            for key in self.reconciler.next_waiting():
                self.queue.add(key)

    # --- work ---------------------------------------------------------------------------------------

    def start(self) -> list[asyncio.Task[None]]:
        """Everything that runs until it is cancelled: re-lists, questions to git, workers."""
        return [
            asyncio.create_task(self.keep_listed()),
            asyncio.create_task(self.sources.run(self.queue.add)),
            *(asyncio.create_task(self.work()) for _ in range(self._settings.client.workers)),
        ]

    async def relist(self) -> None:
        """Look at everything, page by page: a watch tells of no deletion that it missed."""
        for kind in WATCHED:
            selector = "" if kind == spec.KIND else _selector(kind)
            for namespace in self._settings.namespaces or (None,):
                before = self.cache.mark()
                found = await self._cluster.list(kind, namespace, label_selector=selector)
                for manifest in self.cache.replace(kind, found, since=before, namespace=namespace):
                    self._wake(kind, manifest)

    async def keep_listed(self) -> None:
        """The first look, which opens the gate for the workers, and one every hour."""
        while True:
            try:
                await self.relist()
            except ClusterError as error:
                log.warning("the cluster cannot be listed, trying again: %s", error)
                await asyncio.sleep(2)
                continue
            if not self._synced.is_set():
                log.info("caches are filled: %d services", len(list(self.cache.all(spec.KIND))))
                self._synced.set()
            await asyncio.sleep(self._settings.relist_seconds * (0.9 + 0.2 * self._chance()))

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
        return ""

    def ready(self) -> str:
        """Why the operator does no work yet; empty if it does."""
        return "" if self._synced.is_set() else "the caches are not filled yet"


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """kopf's handlers: one for each watched kind, and the login."""
    result = kopf.OperatorRegistry()
    for name in WATCHED:
        kind = KINDS[name]
        group, _, version = kind.api_version.rpartition("/")
        _on_event(result, operator, name, group, version, kind.plural)
    kopf.on.login(registry=result)(_login)
    return result


def _on_event(
    result: kopf.OperatorRegistry,
    operator: Operator,
    kind: str,
    group: str,
    version: str,
    plural: str,
) -> None:
    async def handler(event: Any, **_: Any) -> None:
        manifest = dict(event["object"])
        manifest.setdefault("kind", kind)
        operator.saw(kind, event["type"], manifest)

    kopf.on.event(group, version, plural, registry=result, id=f"saw-{plural}")(handler)


def _token() -> str:
    """The service account's token as it is now; empty outside a pod."""
    return TOKEN.read_text().strip() if TOKEN.exists() else ""


async def _login(**arguments: Any) -> Any:
    """In a pod a session that reads its token anew for each request: tokens rotate."""
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    if not _token() or not host or "KUBECONFIG" in os.environ:
        return kopf.login_with_kubeconfig(**arguments)
    context = ssl.create_default_context(cafile=str(TOKEN.with_name("ca.crt")))

    async def authorise(request: aiohttp.ClientRequest, handler: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {_token()}"
        return await handler(request)

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context), middlewares=(authorise,)
    )
    # By address: a name would need the cluster's DNS to be well before the operator is.
    address = f"[{host}]" if ":" in host else host
    return kopf.AiohttpSession(aiohttp_session=session, server=f"https://{address}:{port}")


def kopf_settings() -> kopf.OperatorSettings:
    """kopf as a plain informer: it posts, patches and remembers nothing."""
    result = kopf.OperatorSettings()
    result.scanning.disabled = True
    result.peering.standalone = True
    result.posting.enabled = False
    result.persistence.diffbase_storage = NoDiffBase()
    result.persistence.progress_storage = NoProgress()
    result.persistence.finalizer = f"{spec.GROUP}/finalizer"
    result.persistence.consistency_timeout = 0
    result.queueing.worker_limit = None
    result.queueing.idle_timeout = 0.5
    result.watching.chunk_size = 500
    result.watching.inactivity_timeout = 70.0
    result.watching.reconnect_backoff = 0.5
    result.watching.connect_timeout = 10
    result.networking.request_timeout = 60
    result.networking.connect_timeout = 10
    result.networking.error_backoffs = Backoffs()
    result.execution.max_workers = 4
    for name in WATCHED[1:]:
        kind = KINDS[name]
        group, _, version = kind.api_version.rpartition("/")
        result.watching.label_selectors[group, version, kind.plural] = _selector(name)
    return result


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


async def run(settings: Settings, kubeconfig: str | None = None) -> None:
    """The operator until it is told to stop.

    Raises:
        ClusterError: when the cluster lacks the CRD or refuses a right that is needed.
    """
    configure_logging(settings)
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
        tasks = operator.start()
        log.info(
            "goservice-operator watches %s", ", ".join(settings.namespaces) or "all namespaces"
        )
        try:
            await kopf.operator(
                registry=registry(operator),
                settings=kopf_settings(),
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
            )
        finally:
            operator.queue.shutdown()
            await operator.queue.drain(DRAIN_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await site.close()


async def _check(cluster: Cluster, settings: Settings) -> None:
    """Fail at once, in words, where a right or the CRD is missing."""
    namespace = settings.namespaces[0] if settings.namespaces else None
    await cluster.list(spec.KIND, namespace)
    for resource, verbs in sorted(ACCESS.items()):
        for verb in sorted(verbs & {"list", "watch"}):
            if not await cluster.can_i(verb, resource, namespace=namespace):
                raise GoServiceError(
                    f"the operator may not {verb} {resource}; apply manifests/ again (rbac.yaml)"
                )
