"""Whom the operator can be made to connect to, and who is told its token.

Connections are seen where a socket connects.

Nothing here leaves the machine: what must be refused is, before a socket is asked; what is allowed
is on loopback.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from typing_extensions import override

from goservice import errors
from goservice.cluster import client
from goservice.sources.gate import Gate
from goservice.sources.git import GitServers
from goservice.watch.liveness import Watches
from goservice.watch.login import session

SHA = "a" * 40
REFS = (
    b"001e# service=git-upload-pack\n0000"
    + f"{4 + 40 + 6:04x}{SHA} HEAD\n".encode()
    + f"{4 + 40 + 17:04x}{SHA} refs/heads/main\n".encode()
    + b"0000"
)
NAMES = {
    "public.example.com": ["127.0.0.2"],
    "loopback.example.com": ["127.0.0.1"],
    "loopback6.example.com": ["::1"],
    "metadata.example.com": ["169.254.169.254"],
    "metadata6.example.com": ["fd00:ec2::254"],
    "azure.example.com": ["168.63.129.16"],
    "private.example.com": ["10.96.0.1", "192.168.1.1"],
    "mapped.example.com": ["::ffff:169.254.169.254"],
    "nat64.example.com": ["64:ff9b::a9fe:a9fe"],
    "6to4.example.com": ["2002:a9fe:a9fe::"],
    "shared.example.com": ["100.64.0.1"],
    "zone.example.com": ["fe80::1%lo"],
    "localhost": ["127.0.0.1", "::1"],
    "kubernetes.default.svc": ["10.96.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
}
ADDRESSES = [
    # Loopback, and each way to write it.
    "http://127.0.0.1/a.git",
    "http://127.0.0.1:10250/a.git",
    "http://127.255.255.254/a.git",
    "http://127.1/a.git",
    "http://127.0.1/a.git",
    "http://2130706433/a.git",
    "http://017700000001/a.git",
    "http://0177.0.0.1/a.git",
    "http://0x7f000001/a.git",
    "http://0x7f.0.0.1/a.git",
    "http://0X7F.1/a.git",
    "http://127.0.0.1./a.git",
    "http://0/a.git",
    "http://0.0.0.0/a.git",
    "http://①②⑦.0.0.1/a.git",
    "http://[::1]/a.git",
    "http://[::]/a.git",
    "http://[::ffff:127.0.0.1]/a.git",
    "http://[::ffff:7f00:1]/a.git",
    "http://[0:0:0:0:0:ffff:7f00:0001]/a.git",
    "http://[::127.0.0.1]/a.git",
    "http://LOCALHOST/a.git",
    # Where clouds hand out credentials.
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.169.254:80/a.git",
    "http://2852039166/a.git",
    "http://0251.0376.0251.0376/a.git",
    "http://0xa9.0xfe.0xa9.0xfe/a.git",
    "http://169.254.43518/a.git",
    "http://[::ffff:169.254.169.254]/a.git",
    "http://[64:ff9b::169.254.169.254]/a.git",
    "http://[64:ff9b:1::a9fe:a9fe]/a.git",
    "http://[2002:a9fe:a9fe::]/a.git",
    "http://[fd00:ec2::254]/a.git",
    "http://[fe80::1]/a.git",
    "http://168.63.129.16/a.git",
    "http://100.100.100.200/a.git",
    # Inside the cluster and the company.
    "http://10.96.0.1/a.git",
    "http://172.16.0.1/a.git",
    "http://192.168.1.1:8443/a.git",
    "http://100.64.0.1/a.git",
    "http://[fc00::1]/a.git",
    "http://[fec0::1]/a.git",
    "http://224.0.0.1/a.git",
    "http://255.255.255.255/a.git",
    # Names that mean one of them.
    *(f"http://{name}/a.git" for name in NAMES if name != "public.example.com"),
]
FORMS = [
    "http://%6c%6f%63alhost/a.git",
    "http://user:word@public.example.com/a.git",
    "http://public.example.com@127.0.0.1/a.git",
    "http://:word@public.example.com/a.git",
    "http:///a.git",
    "http:127.0.0.1/a.git",
    "//127.0.0.1/a.git",
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.git",
    "gopher://127.0.0.1:6379/_INFO",
    "unix:///var/run/docker.sock",
    "ext::sh -c id",
    "ssh://git@public.example.com/a.git",
    "http://127.0.0.1\\@public.example.com/a.git",
    "http://public.example.com:99999/a.git",
]


class Names(AbstractResolver):
    """Knows the names of the table, and whatever a test says besides; each answer in turn."""

    def __init__(self, turns: list[list[str]] | None = None) -> None:
        self._turns = turns

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self._turns.pop(0) if self._turns else NAMES.get(host.lower())
        if found is None:
            raise OSError("unknown")
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
            for address in found
        ]

    @override
    async def close(self) -> None:
        pass


_CONNECTED: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        _CONNECTED.append(str(arguments[1][0] if arguments[1] else ""))


@pytest.fixture(scope="module", autouse=True)
def _watch_sockets() -> None:
    # The interpreter keeps it; what it adds is looked at here only.
    sys.addaudithook(_hook)


@pytest.fixture
def connected() -> Iterator[list[str]]:
    """The addresses that any socket of this process was connected to."""
    _CONNECTED.clear()
    yield _CONNECTED
    _CONNECTED.clear()


class Heard:
    """What a server was asked: paths and headers."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []


