"""The newest commit of each repository and revision, asked once for all services that share it.

A question is one GET of `info/refs` (git's smart protocol, version 0), sent to an address that was
resolved and checked first: a resource must not make the operator reach what its author cannot.
Nothing of the answer leaves this module but a commit; messages are the operator's own and the same
for the same fault, so that an outage writes each status once.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from goservice.errors import (
    GitAuthenticationFailed,
    GitUnavailable,
    RevisionNotFound,
    SourceError,
    SourceForbidden,
)
from goservice.metrics import Metrics

log = logging.getLogger(__name__)

Key = tuple[str, str]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONCURRENCY = 10
LONGEST_ANSWER = 16 * 1024 * 1024
LONGEST_SECONDS = 20.0
MOST_REDIRECTS = 3
FIRST_DELAY = 10.0
LONGEST_DELAY = 600.0
JITTER = 0.1

_CONTENT_TYPE = "application/x-git-upload-pack-advertisement"
_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_SHORTENED = re.compile(r"[0-9a-fA-F]{7,39}")
_REDIRECTS = (301, 302, 303, 307, 308)

METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, OpenStack and others
        "169.254.170.2",  # AWS: credentials of tasks
        "169.254.170.23",  # AWS: credentials of pods
        "168.63.129.16",  # Azure: the host, at an address that looks public
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS: credentials of pods
        "fd20:ce::254",  # Google Cloud
    )
)
"""Where clouds hand out credentials. Refused whatever is allowed, unless listed one by one."""

_EMBEDDING = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Resolution:
    """The last answer of a repository."""

    sha: str
    """The newest commit that is known, also after an error; empty if none ever was."""
    error: SourceError | None
    """Why the last question had no answer."""
    asked_at: float
    """When the last question was put, on the clock of `refresh_now`."""


class Gate:
    """Which addresses may be asked: public ones, and those that the platform lists."""

    def __init__(
        self, allowed_networks: Iterable[str] = (), *, allow_private: bool = False
    ) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(text) for text in allowed_networks]
        self._allow_private = allow_private

    def allows(self, text: str) -> bool:
        """Whether an address may be asked."""
        address = ipaddress.ip_address(text.partition("%")[0])
        return all(self._allows(form) for form in _forms(address))

    def _allows(self, address: Address) -> bool:
        listed = [network for network in self._networks if address in network]
        if address in METADATA:
            return any(network.num_addresses == 1 for network in listed)
        if listed:
            return True
        if address.is_multicast or address.is_unspecified or address.is_link_local:
            return False
        return address.is_global or self._allow_private


def _forms(address: Address) -> list[Address]:
    """What an address means: an IPv6 address may carry an IPv4 one, which is what is reached."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inner: list[Address] = [address]
    if address in _EMBEDDING:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:
        inner.append(address.sixtofour)
    if address.teredo:
        inner.extend(address.teredo)
    return inner


class _CheckedResolver(AbstractResolver):
    """Looks a host up and lets only allowed addresses through, at the moment of connecting.

    Checking before and connecting later would leave time for the name to change its address.
    """

    def __init__(self, gate: Gate, inner: AbstractResolver) -> None:
        self._gate = gate
        self._inner = inner

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [entry for entry in found if self._gate.allows(entry["host"])]
        if found and not allowed:
            raise _forbidden(host)
        return allowed

    @override
    async def close(self) -> None:
        await self._inner.close()


@dataclass
class _Topic:
    """A repository and revision that at least one service wants to know of."""

    url: str
    revision: str | None
    wishes: dict[Key, float] = field(default_factory=dict)
    resolution: Resolution | None = None
    due: float | None = None
    demanded_at: float | None = None
    """Since when an answer is wanted that is newer than this; None once it was given."""
    failures: int = 0
    asking: bool = False

    @property
    def interval(self) -> float | None:
        """The shortest interval that is wanted; None if nobody wants any."""
        return min((seconds for seconds in self.wishes.values() if seconds > 0), default=None)


