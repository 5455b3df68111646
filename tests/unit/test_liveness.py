"""Signs of life of the watches, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
import yaml
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from goservice import metrics, names
from goservice.cluster.kinds import watched
from goservice.data import data_dir
from goservice.watch.informer import Backoffs, kopf_settings
from goservice.watch.liveness import QUIET_SHARE, Watches
from goservice.watch.login import LoginBrake, login, session
from goservice.watch.operator import STUCK_SECONDS, Operator
from testbed.inmemory import world
from tests.support import factories as f
from tests.support import gadget

JOBS = "/apis/batch/v1/jobs"
PODS = "/api/v1/pods"
WATCHED = watched(gadget.REQUIRED)
LONGEST = f.SETTINGS.watch_silence_seconds


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def open_all(watches: Watches) -> None:
    for kind in WATCHED:
        [path] = watches.paths(kind)
        watches.listed(path)
        watches.opened(path)


def test_a_silent_watch_is_named_and_the_others_are_not() -> None:
    clock = Clock()
    watches = Watches(["Job", "Pod"], clock=clock)
    watches.opened(JOBS)
    watches.opened(PODS)
    clock.now += 100
    watches.heard(PODS)
    assert watches.fault(120) == ""
    clock.now += 21
    assert watches.fault(120) == (
        "nothing was heard for 121 s on the watches of Job; at most 120 s are well"
    )
    assert watches.silence("Pod") == 21
    watches.heard(JOBS)
    assert watches.fault(120) == ""


def test_a_watch_that_never_opens_is_silent_from_the_start() -> None:
    clock = Clock()
    watches = Watches(["Job", "Pod"], clock=clock)
    watches.opened(PODS)
    assert watches.missing() == ["Job"]
    clock.now += 119
    watches.heard(PODS)
    assert watches.fault(120) == ""
    clock.now += 2
    assert "watches of Job;" in watches.fault(120)


def test_one_namespace_that_is_silent_is_enough() -> None:
    clock = Clock()
    watches = Watches(["Job"], ["a", "b"], clock=clock)
    watches.opened("/apis/batch/v1/namespaces/a/jobs")
    assert watches.missing() == ["Job"]
    watches.opened("/apis/batch/v1/namespaces/b/jobs")
    assert watches.missing() == []
    clock.now += 121
    watches.heard("/apis/batch/v1/namespaces/a/jobs")
    assert watches.silence("Job") == 121


@pytest.mark.parametrize("sign", ["bookmarks", "reconnects"])
def test_hours_without_an_event_are_no_silence(sign: str) -> None:
    clock = Clock()
    watches = Watches(["Job"], clock=clock)
    watches.opened(JOBS)
    for _ in range(200):
        clock.now += 60 if sign == "bookmarks" else LONGEST * QUIET_SHARE + 10
        assert watches.fault(LONGEST) == ""
        (watches.heard if sign == "bookmarks" else watches.opened)(JOBS)


def test_kopf_reopens_a_watch_well_before_a_watch_counts_as_silent() -> None:
    quiet = kopf_settings(LONGEST * QUIET_SHARE).watching.inactivity_timeout
    assert quiet == 70
    assert quiet + 30 < LONGEST, "the longest pause between two of kopf's tries fits"


def test_the_liveness_probe_notices_a_silent_watch_and_a_stuck_pass_within_150_seconds() -> None:
    manifest = yaml.safe_load((data_dir("manifests") / "operator" / "deployment.yaml").read_text())
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    late = probe["periodSeconds"] + probe["timeoutSeconds"]
    for longest in (f.SETTINGS.watch_silence_seconds, STUCK_SECONDS):
        assert longest + late <= 150


def test_only_a_watch_after_a_list_counts_as_relisted() -> None:
    watches = Watches(["Job"])
    watches.listed(JOBS)
    watches.opened(JOBS)
    assert watches.take_relisted() == {"Job"}
    watches.opened(JOBS)
    assert watches.take_relisted() == set()
    watches.listed(JOBS)
    watches.opened(JOBS)
    assert watches.take_relisted() == {"Job"}


def test_logins_that_follow_each_other_wait() -> None:
    clock = Clock()
    brake = LoginBrake(clock)
    pauses = []
    for _ in range(7):
        pauses.append(brake.pause())
        clock.now += pauses[-1]
    assert pauses == [0, 1, 2, 4, 8, 16, 30]
    clock.now += 61
    assert brake.pause() == 0


# --- the operator ---------------------------------------------------------------------------------


def operator(clock: Clock) -> tuple[Operator, world.World, metrics.Metrics]:
    counters = metrics.Metrics()
    cluster = world.World()
    rows = gadget.REQUIRED
    subject = Operator(f.SETTINGS, cluster, counters, monotonic=clock, children=rows)
    return subject, cluster, counters


async def test_ready_needs_every_watch_and_our_own_list() -> None:
    clock = Clock()
    subject, _, _ = operator(clock)
    task = asyncio.create_task(subject.keep_listed())
    try:
        await asyncio.sleep(0)
        assert "no watch yet of GoService, PersistentVolumeClaim" in subject.ready()
        open_all(subject.watches)
        assert subject.ready() == "the caches are not filled yet"
        async with asyncio.timeout(5):
            await subject.synced.opened()
        assert subject.ready() == ""
    finally:
        task.cancel()


async def test_a_silent_watch_makes_the_operator_unwell_and_shows_as_a_metric() -> None:
    clock = Clock()
    subject, _, counters = operator(clock)
    open_all(subject.watches)
    clock.now += LONGEST + 1
    for kind in WATCHED:
        if kind != "Job":
            subject.watches.heard(*subject.watches.paths(kind))
    assert "watches of Job;" in subject.healthy()
    shown = {
        sample.labels["kind"]: sample.value
        for family in text_string_to_metric_families(counters.text().decode())
        for sample in family.samples
        if sample.name == "goservice_operator_watch_silence_seconds"
    }
    assert shown == {kind: LONGEST + 1 if kind == "Job" else 0 for kind in WATCHED}


async def test_a_pass_that_does_not_end_makes_the_operator_unwell_until_it_does() -> None:
    clock = Clock()
    subject, _, _ = operator(clock)
    subject.queue.add(("shop", "checkout"))
    assert subject.queue.take() == ("shop", "checkout")
    clock.now += STUCK_SECONDS
    for kind in WATCHED:
        subject.watches.heard(*subject.watches.paths(kind))
    assert subject.healthy() == ""
    clock.now += 1
    assert subject.healthy() == "a pass has been running for 121 s"
    subject.queue.done(("shop", "checkout"))
    assert subject.healthy() == ""


async def test_a_look_at_everything_holds_one_page_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, cluster, _ = operator(Clock())
    labels = {names.MANAGED_BY: names.OPERATOR, names.SERVICE: "checkout"}
    for name in ("a", "b", "c"):
        metadata = {"namespace": "shop", "name": name, "labels": labels}
        cluster.add({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    pages, kept = cluster.pages, []

    async def slowly(kind: str, namespace: str | None, **selector: str) -> AsyncIterator[Any]:
        async for page in pages(kind, namespace, **selector):
            kept.append(len(subject.cache.keys(kind)))
            yield page

    monkeypatch.setattr(cluster, "pages", slowly)
    await subject.relist(["ServiceAccount"])
    assert kept == [0, world.PAGE_SIZE]
    assert len(subject.cache.keys("ServiceAccount")) == 3


async def test_what_was_deleted_while_a_watch_was_away_is_noticed_when_it_begins_anew() -> None:
    subject, cluster, _ = operator(Clock())
    labels = {names.MANAGED_BY: names.OPERATOR, names.SERVICE: "checkout"}
    metadata = {"namespace": "shop", "name": "checkout", "labels": labels}
    cluster.add({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    open_all(subject.watches)
    task = asyncio.create_task(subject.keep_listed())
    try:
        async with asyncio.timeout(5):
            await subject.synced.opened()
            assert subject.cache.get("ServiceAccount", ("shop", "checkout")) is not None
            assert subject.queue.take() == ("shop", "checkout")
            subject.queue.done(("shop", "checkout"))
            await cluster.delete("ServiceAccount", "shop", "checkout", uid=None)
            before = cluster.requests["list", "Job"]
            subject.watches.listed("/api/v1/serviceaccounts")
            subject.watches.opened("/api/v1/serviceaccounts")
            assert await subject.queue.get() == ("shop", "checkout")
        assert subject.cache.get("ServiceAccount", ("shop", "checkout")) is None
        assert cluster.requests["list", "Job"] == before, "only the kind that began anew is listed"
    finally:
        task.cancel()


# --- the session ----------------------------------------------------------------------------------


@pytest.fixture
async def stream() -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """An API server under a prefix, which sends what the test puts into the queue."""
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer now":
            return web.Response(status=401)
        if "watch" not in request.query:
            return web.json_response({"items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await lines.get():
            await response.write(line)
        return response

    app = web.Application()
    app.router.add_get("/clusters/one/apis/batch/v1/jobs", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/clusters/one", lines
    await runner.cleanup()


async def test_the_operator_acts_as_its_kubeconfig_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    user = {"token": "t", "as": "ann", "as-groups": ["dev", "ops"]}
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    opened = await login(Watches(["Job"]), tmp_path)(settings=kopf.OperatorSettings())
    async with opened.aiohttp_session as made:
        assert made.headers.getall("Impersonate-Group") == ["dev", "ops"]
        assert made.headers["Impersonate-User"] == "ann"
        assert made.headers["Authorization"] == "Bearer t"


async def test_the_session_hears_lists_watches_and_every_line(
    stream: tuple[str, asyncio.Queue[bytes]], tmp_path: Path
) -> None:
    server, lines = stream
    clock = Clock()
    watches = Watches(["Job"], clock=clock)
    token = tmp_path / "token"
    token.write_text("before")
    where = kopf.ConnectionInfo(server=server)
    async with session(where, watches, token.read_text).aiohttp_session as client:
        async with client.get(f"{server}{JOBS}?watch=true") as refused:
            assert refused.status == 401
        assert watches.missing() == ["Job"], "a refusal is no sign of life"
        token.write_text("now")
        clock.now += 50
        async with client.get(f"{server}{JOBS}?limit=1") as listed:
            assert await listed.json() == {"items": []}
        assert watches.silence("Job") == 0
        assert watches.missing() == ["Job"], "a list is no watch"
        async with client.get(f"{server}{JOBS}?watch=true") as watch:
            assert watches.missing() == []
            chunks = watch.content.iter_chunked(1024)
            for line in (b"{}\n", b"{}\n"):
                clock.now += 40
                assert watches.silence("Job") == 40
                lines.put_nowait(line)
                assert await anext(chunks) == line
                assert watches.silence("Job") == 0
            lines.put_nowait(b"")
            assert [chunk async for chunk in chunks] == []


async def test_a_stream_whose_session_is_closed_is_a_connection_that_broke(
    stream: tuple[str, asyncio.Queue[bytes]],
) -> None:
    """kopf closes the session of all watches when one of them is refused: it bears only this."""
    server, lines = stream
    where = kopf.ConnectionInfo(server=server)
    client = session(where, Watches(["Job"]), lambda: "now").aiohttp_session
    async with client.get(f"{server}{JOBS}?watch=true") as watch:
        lines.put_nowait(b"{}\n")
        chunks = watch.content.iter_chunked(1024)
        assert await anext(chunks) == b"{}\n"
        await client.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await anext(chunks)
    lines.put_nowait(b"")


def test_a_lost_watch_is_asked_for_again_at_once_and_then_every_few_seconds_without_end() -> None:
    delays = list(itertools.islice(Backoffs(), 50))
    assert delays[0] <= 0.75
    assert max(delays) <= 15
    assert min(delays[10:]) >= 5, "an API server that is away is not asked all the time"


@pytest.mark.parametrize("said", ["401 Unauthorized", "200 OK"])
async def test_an_answer_that_breaks_off_is_a_connection_that_broke(said: str) -> None:
    """kopf closes a session at its first 401, while other answers are still on their way."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {said}\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(half, "127.0.0.1", 0) as listening:
        server = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        where = kopf.ConnectionInfo(server=server)
        async with session(where, Watches(["Job"]), lambda: "now").aiohttp_session as client:
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get(f"{server}{JOBS}?{'limit=1' if '200' in said else 'watch=true'}")
