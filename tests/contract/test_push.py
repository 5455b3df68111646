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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goservice.api.conditions import Reason
from goservice.build import skopeo
from testbed.apiserver.ports import free_port

DOCKER = "application/vnd.docker."
MANIFEST = DOCKER + "distribution.manifest.v2+json"
BCRYPT = "$2b$12$8BfBL3E30TItVOZyYASvhuZ6mZLP6U2kri95NSUMApPLQSnEUHs7a"
"""open-sesame"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("docker-registry")),
    reason="needs Debian's packages skopeo and docker-registry",
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that speaks plain HTTP and lets only builder in."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "htpasswd").write_text(f"builder:{BCRYPT}\n")
    configuration = tmp_path / "registry.json"
    # JSON is YAML.
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(tmp_path / "storage")}},
                "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}},
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
            _answers(address)
            yield address
        finally:
            process.terminate()


def _answers(address: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/v2/")
            assert connection.getresponse().status == 401
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _layout(folder: Path) -> str:
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
        tar.addfile(tarfile.TarInfo("empty"))
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
    arguments = skopeo.arguments(str(layout), destination, authfile=authfile, insecure=insecure)
    ended = subprocess.run(
        [*skopeo.COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(layout)},
    )
    return ended.returncode, ended.stdout


def test_the_registry_holds_the_digest_that_the_build_told(registry: str, tmp_path: Path) -> None:
    digest = _layout(tmp_path / "oci")
    authfile = _secret(tmp_path, registry, "open-sesame")
    code, log = _push(tmp_path / "oci", f"{registry}/shop/a:1", authfile=authfile)
    assert code == 0, log
    connection = http.client.HTTPConnection(registry, timeout=10)
    token = base64.b64encode(b"builder:open-sesame").decode()
    headers = {"Accept": MANIFEST, "Authorization": f"Basic {token}"}
    connection.request("GET", "/v2/shop/a/manifests/1", headers=headers)
    content = connection.getresponse().read()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest


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
