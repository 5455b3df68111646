"""A proxy on loopback in front of the API server, which can break whatever passes through it.

Plain HTTP on the operator's side, TLS on the server's. A frozen exchange stays open and swallows
everything; it never comes back, since something is missing in it, but new ones are well after
`thaw`. A judge may strike each request with a fault of `testbed.faults`. Everything happens on one
event loop, in a thread of its own; so do the calls of the judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from testbed.faults import CODES, Fault

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"}
)
"""Headers that concern one connection, and so are not passed on."""

IN_STREAM = {Fault.STREAM_GONE: Fault.GONE, Fault.STREAM_INTERNAL: Fault.INTERNAL}
"""Errors that come as an event within a watch."""
RETRY_AFTER = "1"
"""Seconds, as the header of a 429 has them."""
FIRST_WORD_SECONDS = 1.0
"""For how long a watch that is to be cut may have nothing to send."""

Judge = Callable[[str, str, Mapping[str, str], bytes], Fault | None]
"""What is to happen to a request: method, path and query, headers, body."""


@dataclass(eq=False)
class Exchange:
    """One request, and its answer as far as it has come."""

    request: str
    """Method, path and query."""
    frozen: bool = False
    """Whether nothing is passed on any more, while both connections stay open."""
    response: web.StreamResponse | None = None
    """What has been begun for the operator; None before the first byte."""


class Proxy:
    """Listens on a port of its own until `close`; `kill` ends the operator's process."""

    def __init__(
        self,
        port: int,
        judge: Judge = lambda *_: None,
        kill: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = f"https://127.0.0.1:{port}"
        self._judge = judge
        self._kill = kill
        self._freezing: tuple[str, ...] = ()
        self._exchanges: list[Exchange] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = self._run(self._open())

    # --- what a test does ---------------------------------------------------------------------------

    def freeze(self, *words: str) -> None:
        """Swallow whatever belongs to a request whose line has all of these words."""
        self._freezing = words

    def silence(self, *words: str) -> None:
        """Freeze the exchanges of such a request that are open now, and no later ones."""
        for exchange in self.carrying(*words):
            exchange.frozen = True

    def thaw(self) -> None:
        """Freeze no more requests."""
        self._freezing = ()

    def carrying(self, *words: str) -> list[Exchange]:
        """The open exchanges whose request has all of these words."""
        return [e for e in list(self._exchanges) if all(word in e.request for word in words)]

    def inject(self, line: bytes, *words: str) -> None:
        """Send a line of its own on the streams of these requests."""
        for exchange in self.carrying(*words):
            if exchange.response is not None:
                self._run(exchange.response.write(line))

    def close(self) -> None:
        """End every exchange and stop listening."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- on the loop --------------------------------------------------------------------------------

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> str:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=False),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=16 * 1024**2)
        app.router.add_route("*", "/{anything:.*}", self._answer)
        # A handler ends with its client: a frozen one would stay for ever.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(f"{request.method} {request.raw_path}")
        self._exchanges.append(exchange)
        try:
            return await self._forward(request, exchange)
        except aiohttp.ClientConnectionResetError:
            # The operator is gone, or was killed: nobody waits for the answer.
            return web.Response()
        finally:
            self._exchanges.remove(exchange)

    async def _forward(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        body = await request.read()
        if self._swallows(exchange):
            await asyncio.Event().wait()
        fault = self._judge(request.method, request.raw_path, request.headers, body)
        if fault in CODES:
            return _refused(fault)
        if fault is Fault.KILLED_BEFORE:
            self._kill()
        if fault in (Fault.KILLED_BEFORE, Fault.RESET):
            await _hang_up(request)
        async with self._session.request(
            request.method,
            URL(self._target + request.raw_path, encoded=True),
            headers=_passed_on(request.headers),
            data=body or None,
        ) as answer:
            if self._swallows(exchange):
                await asyncio.Event().wait()
            if fault in (Fault.KILLED_AFTER, Fault.LOST):
                await answer.read()
                if fault is Fault.KILLED_AFTER:
                    self._kill()
                await _hang_up(request)
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            exchange.response = response
            if fault in IN_STREAM:
                status = json.dumps({"type": "ERROR", "object": _status(IN_STREAM[fault])})
                await response.write(status.encode() + b"\n")
                await response.write_eof()
                return response
            if fault is Fault.CUT:
                await response.write(await _half_an_event(answer))
                await _hang_up(request)
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for data in answer.content.iter_any():
                    if not self._swallows(exchange):
                        await response.write(data)
            if self._swallows(exchange):
                await asyncio.Event().wait()
            await response.write_eof()
            return response

    def _swallows(self, exchange: Exchange) -> bool:
        words = self._freezing
        if words and all(word in exchange.request for word in words):
            exchange.frozen = True
        return exchange.frozen


async def _hang_up(request: web.Request) -> None:
    """Close the connection without another word; the handler is cancelled with it."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.Event().wait()


async def _half_an_event(answer: aiohttp.ClientResponse) -> bytes:
    """The first half of what comes next on a watch, or of an event that never came."""
    try:
        async with asyncio.timeout(FIRST_WORD_SECONDS):
            event = await answer.content.readline()
    except TimeoutError:
        event = b'{"type": "MODIFIED", "object": {}}\n'
    return event[: len(event) // 2]


def _status(fault: Fault) -> dict[str, Any]:
    code, reason = CODES[fault]
    message = f"a fault of the test: {fault}"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _refused(fault: Fault) -> web.Response:
    """The API server's refusal, as it would write it."""
    headers = {"Retry-After": RETRY_AFTER} if fault is Fault.TOO_MANY else {}
    return web.json_response(_status(fault), status=CODES[fault][0], headers=headers)


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
