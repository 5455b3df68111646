"""What a git server is asked: `info/refs`, and with version 2 of the protocol the refs that count.

Each request goes to an address that was checked first.

Messages are the operator's own and the same for the same fault: nothing of the answer is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from goservice import hosts, redirects
from goservice.errors import (
    GitAuthenticationFailed,
    GitUnavailable,
    SourceError,
    SourceForbidden,
    SourceUnfit,
)
from goservice.sources.gate import CheckedResolver, Gate, forbidden, written_out
from goservice.sources.refs import Refs, is_commit

CONCURRENCY = 10
"""Requests to git servers that run at once."""

LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer: some 200 000 branches and tags."""

LONGEST_SECONDS = 30.0
"""Seconds that a question may take, from the look-up of the host to the answer's end."""

_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
"""What a server that speaks git's smart HTTP protocol answers with."""
_QUESTION = "application/x-git-upload-pack-request"
"""What it is asked with."""
_RESULT = "application/x-git-upload-pack-result"
"""What it answers that with."""
_HEADERS = {"Accept-Encoding": "identity", "Git-Protocol": "version=2"}
"""Of every request: compressed answers would grow past the size cap after it was checked."""
_STEP = 8 * 1024
"""Bytes of an answer that are read before others have their turn."""


@dataclass(frozen=True)
class Found:
    """What a revision means now."""

    sha: str
    """The full commit."""
    tag: str = ""
    """The commit of a tag that has the branch's name; empty if there is none."""


class GitServers:
    """Requests to git servers, over connections that are kept open for a while."""

    def __init__(
        self,
        gate: Gate,
        *,
        allow_http: bool = False,
        allowed_hosts: Collection[str] = (),
        concurrency: int = CONCURRENCY,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        longest_answer: int = LONGEST_ANSWER,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._gate = gate
        self._allow_http = allow_http
        self._allowed_hosts = allowed_hosts
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
        return (await self.look(url, revision)).sha

    async def look(self, url: str, revision: str | None) -> Found:
        """The same, and what else has the revision's name; raises the same."""
        if revision is not None and is_commit(revision):
            return Found(revision.lower())
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
        return Found(refs.commit(), refs.namesake())

    async def _read(self, url: str, refs: Refs) -> None:
        """Request the list of refs and feed it to `refs` as it arrives."""
        repository = self._checked(URL(url))
        path = repository.path.rstrip("/")
        address = repository.with_path(f"{path}{redirects.INFO_REFS}")
        address = address.with_query(service="git-upload-pack")
        async with self._open().get(
            address, allow_redirects=False, headers=_HEADERS | {"Accept": _ADVERTISEMENT}
        ) as answer:
            _judge(url, answer)
            if answer.content_type != _ADVERTISEMENT or "Content-Encoding" in answer.headers:
                raise await _no_smart_server(url, answer)
            await self._feed(url, answer, refs.feed)
        if not refs.is_version_2:
            return
        refs.answered()
        async with self._open().post(
            self._checked(URL(url)).with_path(f"{path}/git-upload-pack"),
            data=refs.question(),
            allow_redirects=False,
            headers=_HEADERS | {"Accept": _RESULT, "Content-Type": _QUESTION},
        ) as answer:
            _judge(url, answer)
            if answer.content_type != _RESULT or "Content-Encoding" in answer.headers:
                raise GitUnavailable(f"{_host(url)} does not answer as a git server does")
            await self._feed(url, answer, refs.listed)

    def _checked(self, url: URL) -> URL:
        """The address, if its form and, where its host is an IP address, that address are allowed."""
        if url.scheme != "https" and not (url.scheme == "http" and self._allow_http):
            allowed = "https or http" if self._allow_http else "https"
            raise SourceForbidden(f"{url.scheme or 'no'} addresses are not allowed; use {allowed}")
        if not url.host:
            raise SourceForbidden("the address names no host")
        if url.user is not None or url.password is not None:
            raise SourceForbidden("the address must not carry credentials")
        if not hosts.is_allowed(str(url), self._allowed_hosts):
            raise SourceForbidden(f"{url.host} is not in the platform's git.allowedHosts")
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

    async def _feed(
        self, url: str, answer: aiohttp.ClientResponse, feed: Callable[[bytes], bool]
    ) -> None:
        """Feed an answer to its reader, in steps between which others have their turn."""
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > self._longest_answer:
                raise SourceUnfit(
                    f"{_host(url)} lists more than {self._longest_answer >> 20} MiB of "
                    "branches and tags"
                )
            for start in range(0, len(chunk), _STEP):
                if feed(chunk[start : start + _STEP]):
                    # What is wanted is known: the rest of a long list is not read.
                    answer.close()
                    return
                await asyncio.sleep(0)
        raise ValueError("half of a list is missing: it says itself when it is over")


def _judge(url: str, answer: aiohttp.ClientResponse) -> None:
    """Raise what the status of an answer comes to, unless it is 200."""
    match answer.status:
        case 200:
            return
        case status if status in redirects.STATUSES:
            location = answer.headers.get("Location", "")
            raise SourceUnfit(redirects.refusal(_host(url), str(answer.url), location))
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


async def _no_smart_server(url: str, answer: aiohttp.ClientResponse) -> SourceError:
    """What is said of an answer that is no list of refs of the smart protocol."""
    beginning = await answer.content.read(1024)
    answer.close()
    if redirects.PLAIN_FILES.match(beginning):
        return SourceUnfit(
            f"{_host(url)} serves the repository's files and does not speak git's smart HTTP protocol,"
            " which is needed: serve it with git http-backend, or from a forge"
        )
    return GitUnavailable(f"{_host(url)} does not answer as a git server does")


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
