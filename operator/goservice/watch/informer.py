"""kopf as a plain informer: what it watches, with everything else of it switched off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import kopf
from kopf._cogs.structs.references import Insights  # the type of a public argument
from typing_extensions import override

from goservice.api import resource
from goservice.cluster.client import LARGE_PAGE_SIZE
from goservice.cluster.kinds import kinds_of
from goservice.errors import GoServiceError
from goservice.manifest import Kind
from goservice.objects.children import CHILDREN, READ, Child, optional_kinds, watch_selector
from goservice.settings import Settings
from goservice.watch.liveness import QUIET_SHARE, Watches
from goservice.watch.login import Login, login

Saw = Callable[[str, str | None, dict[str, Any]], None]
"""Called with each watch event: kind, type (None: an item of a list) and object."""


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
    """Delays between a watch's tries, without end: kopf's own list ends the operator after 54 s."""

    def __iter__(self) -> Iterator[float]:
        """Half a second, doubling to 10 seconds, with jitter: an outage's end is noticed within 15."""
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.5)  # noqa: S311
            delay = min(delay * 2, 10.0)


def registry(
    kinds: Iterable[Kind], saw: Saw, login: Login, ending: Callable[[], object]
) -> kopf.OperatorRegistry:
    """kopf's handlers: one for each watched kind, the login, and `ending`, called when kopf ends."""
    result = kopf.OperatorRegistry()
    for kind in kinds:
        _on_event(result, saw, kind)
    kopf.on.login(registry=result, id="login")(login)

    async def cleanup(**_: Any) -> None:
        ending()

    kopf.on.cleanup(registry=result, id="ending")(cleanup)
    return result


def _on_event(result: kopf.OperatorRegistry, saw: Saw, kind: Kind) -> None:
    async def handler(event: Any, **_: Any) -> None:
        manifest = dict(event["object"])
        manifest.setdefault("kind", kind.kind)
        saw(kind.kind, event["type"], manifest)

    group, _, version = kind.api_version.rpartition("/")
    kopf.on.event(group, version, kind.plural, registry=result, id=f"saw-{kind.plural}")(handler)


def kopf_settings(
    quiet_seconds: float, children: Sequence[Child] = CHILDREN
) -> kopf.OperatorSettings:
    """kopf posts, patches and remembers nothing, and reopens a watch that is silent so long."""
    result = kopf.OperatorSettings()
    result.scanning.disabled = True
    result.peering.standalone = True
    result.posting.enabled = False
    result.persistence.diffbase_storage = NoDiffBase()
    result.persistence.progress_storage = NoProgress()
    result.persistence.finalizer = f"{resource.GROUP}/finalizer"
    result.persistence.consistency_timeout = 0
    result.queueing.worker_limit = None
    # Seconds that kopf's worker of an object, and so the object, stays in memory after its last event.
    result.queueing.idle_timeout = 0.02
    # Others may fill an object with a MiB, and kopf reads the kinds side by side.
    result.watching.chunk_size = LARGE_PAGE_SIZE
    result.watching.inactivity_timeout = quiet_seconds
    result.watching.reconnect_backoff = 0.5
    result.watching.connect_timeout = 10
    result.networking.request_timeout = 60
    result.networking.connect_timeout = 10
    result.networking.error_backoffs = Backoffs()
    result.execution.max_workers = 4
    for child in children:
        kind = child.kind
        group, _, version = kind.api_version.rpartition("/")
        selector = watch_selector(kind.kind, children)
        result.watching.label_selectors[group, version, kind.plural] = selector
    return result


LINGER_SECONDS = 2.0
"""Seconds between two attempts to cancel the tasks that kopf leaves behind."""


async def run(
    saw: Saw,
    watches: Watches,
    settings: Settings,
    stop: asyncio.Event,
    children: Sequence[Child] = CHILDREN,
) -> None:
    """kopf until it is told to stop, watching the kinds of `watches` as they come and go.

    Raises:
        GoServiceError: when a watch cannot go on.
    """
    ending = asyncio.Event()
    ours = asyncio.all_tasks()
    known = kinds_of(children)
    optional = {name: known[name] for name in optional_kinds(children)}
    required = [known[name] for name in watches.kinds if name not in optional]
    handlers = registry(required, saw, login(watches), ending.set)
    insights = Insights()
    reaper = asyncio.create_task(_reap(ending, ours))
    follower = asyncio.create_task(_follow(watches, optional, handlers, saw, insights))
    follower.add_done_callback(lambda _: stop.set())
    ours |= {reaper, follower}
    try:
        await kopf.operator(
            registry=handlers,
            settings=kopf_settings(settings.watch_silence_seconds * QUIET_SHARE, children),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            stop_flag=stop,
            insights=insights,
        )
        if follower.done():
            follower.result()
    except Exception as error:
        raise GoServiceError(
            f"a watch of the API server ended: {error}; the operator ends, to be started again"
        ) from error
    finally:
        reaper.cancel()
        follower.cancel()


async def _follow(
    watches: Watches,
    optional: Mapping[str, Kind],
    handlers: kopf.OperatorRegistry,
    saw: Saw,
    insights: Insights,
) -> None:
    """Begin and end kopf's watches of the kinds that come and go; the others are left alone.

    kopf does the same when it sees a CRD come or go. It is not let look itself: it would watch CRDs,
    which takes a right on all of them, and it ends the operator when a watched kind is gone.
    """
    await insights.ready_resources.wait()
    handled: set[str] = set()
    while True:
        watches.renewed.clear()
        for name in watches.added - handled:
            _on_event(handlers, saw, optional[name])
        handled |= watches.added
        resources = {name: _resource(kind) for name, kind in optional.items()}
        async with insights.revised:
            insights.watched_resources.difference_update(resources.values())
            insights.watched_resources.update(resources[name] for name in watches.added)
            insights.revised.notify_all()
        await watches.renewed.wait()


def _resource(kind: Kind) -> kopf.Resource:
    """A kind as kopf knows what it has found at the API server."""
    group, _, version = kind.api_version.rpartition("/")
    return kopf.Resource(group, version, kind.plural, kind=kind.kind, namespaced=True, verbs=READ)


async def _reap(ending: asyncio.Event, ours: set[asyncio.Task[Any]]) -> None:
    """Once kopf ends, cancel the tasks that it leaves behind, again and again until they are gone.

    In kopf 1.45.2 (clients/api.py, stream) a watch whose task and stop flag are cancelled together
    takes the cancellation for a lost connection and reconnects: kopf would wait for it for ever.
    """
    await ending.wait()
    while True:
        await asyncio.sleep(LINGER_SECONDS)
        for task in asyncio.all_tasks() - ours:
            task.cancel()
