"""Questions to git servers: what is asked, what is believed, and whom nobody may ask."""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import coverage
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from typing_extensions import override

from goservice import errors
from goservice.metrics import Metrics
from goservice.sources.gate import Gate
from goservice.sources.git import Found
from goservice.sources.polling import Sources
from tests.support.gitserver import Origin, serving
from tests.support.gitserver import git as real_git

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
REFS = {
    "HEAD": A,
    "refs/heads/feat/one": B,
    "refs/heads/main": A,
    "refs/heads/both": B,
    "refs/pull/1/head": D,
    "refs/tags/both": C,
    "refs/tags/light": C,
    "refs/tags/v1": D,
    "refs/tags/v1^{}": B,
}
CONTENT_TYPE = "application/x-git-upload-pack-advertisement"
NO_HEADERS: Mapping[str, str] = {}


def packet(line: str) -> bytes:
    return f"{len(line.encode()) + 4:04x}{line}".encode()


def advertisement(refs: dict[str, str], more: str = "") -> bytes:
    lines = [f"{sha} {name}" for name, sha in refs.items()] or [f"{'0' * 40} capabilities^{{}}"]
    lines[0] += f"\0multi_ack symref=HEAD:refs/heads/main agent=git/2 {more}"
    body = b"".join(packet(f"{line}\n") for line in lines)
    return packet("# service=git-upload-pack\n") + b"0000" + body + b"0000"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answers(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] = NO_HEADERS
) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body, status=status, headers={"Content-Type": CONTENT_TYPE, **headers}
        )

    return answer


