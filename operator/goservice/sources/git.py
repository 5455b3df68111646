"""One request to a git server: one GET of `info/refs`, to an address that was checked first.

Messages are the operator's own and the same for the same fault: nothing of the answer is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from goservice import redirects
from goservice.errors import GitAuthenticationFailed, GitUnavailable, SourceError, SourceForbidden
from goservice.sources.gate import CheckedResolver, Gate, forbidden, written_out
from goservice.sources.refs import Refs, is_commit

CONCURRENCY = 10
"""Requests to git servers that run at once."""

LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer: some 200 000 branches and tags."""

LONGEST_SECONDS = 20.0
"""Seconds that one request may take, from the look-up of the host to the answer's end."""

_CONTENT_TYPE = "application/x-git-upload-pack-advertisement"
"""What a server that speaks git's smart HTTP protocol answers with."""


class GitServers:
    """Requests to git servers, over connections that are kept open for a while."""

    def __init__(
        self,
        gate: Gate,
        *,
        allow_http: bool = False,
        concurrency: int = CONCURRENCY,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        longest_answer: int = LONGEST_ANSWER,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._gate = gate
        self._allow_http = allow_http
        self._concurrency = concurrency
        self._resolver = resolver
        self._longest_answer = longest_answer
        self._longest_seconds = longest_seconds
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def resolve(self, url: str, revision: str | None) -> str:
        """The full commit that a revision means now; without a revision, the remote's HEAD.

        Raises:
            SourceError: there is no such revision, the repository is closed to the public or
                does not answer, or the platform forbids the address.
        """
        if revision is not None and is_commit(revision):
            return revision.lower()
        refs = Refs(revision)
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._read(url, refs)
        except SourceError:
            raise
        except TimeoutError:
            raise GitUnavailable(
                f"{_host(url)} did not answer within {self._longest_seconds:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise GitUnavailable(f"{_host(url)} {_fault(error)}") from error
        return refs.commit()

    async def _read(self, url: str, refs: Refs) -> None:
        """Request the list of refs and feed it to `refs` as it arrives."""
        address = self._checked(URL(url))
        address = address.with_path(f"{address.path.rstrip('/')}{redirects.INFO_REFS}")
        address = address.with_query(service="git-upload-pack")
        async with self._open().get(
            address,
            allow_redirects=False,
            # Compressed answers would grow past the size cap after it was checked.
            headers={"Accept-Encoding": "identity", "Accept": _CONTENT_TYPE},
        ) as answer:
            if answer.status in redirects.STATUSES:
                location = answer.headers.get("Location", "")
                raise SourceForbidden(redirects.refusal(_host(url), str(address), location))
            await self._feed(url, answer, refs)

    def _checked(self, url: URL) -> URL:
        """The address, if its form and, where its host is an IP address, that address are allowed."""
        if url.scheme != "https" and not (url.scheme == "http" and self._allow_http):
            allowed = "https or http" if self._allow_http else "https"
            raise SourceForbidden(f"{url.scheme or 'no'} addresses are not allowed; use {allowed}")
        if not url.host:
            raise SourceForbidden("the address names no host")
        if url.user is not None or url.password is not None:
            raise SourceForbidden("the address must not carry credentials")
        # aiohttp calls no resolver for an IP address, so CheckedResolver never sees it.
        address = written_out(url.host)
        if address is not None and not self._gate.allows(address):
            raise forbidden(url.host)
        return url

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=CheckedResolver(self._gate, self._resolver()),
                    use_dns_cache=False,
                    limit=self._concurrency,
                ),
                # One service's cookies are not another's, and a proxy would resolve by itself.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "git/2 (goservice-operator)"},
            )
        return self._session

    async def _feed(self, url: str, answer: aiohttp.ClientResponse, refs: Refs) -> None:
        match answer.status:
            case 200:
                pass
            case 401 | 403:
                raise GitAuthenticationFailed(
                    f"{_host(url)} asks for credentials; only public repositories can be built"
                )
            case 404 | 410:
                raise GitAuthenticationFailed(
                    f"{_host(url)} says that there is no such repository, "
                    "which is also said of private ones; check the address"
                )
            case status:
                raise GitUnavailable(f"{_host(url)} answered with HTTP status {status}")
        if answer.content_type != _CONTENT_TYPE or "Content-Encoding" in answer.headers:
            raise GitUnavailable(f"{_host(url)} does not answer as a git server does")
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > self._longest_answer:
                raise GitUnavailable(
                    f"{_host(url)} lists more than {self._longest_answer >> 20} MiB of "
                    "branches and tags"
                )
            if refs.feed(chunk):
                # The commit is known: the rest of a long list is not read.
                answer.close()
                return
        refs.end()


def _host(url: str) -> str:
    with contextlib.suppress(ValueError):
        # With its port, unless that is the scheme's own.
        return URL(url).host_port_subcomponent or "the repository"
    return "the repository"


def _fault(error: Exception) -> str:
    """What went wrong, in words that stay the same from one try to the next."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "has no address: its name is not known"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "shows a certificate that is not trusted"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "does not speak TLS as expected"
        case aiohttp.ClientConnectorError():
            return "does not accept a connection"
        case aiohttp.ClientError() | OSError():
            return "broke the connection off"
        case _:
            return "does not answer as a git server does"
