"""The HTTP endpoints of the process: /healthz, /readyz and /metrics.

It runs on the same event loop as everything else, so a loop that hangs fails its probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from goservice.metrics import CONTENT_TYPE

log = logging.getLogger(__name__)

Check = Callable[[], str]
"""Returns what is wrong; an empty text if nothing is."""

LAG_INTERVAL = 0.5
"""Seconds that the task sleeps which measures the event loop's lag."""

LONGEST_LAG = 10.0
"""Seconds of lag above which /healthz fails."""


class LoopLag:
    """How many seconds late the event loop comes back to a task that only sleeps."""

    def __init__(
        self,
        report: Callable[[float], object] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.last = 0.0
        self._report = report
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before = self._clock()
            await self._sleep(LAG_INTERVAL)
            self.last = max(0.0, self._clock() - before - LAG_INTERVAL)
            if self._report is not None:
                self._report(self.last)

    def check(self) -> str:
        """What is wrong with the loop."""
        if self.last > LONGEST_LAG:
            return (
                f"the event loop was {self.last:.0f} s late; at most {LONGEST_LAG:.0f} s are well"
            )
        return ""


def application(health: Check, ready: Check, metrics: Callable[[], bytes]) -> web.Application:
    """The three addresses: /healthz, /readyz and /metrics."""

    async def healthz(_: web.Request) -> web.Response:
        fault = health()
        if fault:
            log.warning("the liveness probe is told: %s", fault)
        return _verdict(fault)

    async def readyz(_: web.Request) -> web.Response:
        return _verdict(ready())

    async def metricz(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metricz)
    return app


class Site:
    """A running server; `close` ends it."""

    def __init__(self, runner: web.AppRunner, port: int, lag: asyncio.Task[None]) -> None:
        self.port = port
        """The port that it listens on, also when 0 was asked for."""
        self._runner = runner
        self._lag = lag

    async def close(self) -> None:
        """Stop listening; calling it again is no fault."""
        self._lag.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._lag
        await self._runner.cleanup()


async def serve(
    port: int,
    health: Check,
    ready: Check,
    metrics: Callable[[], bytes],
    *,
    host: str | None = None,
    lag: Callable[[float], object] | None = None,
) -> Site:
    """Listen, and measure the event loop's lag; `lag` is called with its seconds.

    Raises:
        OSError: the port is taken.
    """
    monitor = LoopLag(lag)
    app = application(lambda: health() or monitor.check(), ready, metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return Site(runner, runner.addresses[0][1], asyncio.create_task(monitor.run()))


def _verdict(fault: str) -> web.Response:
    return web.Response(status=503 if fault else 200, text=f"{fault or 'ok'}\n")