@asynccontextmanager
async def git(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/shop/checkout.git"))


def sources(**options: Any) -> Sources:
    return Sources(**{"allow_http": True, "allowed_networks": ["127.0.0.0/8"], **options})


async def resolve(handler: Handler, revision: str | None = None, **options: Any) -> str:
    asked = sources(**options)
    try:
        async with git(handler) as url:
            return await asked.resolve(url, revision)
    finally:
        await asked.close()


@pytest.mark.parametrize(
    ("revision", "sha"),
    [
        (None, A),
        ("HEAD", A),
        ("main", A),
        ("feat/one", B),
        ("both", B),
        ("light", C),
        ("v1", B),
        ("refs/tags/v1", B),
        ("refs/tags/both", C),
        ("refs/pull/1/head", D),
    ],
)
async def test_a_revision_is_a_branch_then_a_tag_or_a_ref(revision: str | None, sha: str) -> None:
    assert await resolve(answers(advertisement(REFS)), revision) == sha


async def test_the_question_is_gits() -> None:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await answers(advertisement(REFS))(request)

    await resolve(answer)
    assert seen[0].path_qs == "/shop/checkout.git/info/refs?service=git-upload-pack"
    assert seen[0].headers["User-Agent"].startswith("git/")
    assert seen[0].headers["Git-Protocol"] == "version=2", "a server that knows it answers shortly"


@pytest.mark.parametrize("sha", [A, "ABCDEF" + "0" * 34])
async def test_a_full_commit_is_not_asked_for(sha: str) -> None:
    assert await Sources().resolve("https://nowhere.invalid/x.git", sha) == sha.lower()


@pytest.mark.parametrize(
    ("revision", "refs", "message"),
    [
        ("nope", REFS, "the repository has no branch or tag nope"),
        ("abc1234", REFS, "no branch or tag abc1234; a commit needs all 40 characters"),
        (None, {}, "no default branch with a commit"),
        (None, {"refs/heads/x": A}, "no default branch with a commit"),
        ("refs/heads/nope", REFS, "no branch or tag refs/heads/nope"),
    ],
)
async def test_a_revision_that_is_not_there(
    revision: str | None, refs: dict[str, str], message: str
) -> None:
    with pytest.raises(errors.RevisionNotFound, match=message):
        await resolve(answers(advertisement(refs)), revision)


async def test_a_branch_that_looks_like_a_commit_is_a_branch() -> None:
    assert await resolve(answers(advertisement({"refs/heads/abc1234": A})), "abc1234") == A


@pytest.mark.parametrize(
    ("handler", "error", "message"),
    [
        (answers(status=401), errors.GitAuthenticationFailed, "asks for credentials"),
        (answers(status=403), errors.GitAuthenticationFailed, "asks for credentials"),
        (answers(status=404), errors.GitAuthenticationFailed, "no such repository, which is also"),
        (answers(status=500), errors.GitUnavailable, "HTTP status 500"),
        (answers(b"<html>"), errors.GitUnavailable, "not answer as a git server"),
        (answers(b"0000"), errors.GitUnavailable, "not answer as a git server"),
        (answers(b"0002"), errors.GitUnavailable, "not answer as a git server"),
        (answers(packet("ERR no\n")), errors.GitUnavailable, "not answer as a git server"),
        (answers(advertisement(REFS)[:-9]), errors.GitUnavailable, "not answer as a git"),
        (
            answers(advertisement({"refs/heads/v9": "x" * 40})),
            errors.GitUnavailable,
            "not answer as a",
        ),
        (
            answers(f"{A}\trefs/heads/main\n".encode(), headers={"Content-Type": "text/plain"}),
            errors.SourceUnfit,
            "does not speak git's smart HTTP protocol",
        ),
        (
            answers(advertisement(REFS | {"HEAD": A}, "object-format=sha256")),
            errors.SourceUnfit,
            "SHA-256",
        ),
        (
            answers(advertisement(REFS), headers={"Content-Type": "text/plain"}),
            errors.GitUnavailable,
            "not answer as a git server",
        ),
        (
            answers(advertisement(REFS), headers={"Content-Encoding": "gzip"}),
            errors.GitUnavailable,
            "not answer as a git server",
        ),
    ],
)
async def test_faults_have_their_own_errors(
    handler: Handler, error: type[errors.SourceError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        await resolve(handler, "v9")
    assert "<html>" not in str(caught.value)


async def test_no_more_is_read_than_the_cap() -> None:
    many = {f"refs/heads/{n}": A for n in range(2000)}
    with pytest.raises(errors.SourceUnfit, match="more than 0 MiB"):
        await resolve(answers(advertisement(many)), "v1", longest_answer=10_000)


async def test_no_more_is_read_than_is_needed() -> None:
    many = {"HEAD": B, **{f"refs/heads/{n}": A for n in range(2000)}}
    half = advertisement(many)[:60_000]
    assert await resolve(answers(half)) == B


async def test_a_server_that_hangs() -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return web.Response()

    with pytest.raises(
        errors.GitUnavailable, match=r"127.0.0.1:[0-9]+ did not answer within 0.05 s"
    ):
        await resolve(hang, longest_seconds=0.05)


async def test_a_server_that_is_not_there() -> None:
    asked = sources()
    with pytest.raises(errors.GitUnavailable, match="does not accept a connection"):
        await asked.resolve("http://127.0.0.1:9/x.git", None)
    await asked.close()


async def test_a_server_that_breaks_off() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    with pytest.raises(errors.GitUnavailable, match="broke the connection off"):
        await resolve(cut)


async def test_plain_http_on_a_port_that_should_speak_tls() -> None:
    asked = sources()
    async with git(answers(advertisement(REFS))) as url:
        with pytest.raises(errors.GitUnavailable, match="TLS"):
            await asked.resolve(url.replace("http:", "https:"), None)
    await asked.close()


# --- a real server of version 2 ------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with serving(tmp_path_factory.mktemp("origin")) as found:
        yield found


def refs(origin: Origin, *lines: str) -> None:
    real_git(origin.work, "update-ref", "--stdin", given="\n".join(lines).encode() + b"\n")


async def test_a_real_server_is_asked_for_what_counts_however_many_refs_there_are(
    origin: Origin,
) -> None:
    commit = origin.commit({"a": "1"})
    names = ["fix/#42", "@acme/api@1.2.0", "ümlaut", "a=b", "main-2"]
    many = [f"create refs/heads/many/{'x' * 150}{n} {commit}" for n in range(20_000)]
    refs(origin, *many, *(f"create refs/heads/{name} {commit}" for name in names))
    subject = sources(longest_answer=64 * 1024)
    try:
        for name in (None, *names):
            assert await subject.resolve(origin.url, name) == commit
        with pytest.raises(errors.RevisionNotFound, match="no branch or tag none"):
            await subject.resolve(origin.url, "none")
    finally:
        await subject.close()


async def test_of_a_branch_and_a_tag_of_one_name_both_are_told(origin: Origin) -> None:
    first = origin.commit({"a": "2"})
    second = origin.commit({"a": "3"})
    refs(origin, f"create refs/heads/v7 {second}")
    real_git(origin.work, "tag", "-a", "-m", "seven", "v7", first)
    subject = sources()
    try:
        assert await subject.look(origin.url, "v7") == Found(second, first)
        assert await subject.look(origin.url, "refs/tags/v7") == Found(first)
        assert await subject.look(origin.url, "refs/heads/v7") == Found(second)
    finally:
        await subject.close()


async def test_a_real_repository_of_sha_256_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, "--object-format=sha256") as found:
        found.commit({"a": "1"})
        subject = sources()
        try:
            with pytest.raises(errors.SourceUnfit, match="SHA-256"):
                await subject.resolve(found.url, None)
        finally:
            await subject.close()


async def test_a_host_that_is_not_listed_is_not_connected_to() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return await answers(advertisement(REFS))(request)

    async with git(answer) as url:
        port = url.split(":")[2].partition("/")[0]
        for hosts, allowed in {
            ("git.example.com",): False,
            ("127.0.0.1",): True,
            (f"127.0.0.1:{port}",): True,
            ("127.0.0.1:1",): False,
        }.items():
            subject = sources(allowed_hosts=hosts)
            if allowed:
                assert await subject.resolve(url, None) == A
            else:
                with pytest.raises(errors.SourceForbidden, match=r"git\.allowedHosts"):
                    await subject.resolve(url, None)
            await subject.close()
    assert len(asked) == 2


async def test_a_long_list_of_tiny_packets_leaves_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """15 MiB of 5-byte packets took 11 s of the loop; ten such answers at once leave it now, too.

    Counted is the thread's own time between two turns: a busy machine makes it no longer. Read at one
    go, the ten lists take some 3 s; what measures coverage makes each turn two or three times as long.
    """
    tiny = packet("# service=git-upload-pack\n") + b"0000" + b"0005x" * (15 * 1024 * 1024 // 5)
    monkeypatch.setattr("goservice.sources.refs.MOST_LINES", 200_000)
    turns: list[float] = []

    async def others() -> None:
        while True:
            turns.append(time.thread_time())
            await asyncio.sleep(0)

    def say(listening: socket.socket) -> None:
        """In a thread of its own, whose time is not the loop's."""
        with contextlib.suppress(OSError):
            while True:
                connection = listening.accept()[0]
                with connection, contextlib.suppress(OSError):
                    connection.recv(4096)
                    head = f"HTTP/1.0 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n"
                    connection.sendall(head.encode() + tiny)

    listening = socket.create_server(("127.0.0.1", 0))
    for _ in range(10):
        threading.Thread(target=say, args=(listening,), daemon=True).start()
    task = asyncio.create_task(others())
    try:
        with listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/a.git"
            subject = sources(longest_seconds=300)
            outcomes = await asyncio.gather(
                *(subject.resolve(url, None) for _ in range(10)), return_exceptions=True
            )
            await subject.close()
            listening.shutdown(socket.SHUT_RDWR)
    finally:
        task.cancel()
    assert {type(outcome) for outcome in outcomes} == {errors.SourceUnfit}
    longest = max(after - before for before, after in itertools.pairwise(turns))
    print(f"{longest * 1000:.0f} ms at the most between two turns")
    assert longest < (0.1 if coverage.Coverage.current() is None else 0.5)


async def test_no_list_is_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goservice.sources.refs.MOST_LINES", 1000)
    tiny = packet("# service=git-upload-pack\n") + b"0000" + b"0005x" * 2000
    with pytest.raises(errors.SourceUnfit, match="lists more than 1000 branches and tags"):
        await resolve(answers(tiny))


# --- redirects ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/moved.git/info/refs?service=git-upload-pack", "{server}/moved.git"),
        ("https://git.example.com/a/b.git/info/refs", "https://git.example.com/a/b.git"),
        ("http://localhost:3000/a/info/refs?token=secret", "http://localhost:3000/a"),
    ],
)
async def test_a_redirect_is_not_followed_and_its_end_is_named(
    status: int, location: str, target: str
) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": location})

    subject = sources()
    async with git(answer) as url:
        with pytest.raises(errors.SourceUnfit) as raised:
            await subject.resolve(url, None)
    await subject.close()
    server = url.removesuffix("/shop/checkout.git")
    assert str(raised.value) == (
        f"{server.removeprefix('http://')} redirects to {target.format(server=server)},"
        " which is not followed:"
        " write that address into spec.source.git.url"
    )
    assert asked == ["/shop/checkout.git/info/refs"]


@pytest.mark.parametrize(
    "location",
    [
        "",
        "https://user:secret@git.example.com/a.git/info/refs",
        "https://secret@git.example.com/a.git/info/refs",
        "ftp://git.example.com/a.git/info/refs",
        "https://git.example.com/a b/info/refs",
        "https://git.example.com/%1b%5b31m/info/refs",
        "https://git.example.com/../a/info/refs",
        "https://git.example.com//info/refs",
        "https://[git.example.com/a/info/refs",
        "https://git.example.com/" + "a" * 200 + "/info/refs",
    ],
)
async def test_a_redirect_to_what_is_no_plain_address_is_not_shown(location: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": location} if location else {})

    with pytest.raises(errors.SourceUnfit) as raised:
        await resolve(answer)
    assert str(raised.value).partition(" ")[2] == (
        "redirects to another address, which is not followed:"
        " set spec.source.git.url to the repository's final one"
    )


@pytest.mark.parametrize(
    "location", ["/users/sign_in?redirect=/a/info/refs", "https://sso.example.com/token=secret"]
)
async def test_a_page_to_sign_in_is_told_and_not_shown(location: str) -> None:
    with pytest.raises(errors.SourceUnfit) as raised:
        await resolve(answers(status=302, headers={"Location": location}))
    assert str(raised.value).partition(" ")[2] == (
        "redirects to a page that is no repository, as a server does that asks to sign in;"
        " only public repositories can be built: check spec.source.git.url"
    )


# --- whom nobody may ask -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.96.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "168.63.129.16",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::",
        "::a00:1",
        "::ffff:0:a00:1",
        "fec0::1",
        "5f00::1",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not Gate().allows(address)


@pytest.mark.parametrize(
    "address", ["140.82.121.4", "2606:50c0:8000::153", "::ffff:140.82.121.4", "64:ff9b::8c52:7904"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert Gate().allows(address)


def test_networks_can_be_listed_but_metadata_only_one_by_one() -> None:
    gate = Gate(["10.0.0.0/8", "169.254.0.0/16"])
    assert gate.allows("10.1.2.3")
    assert gate.allows("169.254.1.1")
    assert not gate.allows("192.168.0.1")
    assert not gate.allows("169.254.169.254")
    assert Gate(["169.254.169.254/32"]).allows("169.254.169.254")


class Names(AbstractResolver):
    """Knows one name, whose addresses the test decides."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host != "git.example.com":
            raise OSError("unknown")
        return [
            {"hostname": host, "host": a, "port": port, "family": 2, "proto": 0, "flags": 0}
            for a in self.addresses
        ]

    @override
    async def close(self) -> None:
        pass


async def test_a_name_is_checked_by_the_addresses_that_it_has() -> None:
    async with git(answers(advertisement(REFS))) as url:
        named = url.replace("127.0.0.1", "git.example.com")
        closed = sources(allowed_networks=[], resolver=lambda: Names("127.0.0.1"))
        with pytest.raises(errors.SourceForbidden, match=r"git\.example\.com is not at a public"):
            await closed.resolve(named, None)
        await closed.close()
        opened = sources(resolver=lambda: Names("10.0.0.1", "127.0.0.1"))
        assert await opened.resolve(named, None) == A
        with pytest.raises(errors.GitUnavailable, match="its name is not known"):
            await opened.resolve("http://other.example.com/x.git", None)
        await opened.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://git.example.com/x.git", "http addresses are not allowed; use https"),
        ("file:///etc/passwd", "file addresses are not allowed"),
        ("git@git.example.com:x.git", "addresses are not allowed"),
        ("https:///x.git", "names no host"),
        ("https://user:word@git.example.com/x.git", "must not carry credentials"),
        ("https://127.0.0.1/x.git", "not at a public address"),
        ("https://[::1]/x.git", "not at a public address"),
    ],
)
async def test_addresses_that_are_refused_before_anything_is_sent(url: str, message: str) -> None:
    with pytest.raises(errors.SourceError, match=message) as caught:
        await Sources().resolve(url, None)
    assert "word" not in str(caught.value)


async def test_an_address_that_is_none() -> None:
    with pytest.raises(errors.SourceError):
        await Sources().resolve("https://[::1", None)


async def test_what_git_itself_says(tmp_path: Path) -> None:
    def run(*arguments: str) -> bytes:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout

    run("init", "-q", "-b", "main")
    run("commit", "-q", "--allow-empty", "-m", "one")
    first = run("rev-parse", "HEAD").decode().strip()
    run("tag", "-a", "v1", "-m", "v1")
    run("commit", "-q", "--allow-empty", "-m", "two")
    second = run("rev-parse", "HEAD").decode().strip()
    listed = run("upload-pack", "--stateless-rpc", "--advertise-refs", ".")
    handler = answers(packet("# service=git-upload-pack\n") + b"0000" + listed)
    assert await resolve(handler) == second
    assert await resolve(handler, "main") == second
    assert await resolve(handler, "v1") == first


# --- asking for many services -------------------------------------------------------------------


class Repository:
    """A git server that counts questions and whose answer the test changes."""

    def __init__(self) -> None:
        self.asked = 0
        self.refs = dict(REFS)
        self.status = 200
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.gate.wait()
        return await answers(advertisement(self.refs), self.status)(request)


class Bell:
    """Collects whom the sources told of something, and waits for it."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, key: tuple[str, str]) -> None:
        self.rung.append(key)
        self._changed.set()

    async def wait(self, count: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(3):
            while len(self.rung) < count:
                self._changed.clear()
                await self._changed.wait()
        found, self.rung = self.rung, []
        return found


class World:
    """A repository, sources that run, and a clock that the test moves."""

    def __init__(self, url: str, repository: Repository, bell: Bell, asked: Sources) -> None:
        self.url, self.repository, self.bell, self.sources = url, repository, bell, asked
        self.now = 0.0

    def want(self, name: str, interval: float = 300, revision: str | None = "main") -> None:
        self.sources.want(self.url, revision, interval, ("shop", name))

    def sha(self, revision: str | None = "main") -> str | None:
        known = self.sources.known(self.url, revision)
        return known.sha if known else None

    async def move(self, seconds: float) -> None:
        """Let time pass, and let whatever is due by then be asked and answered."""
        self.now += seconds
        self.sources._changed.set()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[World]:
    world: World
    repository, bell = Repository(), Bell()
    async with git(repository.handle) as url:
        asked = sources(clock=lambda: world.now, chance=lambda: 0.5, **options)
        world = World(url, repository, bell, asked)
        task = asyncio.create_task(asked.run(bell))
        try:
            yield world
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_services_that_share_a_repository_share_the_question() -> None:
    metrics = Metrics()
    async with running(metrics=metrics) as world:
        for n in range(20):
            world.want(f"s{n}")
        assert world.sha() is None
        assert len(await world.bell.wait(20)) == 20
        assert (world.sha(), world.repository.asked) == (A, 1)
        world.want("other", revision="v1")
        assert await world.bell.wait(1) == [("shop", "other")]
        assert (world.sha("v1"), world.repository.asked) == (B, 2)
    assert b'goservice_operator_sources_polls_total{result="Resolved"} 2.0' in metrics.text()


async def test_the_shortest_interval_counts_and_only_news_ring() -> None:
    async with running() as world:
        world.want("slow", 300)
        world.want("quick", 60)
        await world.bell.wait(2)
        await world.move(59)
        assert world.repository.asked == 1
        await world.move(2)
        assert (world.repository.asked, world.bell.rung) == (2, [])
        world.repository.refs["refs/heads/main"] = C
        await world.move(61)
        assert sorted(await world.bell.wait(2)) == [("shop", "quick"), ("shop", "slow")]
        assert world.sha() == C
        world.sources.forget(("shop", "quick"))
        world.sources.forget(("shop", "quick"))
        await world.move(61)
        await world.move(61)
        assert world.repository.asked == 4
        world.sources.forget(("shop", "slow"))
        assert world.sources.known(world.url, "main") is None
        await world.move(1000)
        assert world.repository.asked == 4


async def test_what_is_due_within_a_second_is_asked_together() -> None:
    async with running() as world:
        world.want("one", 60.3)
        world.want("other", 60.7, revision="v1")
        await world.bell.wait(2)
        await world.move(60.9)
        assert world.repository.asked == 2
        await world.move(0.2)
        assert world.repository.asked == 4


async def test_an_interval_that_changes_counts_at_once() -> None:
    async with running() as world:
        world.want("a", 0)
        await world.bell.wait(1)
        await world.move(10_000)
        assert world.repository.asked == 1
        world.want("a", 60)
        await world.move(0)
        assert world.repository.asked == 2
        world.want("a", 0)
        await world.move(10_000)
        assert world.repository.asked == 2


async def test_a_service_wants_one_thing_at_a_time() -> None:
    async with running() as world:
        world.want("a", revision="main")
        await world.bell.wait(1)
        world.want("a", revision="v1")
        await world.bell.wait(1)
        assert world.sha("main") is None
        assert world.sha("v1") == B


async def test_a_full_commit_is_known_at_once_and_never_asked() -> None:
    async with running() as world:
        world.want("a", 10, revision=C)
        assert world.sha(C) == C
        since = world.sources.refresh_now(world.url, C)
        known = world.sources.known(world.url, C)
        assert known is not None
        assert known.asked_at >= since
        await world.move(100)
        assert world.repository.asked == 0


async def test_a_refresh_demands_an_answer_that_is_newer_than_itself() -> None:
    async with running() as world:
        world.want("a", 0)
        await world.bell.wait(1)
        world.repository.gate.clear()
        since = world.sources.refresh_now(world.url, "main")
        known = world.sources.known(world.url, "main")
        assert known is not None
        assert known.asked_at < since
        await asyncio.sleep(0.05)
        again = world.sources.refresh_now(world.url, "main")
        assert again > since
        world.repository.gate.set()
        # The question under way was put before the second demand: one more is needed, and both
        # ring although the commit is the same.
        await world.bell.wait(1)
        assert world.repository.asked == 3
        known = world.sources.known(world.url, "main")
        assert known is not None
        assert known.asked_at >= again
    assert Sources().refresh_now("https://git.example.com/x", None) > 0


async def test_an_outage_is_told_once_and_asked_again_with_backoff() -> None:
    async with running() as world:
        world.want("a", 300)
        await world.bell.wait(1)
        world.repository.status = 503
        await world.move(301)
        await world.bell.wait(1)
        known = world.sources.known(world.url, "main")
        assert known is not None
        assert isinstance(known.error, errors.GitUnavailable)
        assert known.sha == A
        for wait, asked in [(9, 2), (2, 3), (18, 3), (3, 4), (37, 4), (4, 5)]:
            await world.move(wait)
            assert world.repository.asked == asked
        assert world.bell.rung == []
        world.repository.status = 200
        await world.move(100)
        assert len(await world.bell.wait(1)) == 1


async def test_a_first_answer_is_asked_for_until_it_comes_even_without_polling() -> None:
    async with running() as world:
        world.repository.status = 503
        world.want("a", 0)
        await world.bell.wait(1)
        world.repository.status = 200
        await world.move(11)
        await world.bell.wait(1)
        assert world.sha() == A
        await world.move(100_000)
        assert world.repository.asked == 2


async def test_a_person_has_to_act_on_a_missing_revision() -> None:
    async with running() as world:
        world.want("a", 0, revision="nope")
        await world.bell.wait(1)
        await world.move(100_000)
        assert world.repository.asked == 1
        world.sources.refresh_now(world.url, "nope")
        await world.bell.wait(1)
        assert world.repository.asked == 2


async def test_only_so_many_are_asked_at_once() -> None:
    async with running(concurrency=2) as world:
        world.repository.gate.clear()
        for n in range(5):
            world.want(f"s{n}", revision=f"refs/heads/{n}")
        await asyncio.sleep(0.1)
        assert world.repository.asked == 2
        world.repository.gate.set()
        await world.bell.wait(5)
        assert world.repository.asked == 5


async def test_an_answer_that_nobody_wants_any_more_rings_nobody() -> None:
    async with running() as world:
        world.repository.gate.clear()
        world.want("a")
        await asyncio.sleep(0.05)
        world.sources.forget(("shop", "a"))
        world.repository.gate.set()
        await asyncio.sleep(0.05)
        assert world.bell.rung == []


async def test_a_defect_does_not_end_the_asking(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Sources):
        @override
        async def look(self, url: str, revision: str | None) -> Found:
            raise ZeroDivisionError

    bell, broken = Bell(), Broken()
    task = asyncio.create_task(broken.run(bell))
    broken.want("https://git.example.com/x", None, 60, ("shop", "a"))
    await bell.wait(1)
    known = broken.known("https://git.example.com/x", None)
    assert known is not None
    assert "see its log" in str(known.error)
    assert "a defect of the operator" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
