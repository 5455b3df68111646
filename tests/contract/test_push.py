"""Skopeo itself against docker-registry itself: the digest stays, and a failure is told.

Debian's packages skopeo and docker-registry are needed. The wordings of several versions are in
tests/unit/skopeo.yaml; this holds whichever version is here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from goservice.api.conditions import Reason
from goservice.build import skopeo
from testbed.apiserver.ports import free_port

DOCKER = "application/vnd.docker."
MANIFEST = DOCKER + "distribution.manifest.v2+json"
BCRYPT = "$2b$12$8BfBL3E30TItVOZyYASvhuZ6mZLP6U2kri95NSUMApPLQSnEUHs7a"
"""open-sesame"""
KEY = "Basic " + base64.b64encode(b"builder:open-sesame").decode()
"""The same, as the header Authorization has it."""

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("docker-registry")),
    reason="needs Debian's packages skopeo and docker-registry",
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that speaks plain HTTP and lets only builder in."""
    with _serving(tmp_path, locked=True) as address:
        yield address


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that lets everybody in: what stands before it asks for the password."""
    with _serving(tmp_path, locked=False) as address:
        yield address


@contextmanager
def _serving(tmp_path: Path, *, locked: bool) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "htpasswd").write_text(f"builder:{BCRYPT}\n")
    htpasswd = {"realm": "test", "path": str(tmp_path / "htpasswd")}
    configuration = tmp_path / "registry.json"
    # JSON is YAML.
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(tmp_path / "storage")}},
                **({"auth": {"htpasswd": htpasswd}} if locked else {}),
                "http": {"addr": address},
            }
        )
    )
    with (
        (tmp_path / "registry.log").open("wb") as log,
        subprocess.Popen(
            ["docker-registry", "serve", configuration], stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _answers(address, 401 if locked else 200)
            yield address
        finally:
            process.terminate()


def _answers(address: str, status: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/v2/")
            assert connection.getresponse().status == status
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _layout(folder: Path, file: str = "empty") -> str:
    """A layout as Kaniko writes it with --reproducible: a Docker manifest. Its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        (blobs / digest).chmod(0o600)
        return {"mediaType": kind, "size": len(content), "digest": f"sha256:{digest}"}

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(file))
    layer = blob(DOCKER + "image.rootfs.diff.tar.gzip", gzip.compress(archive.getvalue(), mtime=0))
    diff = hashlib.sha256(archive.getvalue()).hexdigest()
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
    }
    config = blob(DOCKER + "container.image.v1+json", json.dumps(configuration).encode())
    image = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    # Indented, so that writing it anew in another shape would change the digest.
    manifest = blob(MANIFEST, json.dumps(image, indent=3).encode())
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(manifest["digest"])


def _secret(folder: Path, registry: str, password: str) -> str:
    token = base64.b64encode(f"builder:{password}".encode()).decode()
    file = folder / "config.json"
    file.write_text(json.dumps({"auths": {registry: {"auth": token}}}))
    return str(file)


