"""Probes and metrics over HTTP."""

import asyncio
from functools import partial

import aiohttp
import pytest

from goservice import web
from goservice.metrics import Metrics


async def ask(port: int, path: str) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_probes_say_why(caplog: pytest.LogCaptureFixture) -> None:
    faults = {"health": "", "ready": "caches are not filled"}
    counters = Metrics()
    site = await web.serve(
        0,
        health=lambda: faults["health"],
        ready=lambda: faults["ready"],
        metrics=counters.text,
        host="127.0.0.1",
        lag=counters.loop_lag_seconds.set,
    )
    try:
        assert await ask(site.port, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
        assert (await ask(site.port, "/readyz"))[::2] == (503, "caches are not filled\n")
        assert caplog.messages == []
        faults.update(health="a pass hangs", ready="")
        assert (await ask(site.port, "/healthz"))[::2] == (503, "a pass hangs\n")
        assert caplog.messages == ["the liveness probe is told: a pass hangs"]
        assert (await ask(site.port, "/readyz"))[0] == 200
        status, content_type, text = await ask(site.port, "/metrics")
        assert status == 200
        assert content_type.startswith("text/plain; version=")
        assert "goservice_operator_loop_lag_seconds" in text
        assert (await ask(site.port, "/other"))[0] == 404
    finally:
        await site.close()
        await site.close()


async def test_a_port_that_is_taken_is_said() -> None:
    serve = partial(web.serve, health=str, ready=str, metrics=bytes, host="127.0.0.1")
    site = await serve(0)
    try:
        with pytest.raises(OSError, match="in use"):
            await serve(site.port)
    finally:
        await site.close()


async def test_a_loop_that_was_late_is_unwell() -> None:
    now = 0.0
    naps = iter([0.5, 12.5])
    reports: list[float] = []

    async def sleep(_: float) -> None:
        nonlocal now
        nap = next(naps, None)
        if nap is None:
            raise asyncio.CancelledError
        now += nap

    lag = web.LoopLag(reports.append, clock=lambda: now, sleep=sleep)
    assert lag.check() == ""
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    assert reports == [0.0, 12.0]
    assert lag.check() == "the event loop was 12 s late; at most 10 s are well"