@asynccontextmanager
async def server(address: str, location: str = "", port: int = 0) -> AsyncIterator[Any]:
    """A git server on an address of loopback, which redirects if it is told where to."""
    heard = Heard()

    async def answer(request: web.Request) -> web.Response:
        heard.paths.append(request.path)
        heard.headers.append({k.lower(): v for k, v in request.headers.items()})
        if location:
            cookie = {"Location": location.format(port=port), "Set-Cookie": "canary=1"}
            return web.Response(status=302, headers=cookie)
        kind = {"Content-Type": "application/x-git-upload-pack-advertisement"}
        return web.Response(body=REFS, headers={**kind, "Set-Cookie": "canary=1"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app, host=address) as running:
        yield running.port, heard


def asking(turns: list[list[str]] | None = None, networks: tuple[str, ...] = ()) -> GitServers:
    return GitServers(
        Gate(networks), allow_http=True, resolver=lambda: Names(turns), longest_seconds=5
    )


@pytest.mark.parametrize("url", ADDRESSES)
async def test_an_address_that_is_not_public_is_never_connected_to(
    url: str, connected: list[str]
) -> None:
    git = asking()
    with pytest.raises(errors.SourceForbidden, match="is not at a public address"):
        await git.resolve(url, None)
    await git.close()
    assert connected == []


@pytest.mark.parametrize("url", FORMS)
async def test_what_is_no_plain_http_address_is_never_connected_to(
    url: str, connected: list[str]
) -> None:
    git = asking(networks=("127.0.0.0/8",))
    with pytest.raises(errors.SourceError) as refused:
        await git.resolve(url, None)
    await git.close()
    assert connected == []
    assert "word" not in str(refused.value)


def test_the_tables_are_long_and_say_nothing_twice() -> None:
    assert len({*ADDRESSES, *FORMS}) == len(ADDRESSES) + len(FORMS) >= 70


async def test_a_connection_would_be_seen(connected: list[str]) -> None:
    async with server("127.0.0.2") as (port, heard):
        git = asking(networks=("127.0.0.2/32",))
        assert await git.resolve(f"http://public.example.com:{port}/a.git", "main") == SHA
        await git.close()
    assert connected == ["127.0.0.2"]
    assert heard.paths == ["/a.git/info/refs"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/a.git/info/refs",
        "//127.0.0.1:{port}/a.git/info/refs",
        "http://localhost:{port}/a.git/info/refs",
        "http://public.example.com@127.0.0.1:{port}/a.git/info/refs",
        "http://user:word@127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "file:///etc/passwd",
        "/b.git/info/refs",
    ],
)
async def test_a_redirect_leads_nowhere(location: str, connected: list[str]) -> None:
    """The listed server is asked once; the other one, which would answer too, never."""
    async with (
        server("127.0.0.1") as (second, other),
        server("127.0.0.2", location, second) as (port, first),
    ):
        git = asking(networks=("127.0.0.0/8",))
        with pytest.raises(errors.SourceUnfit) as refused:
            await git.resolve(f"http://public.example.com:{port}/a.git", None)
        await git.close()
    assert connected == ["127.0.0.2"]
    assert (len(first.paths), other.paths) == (1, [])
    assert "word" not in str(refused.value)


