"""A proxy on loopback in front of the API server, which can make a watch fall silent.

Plain HTTP on the operator's side, TLS on the server's. A frozen exchange stays open and swallows
everything; it never comes back, since something is missing in it, but new ones are well after
`thaw`. Everything happens on one event loop, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"}
)


@dataclass(eq=False)
class Exchange:
    """One request, and its answer as far as it has come."""

    request: str
    """Method, path and query."""
    frozen: bool = False
    response: web.StreamResponse | None = None


class Proxy:
    """Listens on a port of its own until `close`."""

    def __init__(self, port: int) -> None:
        self._target = f"https://127.0.0.1:{port}"
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
        finally:
            self._exchanges.remove(exchange)

    async def _forward(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        body = await request.read()
        if self._swallows(exchange):
            await asyncio.Event().wait()
        async with self._session.request(
            request.method,
            URL(self._target + request.raw_path, encoded=True),
            headers=_passed_on(request.headers),
            data=body or None,
        ) as answer:
            if self._swallows(exchange):
                await asyncio.Event().wait()
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            exchange.response = response
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


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