class Sources:
    """Knows the newest commits of the repositories that services want, and keeps asking."""

    def __init__(
        self,
        *,
        allow_http: bool = False,
        allowed_networks: Iterable[str] = (),
        allow_private: bool = False,
        concurrency: int = CONCURRENCY,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver,
        longest_answer: int = LONGEST_ANSWER,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._gate = Gate(allowed_networks, allow_private=allow_private)
        self._allow_http = allow_http
        self._concurrency = concurrency
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._resolver = resolver
        self._longest_answer = longest_answer
        self._longest_seconds = longest_seconds
        self._session: aiohttp.ClientSession | None = None
        self._topics: dict[tuple[str, str | None], _Topic] = {}
        self._wanted: dict[Key, _Topic] = {}
        self._heap: list[tuple[float, int, _Topic]] = []
        self._entries = 0
        self._changed = asyncio.Event()
        self._last_moment = 0.0

    # --- what services want -----------------------------------------------------------------------

    def known(self, url: str, revision: str | None) -> Resolution | None:
        """The last answer; None if there was none yet or nobody wants it."""
        topic = self._topics.get((url, revision))
        return topic.resolution if topic else None

    def want(self, url: str, revision: str | None, interval_seconds: float, key: Key) -> None:
        """A service wants to know, and how often to ask; 0: once. It wants one thing at a time."""
        topic = self._topics.get((url, revision))
        if topic is None:
            topic = self._topics[url, revision] = _Topic(url, revision)
            self._demand(topic)
        if self._wanted.get(key) is not topic:
            self.forget(key)
            self._wanted[key] = topic
        if topic.wishes.get(key) != interval_seconds:
            before = topic.interval
            topic.wishes[key] = interval_seconds
            if topic.interval != before:
                self._schedule(topic)

    def forget(self, key: Key) -> None:
        """A service wants to know nothing any more."""
        topic = self._wanted.pop(key, None)
        if topic is None:
            return
        del topic.wishes[key]
        if not topic.wishes:
            topic.due = None
            del self._topics[topic.url, topic.revision]

    def refresh_now(self, url: str, revision: str | None) -> float:
        """Ask again at once; an answer whose `asked_at` is not below the returned time is newer."""
        topic = self._topics.get((url, revision))
        return self._demand(topic) if topic else self._moment()

    def _demand(self, topic: _Topic) -> float:
        now = topic.demanded_at = self._moment()
        if topic.revision and _COMMIT.fullmatch(topic.revision):
            # A commit is its own answer, and never becomes another one.
            topic.resolution = Resolution(topic.revision.lower(), None, now)
            topic.demanded_at = None
        elif not topic.asking:
            self._at(topic, self._clock())
        return now

    # --- asking on time ---------------------------------------------------------------------------

    async def run(self, on_change: Callable[[Key], None]) -> None:
        """Ask whatever is due until cancelled, and tell every service whose answer is new."""
        places = asyncio.Semaphore(self._concurrency)
        try:
            async with asyncio.TaskGroup() as questions:
                while True:
                    # The place comes first: what is due longest is then asked next.
                    await places.acquire()
                    topic = await self._next()
                    topic.asking = True
                    question = questions.create_task(self._ask(topic, on_change))
                    question.add_done_callback(lambda _: places.release())
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _next(self) -> _Topic:
        """The topic that is due, waiting for it."""
        while True:
            while self._heap and self._heap[0][2].due != self._heap[0][0]:
                heapq.heappop(self._heap)
            delay = self._heap[0][0] - self._clock() if self._heap else None
            if delay is not None and delay <= 0:
                topic = heapq.heappop(self._heap)[2]
                topic.due = None
                return topic
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _ask(self, topic: _Topic, on_change: Callable[[Key], None]) -> None:
        """One question, its answer's consequences, and when to ask next."""
        asked_at = self._moment()
        sha, error = "", None
        try:
            sha = await self.resolve(topic.url, topic.revision)
        except SourceError as refusal:
            error = refusal
        except Exception:
            log.exception("a defect of the operator while asking a git server")
            error = GitUnavailable("the operator failed to ask the repository; see its log")
        topic.asking = False
        self._count(error)
        before = topic.resolution
        if error is not None and before is not None:
            sha = before.sha
        topic.resolution = Resolution(sha, error, asked_at)
        topic.failures = topic.failures + 1 if isinstance(error, GitUnavailable) else 0
        answered = topic.demanded_at is not None and asked_at >= topic.demanded_at
        if answered and not isinstance(error, GitUnavailable):
            topic.demanded_at = None
        if not topic.wishes:
            return
        self._schedule(topic)
        news = before is None or (before.sha, type(before.error)) != (sha, type(error))
        if news or (answered and topic.demanded_at is None):
            for key in list(topic.wishes):
                on_change(key)

    def _schedule(self, topic: _Topic) -> None:
        """When to ask a topic next, from its last answer on."""
        last = topic.resolution
        if topic.asking or last is None:
            return
        if topic.demanded_at is not None and last.asked_at < topic.demanded_at:
            self._at(topic, self._clock())
            return
        delay = topic.interval
        if topic.failures and (delay is not None or topic.demanded_at is not None):
            backoff = FIRST_DELAY * 2.0 ** min(topic.failures - 1, 20)
            delay = min(backoff, max(delay or 0.0, LONGEST_DELAY))
        if delay is None or (topic.revision and _COMMIT.fullmatch(topic.revision)):
            topic.due = None
            return
        self._at(topic, last.asked_at + delay * (1 - JITTER + 2 * JITTER * self._chance()))

    def _at(self, topic: _Topic, due: float) -> None:
        topic.due = due
        # Topics have no order of their own: the running number decides between equal times.
        self._entries += 1
        heapq.heappush(self._heap, (due, self._entries, topic))
        self._changed.set()

    def _moment(self) -> float:
        """The time, and never the same one twice: "asked after" must not depend on luck."""
        self._last_moment = max(self._clock(), self._last_moment + 1e-6)
        return self._last_moment

    def _count(self, error: SourceError | None) -> None:
        if self._metrics is not None:
            result = type(error).__name__ if error else "Resolved"
            self._metrics.sources_polls_total.labels(result=result).inc()

    # --- one question -----------------------------------------------------------------------------

    async def resolve(self, url: str, revision: str | None) -> str:
        """The full commit that a revision means now; without a revision, the remote's HEAD.

        Raises:
            SourceError: there is no such revision, the repository is closed to the public or
                does not answer, or the platform forbids the address.
        """
        if revision and _COMMIT.fullmatch(revision):
            return revision.lower()
        refs = _Refs(revision)
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

    async def _read(self, url: str, refs: _Refs) -> None:
        """Ask the server, following redirects on the same host, and feed what it advertises."""
        address = self._checked(URL(url))
        address = address.with_path(f"{address.path.rstrip('/')}/info/refs")
        address = address.with_query(service="git-upload-pack")
        for _ in range(MOST_REDIRECTS + 1):
            async with self._open().get(
                address,
                allow_redirects=False,
                # Compressed answers would grow past the size cap after it was checked.
                headers={"Accept-Encoding": "identity", "Accept": _CONTENT_TYPE},
            ) as answer:
                if answer.status not in _REDIRECTS:
                    await self._take(url, answer, refs)
                    return
                target = address.join(URL(answer.headers.get("Location", "")))
            if target.host != address.host or (
                address.scheme == "https" and target.scheme != "https"
            ):
                raise SourceForbidden(
                    f"{_host(url)} redirects to another place, which is not followed; "
                    "use the repository's final address"
                )
            address = self._checked(target)
        raise GitUnavailable(f"{_host(url)} redirects more than {MOST_REDIRECTS} times")

    def _checked(self, url: URL) -> URL:
        """The address, if its form and, where it is written out, its IP address are allowed."""
        if url.scheme != "https" and not (url.scheme == "http" and self._allow_http):
            allowed = "https or http" if self._allow_http else "https"
            raise SourceForbidden(f"{url.scheme or 'no'} addresses are not allowed; use {allowed}")
        if not url.host:
            raise SourceForbidden("the address names no host")
        if url.user is not None or url.password is not None:
            raise SourceForbidden("the address must not carry credentials")
        with contextlib.suppress(ValueError):
            # The connector resolves no address that is written out, so nobody else checks it.
            if not self._gate.allows(url.host):
                raise _forbidden(url.host)
        return url

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_CheckedResolver(self._gate, self._resolver()),
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

    async def _take(self, url: str, answer: aiohttp.ClientResponse, refs: _Refs) -> None:
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
        taken = 0
        async for chunk in answer.content.iter_any():
            taken += len(chunk)
            if taken > self._longest_answer:
                raise GitUnavailable(
                    f"{_host(url)} lists more than {self._longest_answer >> 20} MiB of "
                    "branches and tags"
                )
            if refs.feed(chunk):
                # What follows cannot matter: the rest of a long list is not read.
                answer.close()
                return
        refs.end()


class _Refs:
    """Reads git's list of refs as it arrives, and keeps only those that a revision may mean."""

    def __init__(self, revision: str | None) -> None:
        self._revision = revision
        if revision is None or revision == "HEAD":
            wanted = ["HEAD"]
        elif revision.startswith("refs/"):
            wanted = [revision + "^{}", revision]
        else:
            branch, tag = f"refs/heads/{revision}", f"refs/tags/{revision}"
            wanted = [branch, tag + "^{}", tag]
        # The order is the order of preference; a peeled tag is the commit that it points to.
        self._wanted = [name.encode() for name in wanted]
        self._found: dict[bytes, bytes] = {}
        self._rest = bytearray()
        self._flushes = 0

    def feed(self, chunk: bytes) -> bool:
        """Read on; say whether the answer cannot change any more."""
        self._rest += chunk
        start = 0
        while len(self._rest) - start >= 4 and self._flushes < 2:
            length = int(bytes(self._rest[start : start + 4]), 16)
            if length == 0:
                self._flushes += 1
                length = 4
            elif length < 4:
                raise ValueError("a packet without a length")
            elif len(self._rest) - start < length:
                break
            else:
                self._line(bytes(self._rest[start + 4 : start + length]))
            start += length
        del self._rest[:start]
        return self._flushes == 2 or self._wanted[0] in self._found

    def _line(self, line: bytes) -> None:
        if line.startswith(b"# service="):
            return
        if self._flushes == 0 or line.startswith(b"ERR "):
            raise ValueError("no list of refs")
        sha, _, name = line.partition(b"\0")[0].rstrip(b"\n").partition(b" ")
        if name in self._wanted:
            if not _COMMIT.fullmatch(sha.decode("ascii", "replace")):
                raise ValueError("a ref without a commit")
            self._found[name] = sha

    def end(self) -> None:
        """The answer is over: it must have said so itself, or half of it is missing."""
        if self._flushes < 2:
            raise ValueError("a list without its end")

    def commit(self) -> str:
        """The commit that the revision means.

        Raises:
            RevisionNotFound: none of the refs that it may mean is there.
        """
        for name in self._wanted:
            if name in self._found:
                return self._found[name].decode().lower()
        if self._revision is None or self._revision == "HEAD":
            raise RevisionNotFound(
                "the repository has no default branch with a commit; name a revision"
            )
        if _SHORTENED.fullmatch(self._revision):
            raise RevisionNotFound(
                f"there is no branch or tag {self._revision}; a commit needs all 40 characters"
            )
        raise RevisionNotFound(f"the repository has no branch or tag {self._revision}")


def _host(url: str) -> str:
    with contextlib.suppress(ValueError):
        return URL(url).host or "the repository"
    return "the repository"


def _forbidden(host: str) -> SourceForbidden:
    return SourceForbidden(
        f"{host} is not at a public address; the platform's settings "
        "must list its network in git.allowedNetworks"
    )


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
