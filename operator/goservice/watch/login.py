"""How kopf reaches the API server: a session of ours, which reports what comes on each watch."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import aiohttp
import kopf
from multidict import CIMultiDict
from yarl import URL

from goservice.cluster import impersonation
from goservice.errors import SettingsError
from goservice.watch.liveness import Watches

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a pod's token and the cluster's certificate."""

SOON = 60.0
"""Seconds. A login that follows another one within them has to wait."""

LONGEST_PAUSE = 30.0
"""Seconds between two logins at the most; the pause doubles from one second on."""

Login = Callable[..., Awaitable[kopf.AiohttpSession]]


class LoginBrake:
    """Pauses between logins that follow each other closely.

    kopf logs in again after each 401, and takes the new session for new credentials: without a pause
    it would send requests without end to a server that goes on refusing them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._pause = 0.0

    def pause(self) -> float:
        """How many seconds to wait before the login that is due now."""
        now = self._clock()
        soon = self._last is not None and now - self._last < SOON
        self._pause = min(max(1.0, self._pause * 2), LONGEST_PAUSE) if soon else 0.0
        self._last = now + self._pause
        return self._pause


class ReportingStream:
    """A response's stream that reports each chunk that kopf reads."""

    def __init__(self, stream: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The stream's chunks, each reported."""
        try:
            async for data in self._stream.iter_chunked(size):
                self._heard()
                yield data
        except RuntimeError as error:
            # What aiohttp raises in the streams of a session that kopf closes for a new login. kopf
            # retries after a connection error, and ends the operator after any other.
            raise aiohttp.ClientConnectionError(str(error)) from error


def login(watches: Watches, folder: Path = FOLDER) -> Login:
    """kopf's login handler, for a pod and for a kubeconfig alike."""
    brake = LoginBrake()

    def token() -> str:
        return (folder / "token").read_text().strip()

    async def handler(**arguments: Any) -> kopf.AiohttpSession:
        await asyncio.sleep(brake.pause())
        pod = _in_pod(folder)
        if pod is not None:
            return session(pod, watches, token)
        named = kopf.login_with_kubeconfig(**arguments)
        if named is None or not named.server:
            raise SettingsError("no connection to a cluster: set KUBECONFIG, or run in a pod")
        acts_as = impersonation.headers(os.environ.get("KUBECONFIG") or "~/.kube/config")
        return session(named, watches, acts_as=acts_as)

    return handler


async def _read_whole(response: aiohttp.ClientResponse) -> None:
    """Read an answer before kopf does: at the first 401 it closes the session of all the others."""
    try:
        await response.read()
    except (aiohttp.ClientError, RuntimeError) as error:
        # kopf retries after a connection error, and ends the operator after any other.
        raise aiohttp.ClientConnectionError(f"an answer broke off: {error}") from error


def session(
    where: kopf.ConnectionInfo,
    watches: Watches,
    token: Callable[[], str] | None = None,
    acts_as: Mapping[str, str] | None = None,
) -> kopf.AiohttpSession:
    """A session that calls `token` for each request, if given: the kubelet replaces tokens."""
    server = URL(where.server)
    prefix = server.path.rstrip("/")

    async def authorise(request: aiohttp.ClientRequest, handler: Any) -> Any:
        # A redirect passes here again: another host must not get the token.
        if token is not None and request.url.origin() == server.origin():
            request.headers["Authorization"] = f"Bearer {token()}"
        return await handler(request)

    async def listen(request: aiohttp.ClientRequest, handler: Any) -> Any:
        response = await handler(request)
        path = request.url.raw_path.removeprefix(prefix)
        if response.status == 404 and watches.not_found(path):
            # kopf retries after a connection error, and ends the operator after a 404.
            response.close()
            raise aiohttp.ClientConnectionError(f"{path} is not served any more")
        if response.status != 200 or "watch" not in request.url.query:
            await _read_whole(response)
            if response.status == 200:
                watches.listed(path)
            return response
        watches.opened(path)
        stream = ReportingStream(response.content, lambda: watches.heard(path))
        response.content = cast("aiohttp.StreamReader", stream)
        return response

    return kopf.AiohttpSession(
        aiohttp_session=aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=where.as_ssl_context()),
            headers=CIMultiDict(
                [*(where.as_http_headers() or {}).items(), *(acts_as or {}).items()]
            ),
            proxy=where.proxy_url,
            trust_env=bool(where.trust_env),
            middlewares=(authorise, listen),
        ),
        server=where.server,
        default_namespace=where.default_namespace,
    )


def _in_pod(folder: Path) -> kopf.ConnectionInfo | None:
    """The API server of the pod that this process runs in; a named kubeconfig wins."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    port = os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or "KUBECONFIG" in os.environ or not (folder / "token").exists():
        return None
    # By IP address: a name would make the operator depend on the cluster's DNS.
    address = f"[{host}]" if ":" in host else host
    return kopf.ConnectionInfo(
        server=f"https://{address}:{port}", ca_path=str(folder / "ca.crt"), insecure=False
    )