async def test_a_name_that_changes_its_address_reaches_only_what_was_checked(
    connected: list[str],
) -> None:
    async with server("127.0.0.1") as (closed, other), server("127.0.0.2") as (port, _):
        git = asking([["127.0.0.2"], ["127.0.0.1"]], networks=("127.0.0.2/32",))
        assert await git.resolve(f"http://changes.example.com:{port}/a.git", None) == SHA
        with pytest.raises(errors.SourceForbidden):
            await git.resolve(f"http://changes.example.com:{closed}/a.git", None)
        await git.close()
    assert connected == ["127.0.0.2"]
    assert other.paths == []


async def test_of_several_addresses_only_the_allowed_ones_are_tried(connected: list[str]) -> None:
    async with server("127.0.0.2") as (port, _):
        both = [["127.0.0.1", "169.254.169.254", "127.0.0.2"]]
        git = asking(both, networks=("127.0.0.2/32",))
        assert await git.resolve(f"http://both.example.com:{port}/a.git", None) == SHA
        await git.close()
    assert connected == ["127.0.0.2"]


async def test_no_credentials_and_no_cookies_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connected: list[str]
) -> None:
    """Not even where the process's own home has some for that host, and a proxy is named."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine public.example.com login a password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with server("127.0.0.2") as (port, heard):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://canary:canary@127.0.0.3:{port}")
        git = asking(networks=("127.0.0.0/8",))
        for _ in range(2):
            await git.resolve(f"http://public.example.com:{port}/a.git", None)
        await git.close()
    assert len(heard.headers) == 2
    for headers in heard.headers:
        assert not {"authorization", "cookie", "proxy-authorization"} & set(headers)
        assert "canary" not in str(headers)
    assert set(connected) == {"127.0.0.2"}


# --- the operator's own token -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["a pod's token", "a kubeconfig's token"])
async def test_an_api_server_that_redirects_leads_no_watch_s_token_elsewhere(way: str) -> None:
    async with (
        server("127.0.0.2") as (second, other),
        server("127.0.0.1", "http://127.0.0.2:{port}/a", second) as (port, first),
    ):
        known = "canary" if way == "a kubeconfig's token" else None
        address = f"http://127.0.0.1:{port}"
        where = kopf.ConnectionInfo(server=address, insecure=True, token=known)
        made = session(where, Watches(("Job",)), None if known else lambda: "canary")
        async with made.aiohttp_session.get(f"{where.server}/api/v1/pods"):
            pass
        await made.aiohttp_session.close()
    assert first.headers[0]["authorization"] == "Bearer canary"
    assert len(other.headers) == 1
    assert "canary" not in str(other.headers).replace("canary=1", "")


async def test_an_api_server_that_redirects_leads_no_request_s_token_elsewhere(
    tmp_path: Path,
) -> None:
    async with (
        server("127.0.0.2") as (second, other),
        server("127.0.0.1", "http://127.0.0.2:{port}/a", second) as (port, first),
    ):
        file = tmp_path / "kubeconfig"
        parts = {
            "clusters": [{"name": "t", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "t", "user": {"token": "canary"}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        }
        file.write_text(yaml.safe_dump({**parts, "kind": "Config", "current-context": "t"}))
        async with client.connect(str(file)) as api:
            with pytest.raises(errors.ClusterError):
                await api.get("Pod", "shop", "a")
    assert first.headers[0]["authorization"] == "Bearer canary"
    assert not [headers for headers in other.headers if "authorization" in headers]
