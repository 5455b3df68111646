"""The operator's process: what it is wired of, its log, its gates and its end.

The process ends when any part of it does: a restart costs lists and no write.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys

from pythonjsonlogger.json import JsonFormatter

from goservice import __version__, metrics, web
from goservice.api import resource
from goservice.cluster.client import connect
from goservice.cluster.kinds import ACCESS, WATCHED
from goservice.cluster.protocol import Cluster
from goservice.errors import GoServiceError, TooManyRequests, Unavailable
from goservice.settings import Settings
from goservice.watch import informer
from goservice.watch.operator import Operator

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0


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
            await informer.run(WATCHED, operator.saw, operator.watches, settings, stop)
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


async def _crd_is_there(cluster: Cluster, namespace: str | None) -> None:
    """Ask for the kind, without fetching what may be thousands, once the API server can tell."""
    while True:
        try:
            await cluster.list(resource.KIND, namespace, field_selector="metadata.name=none")
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
    for right, verbs in sorted(ACCESS.items()):
        for verb in sorted(verbs & {"list", "watch"}):
            if not await cluster.can_i(verb, right, namespace=namespace):
                raise GoServiceError(
                    f"the operator may not {verb} {right}; apply manifests/ again (rbac.yaml)"
                )