def _push(
    layout: Path, destination: str, *, authfile: str = "", insecure: bool = True
) -> tuple[int, str]:
    report = layout.with_suffix(".report")
    report.unlink(missing_ok=True)
    arguments = skopeo.arguments(
        str(layout), destination, report=str(report), authfile=authfile, insecure=insecure
    )
    ended = subprocess.run(
        [*skopeo.command(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(layout)},
    )
    return ended.returncode, ended.stdout


def _report(layout: Path) -> str:
    """What the last push of a layout told the operator of itself; empty if nothing."""
    report = layout.with_suffix(".report")
    return report.read_text().strip() if report.exists() else ""


def _held(registry: str, reference: str) -> str:
    """The digest of what a registry has under a tag or digest; empty if nothing."""
    connection = http.client.HTTPConnection(registry, timeout=10)
    headers = {"Accept": MANIFEST, "Authorization": KEY}
    connection.request("GET", f"/v2/shop/a/manifests/{reference}", headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    return f"sha256:{hashlib.sha256(content).hexdigest()}" if answer.status == 200 else ""


def test_the_registry_holds_the_digest_that_the_build_told(registry: str, tmp_path: Path) -> None:
    digest = _layout(tmp_path / "oci")
    authfile = _secret(tmp_path, registry, "open-sesame")
    code, log = _push(tmp_path / "oci", f"{registry}/shop/a:1", authfile=authfile)
    assert code == 0, log
    assert _held(registry, "1") == digest
    assert _report(tmp_path / "oci") == ""


def test_what_the_registry_refuses_is_told_from_what_does_not_answer(
    registry: str, tmp_path: Path
) -> None:
    _layout(tmp_path / "oci")
    wrong = _secret(tmp_path, registry, "wrong")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{closed.getsockname()[1]}"
        tries = {
            "no Secret": _push(tmp_path / "oci", f"{registry}/shop/a:1"),
            "wrong password": _push(tmp_path / "oci", f"{registry}/shop/a:1", authfile=wrong),
            "HTTPS": _push(tmp_path / "oci", f"{registry}/shop/a:1", insecure=False),
            "away": _push(tmp_path / "oci", f"{away}/denied/a:1"),
            "no layout": _push(tmp_path / "none", f"{registry}/shop/a:1"),
        }
    assert {code for code, _ in tries.values()} == {1}
    why = {name: skopeo.failure(log[-2048:]) for name, (_, log) in tries.items()}
    assert {name: reason and reason[0] for name, reason in why.items()} == {
        "no Secret": Reason.PUSH_DENIED,
        "wrong password": Reason.PUSH_DENIED,
        "HTTPS": Reason.REGISTRY_UNAVAILABLE,
        "away": Reason.REGISTRY_UNAVAILABLE,
        "no layout": Reason.BUILD_FAILED,
    }


@pytest.mark.parametrize("place", ["index.json", "oci-layout", "manifest", "config", "layer"])
def test_a_link_that_a_build_leaves_in_the_layout_tells_nothing_of_the_secret(
    place: str, registry: str, tmp_path: Path
) -> None:
    """User code can write there, and the Secret lies in the same file system while pushing."""
    layout = tmp_path / "oci"
    digest = _layout(layout)
    secret = _secret(tmp_path, registry, "open-sesame")
    blobs = layout / "blobs" / "sha256"
    image = json.loads((blobs / digest.partition(":")[2]).read_text())
    named = {
        "manifest": digest,
        "config": image["config"]["digest"],
        "layer": image["layers"][0]["digest"],
    }
    file = blobs / named[place].partition(":")[2] if place in named else layout / place
    file.unlink()
    file.symlink_to(secret)
    code, log = _push(layout, f"{registry}/shop/a:1", authfile=secret)
    assert "open-sesame" not in log
    assert base64.b64encode(b"builder:open-sesame").decode() not in log
    assert "auths" not in log
    storage = tmp_path / "storage"
    held = b"".join(path.read_bytes() for path in storage.rglob("data") if path.is_file())
    assert b"auths" not in held
    # Skopeo takes a layout without looking at its version file.
    assert (code == 0) == (place == "oci-layout"), log


# --- registries that keep tags as they are --------------------------------------------------------

KEPT = {
    "ECR": (
        400,
        "TAG_INVALID",
        "The image tag '1' already exists in the 'shop/a' repository and cannot be overwritten"
        " because the tag is immutable.",
    ),
    "Harbor": (
        412,
        "PRECONDITION",
        "Failed to process request due to 'shop/a:1' configured as immutable.",
    ),
    "Mirantis": (403, "UNKNOWN", "tag=1 cannot be overwritten because shop/a is immutable"),
    "Alibaba": (403, "DENIED", "The requested tag already exists and cannot be overwritten."),
    "Nexus": (400, "UNKNOWN", "Repository does not allow updating assets: shop"),
    "without words": (403, "DENIED", "requested access to the resource is denied"),
    "without JSON": (412, "", ""),
}
"""With what status, code and words registries refuse a tag that stands. ECR, Harbor, Mirantis, Alibaba
and Nexus as they are told of in public; then what is left where one says nothing of its tags."""

AWAY = (503, "UNAVAILABLE", "try again later")
"""What a registry says that is away for a moment."""


@contextmanager
def _keeping_tags(
    registry: str, *, refusal: tuple[int, str, str], of_digests: tuple[int, str, str] | None = None
) -> Iterator[str]:
    """A registry in front of another one, which refuses tags that stand, and digests where it says so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self._body()
            if self.headers.get("Authorization") != KEY:
                realm = [("WWW-Authenticate", 'Basic realm="test"')]
                self._answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', realm)
                return
            back = http.client.HTTPConnection(registry, timeout=30)
            # Host as it came: the registry's addresses of uploads then lead through here.
            headers = {n: ", ".join(self.headers.get_all(n) or ()) for n in set(self.headers)}
            back.request(self.command, self.path, body, headers)
            answer = back.getresponse()
            self._answer(answer.status, answer.read(), list(answer.getheaders()))

        def __getattr__(self, name: str) -> Any:
            """What is done with a method that changes no tag."""
            if name in ("do_GET", "do_HEAD", "do_POST", "do_PATCH"):
                return self._forward
            raise AttributeError(name)

        def do_PUT(self) -> None:
            reference = self.path.rpartition("/manifests/")[2]
            answer = refusal if reference != self.path and _held(registry, reference) else None
            if reference.startswith("sha256:"):
                answer = of_digests
            if answer is None:
                self._forward()
                return
            self._body()
            status, code, words = answer
            said = json.dumps({"errors": [{"code": code, "message": words}]}) if code else ""
            self._answer(status, said.encode(), [("Content-Type", "application/json")])

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(len(body))
            return body

        def _answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            told = {name.lower(): value for name, value in headers}
            length = told.get("content-length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: Any) -> None:
            """Nothing: what the test prints is enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_where_a_tag_is_kept_a_rebuild_is_pushed_by_its_digest(
    open_registry: str, tmp_path: Path
) -> None:
    first = _layout(tmp_path / "first")
    assert _push(tmp_path / "first", f"{open_registry}/shop/a:1")[0] == 0

    def again(name: str) -> tuple[str, int, str, str, str]:
        folder = tmp_path / name
        folder.mkdir()
        made = _layout(folder / "oci", file=name)
        with _keeping_tags(open_registry, refusal=KEPT[name]) as keeping:
            secret = _secret(folder, keeping, "open-sesame")
            code, log = _push(folder / "oci", f"{keeping}/shop/a:1", authfile=secret)
        return made, code, log, _report(folder / "oci"), _held(open_registry, made)

    with ThreadPoolExecutor(len(KEPT)) as pool:
        told = dict(zip(KEPT, pool.map(again, KEPT), strict=True))
    for name, (made, code, log, report, held) in told.items():
        assert (name, code) == (name, 0), log
        assert (name, report) == (name, made)
        assert (name, held) == (name, made)
        assert "open-sesame" not in log
    assert _held(open_registry, "1") == first


def test_where_a_tag_stands_for_the_very_image_nothing_is_to_be_said(
    open_registry: str, tmp_path: Path
) -> None:
    digest = _layout(tmp_path / "oci")
    assert _push(tmp_path / "oci", f"{open_registry}/shop/a:1")[0] == 0
    with _keeping_tags(open_registry, refusal=KEPT["ECR"], of_digests=AWAY) as keeping:
        secret = _secret(tmp_path, keeping, "open-sesame")
        code, log = _push(tmp_path / "oci", f"{keeping}/shop/a:1", authfile=secret)
    assert code == 0, log
    assert "stands for this very image" in log
    assert _report(tmp_path / "oci") == ""
    assert _held(open_registry, "1") == digest


def test_a_registry_that_takes_neither_tag_nor_digest_is_told_by_its_first_words(
    open_registry: str, tmp_path: Path
) -> None:
    _layout(tmp_path / "first")
    _layout(tmp_path / "oci", file="other")
    assert _push(tmp_path / "first", f"{open_registry}/shop/a:1")[0] == 0
    with _keeping_tags(open_registry, refusal=KEPT["ECR"], of_digests=AWAY) as keeping:
        secret = _secret(tmp_path, keeping, "open-sesame")
        code, log = _push(tmp_path / "oci", f"{keeping}/shop/a:1", authfile=secret)
    assert code == 1
    assert _report(tmp_path / "oci") == ""
    why = skopeo.failure(log[-2048:])
    assert why is not None
    assert why[0] is Reason.PUSH_DENIED
    assert "image.tag" in why[1]


def test_a_registry_that_is_away_for_a_moment_is_not_taken_for_one_that_keeps_tags(
    open_registry: str, tmp_path: Path
) -> None:
    _layout(tmp_path / "first")
    _layout(tmp_path / "oci", file="other")
    assert _push(tmp_path / "first", f"{open_registry}/shop/a:1")[0] == 0
    with _keeping_tags(open_registry, refusal=AWAY) as keeping:
        secret = _secret(tmp_path, keeping, "open-sesame")
        code, log = _push(tmp_path / "oci", f"{keeping}/shop/a:1", authfile=secret)
    assert code == 1
    assert "by its digest" not in log
    why = skopeo.failure(log[-2048:])
    assert why is not None
    assert why[0] is Reason.REGISTRY_UNAVAILABLE
