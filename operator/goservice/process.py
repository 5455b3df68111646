"""The operator's process: what it is wired of, its log, its gates and its end.

The process ends when any part of it does: a restart costs lists and no write.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence

from pythonjsonlogger.json import JsonFormatter

from goservice import __version__, metrics, web
from goservice.api import resource
from goservice.cluster.client import connect
from goservice.cluster.kinds import access_to, kinds_of
from goservice.cluster.protocol import Cluster
from goservice.errors import GoServiceError, TooManyRequests, Unavailable
from goservice.objects.children import CHILDREN, Child
from goservice.settings import Settings
from goservice.watch import informer
from goservice.watch.operator import Operator

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
"""Seconds that passes under way have to end in after SIGTERM; the manifest's grace period is 60."""


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


def _tune_garbage_collector() -> None:
    """Run the collector of reference cycles after 10 000 new containers instead of 700.

    One watch event makes hundreds of them, and they are freed without it, by their reference counts.
    `freeze` keeps it from scanning what is imported by now.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


async def run(
    settings: Settings, kubeconfig: str | None = None, children: Sequence[Child] = CHILDREN
) -> None:
    """The operator, until a signal stops it. `children` is the table of what services have.

    Raises:
        ClusterError: when the cluster lacks the CRD or refuses a right that is needed.
    """
    configure_logging(settings)
    _tune_garbage_collector()
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf's login reads it there
    counters = metrics.Metrics()
    async with connect(
        kubeconfig=kubeconfig,
        version=__version__,
        metrics=counters,
        qps=settings.client.qps,
        burst=settings.client.burst,
        kinds=kinds_of(children),
    ) as cluster:
        await _check(cluster, settings, children)
        operator = Operator(settings, cluster, counters, children=children)
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
            # None of them ends by itself. If one does, stop: without it the process would do nothing
            # and still pass its probes.
            task.add_done_callback(lambda _: stop.set())
        log.info(
            "goservice-operator watches %s", ", ".join(settings.namespaces) or "all namespaces"
        )
        try:
            await informer.run(operator.saw, operator.watches, settings, stop, children)
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
    """Check that the API server knows the kind, by a list that matches nothing; wait until it is ready."""
    while True:
        try:
            await cluster.list(resource.KIND, namespace, field_selector="metadata.name=none")
        except (TooManyRequests, Unavailable) as error:
            # The API server answers so for some seconds after a CRD is created, and while it starts.
            log.warning("the API server is not ready, trying again: %s", error)
            await asyncio.sleep(2)
        else:
            return


async def _check(cluster: Cluster, settings: Settings, children: Sequence[Child]) -> None:
    """Raise at once where the CRD or a right to list or watch is missing."""
    namespace = settings.namespaces[0] if settings.namespaces else None
    await _crd_is_there(cluster, namespace)
    for right, verbs in sorted(access_to(children).items()):
        for verb in sorted(verbs & {"list", "watch"}):
            if not await cluster.can_i(verb, right, namespace=namespace):
                raise GoServiceError(
                    f"the operator may not {verb} {right}; apply manifests/ again (rbac.yaml)"
                )
