"""A git server on loopback that has a newest commit for repositories which are only names."""

from __future__ import annotations

from aiohttp import web

from testbed.apiserver import refs


class FakeGit:
    """Answers git's question for refs; `commits` are the answers, by repository."""

    def __init__(self) -> None:
        self.commits: dict[str, str] = {}

    async def open(self) -> None:
        """Listen, until `close`."""
        application = web.Application()
        application.router.add_get("/{name}.git/info/refs", self._refs)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    def url(self, name: str) -> str:
        """Where a repository is."""
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}/{name}.git"

    async def _refs(self, request: web.Request) -> web.Response:
        return refs.advertisement(self.commits[request.match_info["name"]])
