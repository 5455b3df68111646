"""fetch on real repositories, over smart HTTP on loopback, one test for each way to fail."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goservice import fetch

BACKEND = "/usr/lib/git-core/git-http-backend"
IDENTITY = {
    "GIT_AUTHOR_NAME": "A. \x1b[31mAuthor",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A. Author",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **IDENTITY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


class Handler(http.server.BaseHTTPRequestHandler):
    root = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/private/"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path.startswith("/moved/"):
            self.send_response(301)
            self.send_header("Location", self.path.replace("/moved/", "/", 1))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            [BACKEND], input=body, env=environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A git server's address and the work tree whose commits it serves after `publish`."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    handler = type("Served", (Handler,), {"root": str(tmp_path / "served")})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", work
    server.shutdown()
    server.server_close()
    thread.join()


GOOD = {
    "go.mod": 'module example.com/a // why\n\ngo 1.26.1\n\ntoolchain "go1.27.0"\n',
    "main.go": "package main\n\nfunc main() {}\n",
}


def publish(work: Path, files: dict[str, str], subject: str = "Take payments") -> str:
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-q", "--allow-empty", "-m", subject)
    served = work.parent / "served" / "a.git"
    if not served.exists():
        served.parent.mkdir(exist_ok=True)
        git(work, "clone", "-q", "--bare", str(work), str(served))
        git(work, "remote", "add", "served", str(served))
    git(work, "push", "-q", "--force", "served", "main")
    return git(work, "rev-parse", "HEAD")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, dict[str, str]]]:
    def call(url: str, commit: str, **more: str) -> tuple[int, dict[str, str]]:
        log = tmp_path / "termination-log"
        code = fetch.main(
            url, commit, into=str(tmp_path / "tree"), termination_log=str(log), **more
        )
        assert len(log.read_bytes()) < 4096
        return code, json.loads(log.read_text())

    return call


Run = Callable[..., tuple[int, dict[str, str]]]


def test_a_good_commit(origin: tuple[str, Path], run: Run, tmp_path: Path) -> None:
    address, work = origin
    commit = publish(work, GOOD, "Take \x07payments " + "ü" * 300)
    code, report = run(f"{address}/a.git", commit, go_version="1.27")
    assert code == 0
    assert report["commit"] == commit
    assert report["go"] == "1.26.1"
    assert report["toolchain"] == "go1.27.0"
    assert "\x1b" not in report["author"]
    assert report["subject"].startswith("Take")
    assert len(report["subject"].encode()) <= 200
    assert not (tmp_path / "tree" / ".git").exists()
    assert (tmp_path / "tree" / "main.go").is_file()


def test_an_older_commit_of_a_branch(origin: tuple[str, Path], run: Run) -> None:
    address, work = origin
    commit = publish(work, GOOD)
    publish(work, {"more.go": "package main\n"})
    assert run(f"{address}/a.git", commit, revision="main")[0] == 0


@pytest.mark.parametrize(
    ("path", "commit", "reason"),
    [
        ("/a.git", "f" * 40, "RevisionNotFound"),
        ("/a.git", "main", "RevisionNotFound"),
        ("/private/a.git", "", "GitAuthenticationFailed"),
        ("/none.git", "", "GitAuthenticationFailed"),
        ("/moved/a.git", "", "GitUnavailable"),
    ],
)
def test_the_repository_says_no(
    origin: tuple[str, Path], run: Run, path: str, commit: str, reason: str
) -> None:
    address, work = origin
    head = publish(work, GOOD)
    code, report = run(address + path, commit or head)
    assert code == 1
    assert report["reason"] == reason
    assert report["message"]


@pytest.mark.parametrize(
    "url", ["file:///etc", "ext::sh -c id", "/etc", "http://127.0.0.1:1/a.git"]
)
def test_other_addresses_are_not_followed(run: Run, url: str) -> None:
    code, report = run(url, "a" * 40)
    assert code == 1
    assert report["reason"] == "GitUnavailable"


@pytest.mark.parametrize(
    ("files", "more", "reason", "word"),
    [
        ({"sub/go.mod": "module a\n", "main.go": "package main\n"}, {}, "NoGoMod", "sub"),
        (
            {**GOOD, "main.go": "package a\n", "cmd/x/main.go": "package main\n"},
            {},
            "NoMainPackage",
            "./cmd/x",
        ),
        (
            {**GOOD, "main.go": "//go:build ignore\n\npackage main\n"},
            {},
            "NoMainPackage",
            "spec.build.package",
        ),
        (
            {**GOOD, "main.go": "package a\n", "main_test.go": "package main\n"},
            {},
            "NoMainPackage",
            "spec.build.package",
        ),
        (GOOD, {"package": "./cmd/none"}, "NoMainPackage", "."),
        (GOOD, {"go_version": "1.25"}, "GoVersionTooOld", "1.25"),
    ],
)
def test_what_rendering_assumes(
    origin: tuple[str, Path],
    run: Run,
    files: dict[str, str],
    more: dict[str, str],
    reason: str,
    word: str,
) -> None:
    address, work = origin
    code, report = run(f"{address}/a.git", publish(work, files), **more)
    assert code == 1
    assert report["reason"] == reason
    assert word in report["message"]


@pytest.mark.parametrize(
    "links",
    [
        {"evil": "/kaniko/.docker"},
        {"evil": "../outside"},
        {"a/evil": "../../outside"},
        {"hop": "evil", "evil": "/etc"},
        {"dir": "..", "evil": "dir/x"},
    ],
)
def test_links_out_are_refused(origin: tuple[str, Path], run: Run, links: dict[str, str]) -> None:
    address, work = origin
    for name, target in links.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).symlink_to(target)
    code, report = run(f"{address}/a.git", publish(work, GOOD))
    assert code == 1
    assert report["reason"] == "UnsafeSource"
    assert "outside" in report["message"]


def test_links_inside_are_fine(origin: tuple[str, Path], run: Run) -> None:
    address, work = origin
    (work / "real").mkdir()
    (work / "real" / "file").write_text("x")
    (work / "link").symlink_to("real")
    (work / "deep").symlink_to("link/file")
    (work / "here").symlink_to(".")
    assert run(f"{address}/a.git", publish(work, GOOD))[0] == 0


def test_a_builder_without_patch_takes_any_patch(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a\ngo 1.27.3\n")
    (tmp_path / "main.go").write_text("/* package x */\npackage main\n")
    assert fetch.verified(tmp_path, ".", ".", "1.27").go == "1.27.3"
    with pytest.raises(fetch.Refused, match=r"1\.27\.2"):
        fetch.verified(tmp_path, ".", ".", "1.27.2")


def test_an_unwritable_place_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").write_text("a file")
    code, report = run("http://127.0.0.1:1/a.git", "a" * 40)
    assert code == 1
    assert report["reason"] == "GitUnavailable"
