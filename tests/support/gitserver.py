"""Real repositories behind a git server on loopback, and `fetch` on them as the build pod runs it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

from goservice.fetch import main

REAL_GIT = shutil.which("git") or "git"
"""Found before a test puts another git first on PATH."""
BACKEND = Path(subprocess.check_output([REAL_GIT, "--exec-path"], text=True).strip())
"""The folder of `git http-backend`."""
IDENTITY = {
    "GIT_AUTHOR_NAME": "A. Author",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "1790000000 +0200",
    "GIT_COMMITTER_NAME": "A. Author",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_COMMITTER_DATE": "1790000000 +0200",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""Author, committer and dates of every commit: equal content is the same commit. Nothing of the
machine's own configuration."""
SERVED = {
    "safe.directory": "*",
    "http.uploadpack": "true",
}
"""What the repositories' owner and http-backend must be told."""
FORMAT = b"0017object-format=sha1\n"
"""What a server of version 2 says of its objects' names since git 2.28."""

Report = dict[str, str]
"""The JSON that `fetch` leaves as its termination message."""
Run = Callable[..., tuple[int, Report]]
"""Calls `fetch` with a URL and a commit; the exit code and the report."""


def git(folder: Path, *arguments: str, given: bytes = b"", **environment: str) -> str:
    done = subprocess.run(
        [REAL_GIT, "-C", str(folder), *arguments],
        env={**os.environ, **IDENTITY, **environment},
        input=given,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


class Handler(http.server.BaseHTTPRequestHandler):
    """A git server; the first folder of a path chooses how it behaves."""

    root = ""
    seen: list[tuple[str, dict[str, str]]]
    closing: threading.Event

    def do_GET(self) -> None:
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        mode = self.path.split("/")[1]
        if mode.isdigit():
            self.send_response(int(mode))
            if mode == "401":
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Location", self.path.replace(f"/{mode}/", "/new/", 1))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif mode == "html":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>\x1b[31msecret</title>")
        elif mode == "hang":
            self.closing.wait(10)
        elif mode == "login":
            self.send_response(302)
            self.send_header("Location", "https://sso.example.com/login?next=repository")
            self.end_headers()
        elif mode == "dumb":
            self._file(self.path.partition("?")[0].removeprefix("/dumb/"))
        else:
            self._backend(mode)

    do_POST = do_GET  # noqa: N815

    def _file(self, name: str) -> None:
        """A plain web server: what lies there, as `git update-server-info` left it."""
        file = Path(self.root, name.replace("a.git/", "a.git/.git/"))
        self.send_response(200 if file.is_file() else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(file.read_bytes() if file.is_file() else b"")

    def _backend(self, mode: str) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if mode == "old" and b"object-format" in body:
            # git 2.18 to 2.27: "unknown capability", into its log, and no answer.
            body = b""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path.removeprefix(f"/{mode}") if mode in ("v0", "old") else path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": str(len(SERVED)),
        }
        for number, (key, value) in enumerate(SERVED.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        if mode != "v0":
            environment["HTTP_GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(
            [str(BACKEND / "git-http-backend")],
            input=body,
            env=environment,
            capture_output=True,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        if mode == "old":
            content = content.replace(FORMAT, b"")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @override
    def log_message(self, *arguments: Any) -> None:
        pass


class Origin:
    """A server's address, what it was asked, and the work tree that it serves as a.git."""

    def __init__(
        self, root: Path, server: http.server.ThreadingHTTPServer, seen: Any, *options: str
    ) -> None:
        self.address = f"http://127.0.0.1:{server.server_port}"
        self.url = f"{self.address}/a.git"
        self.work = root / "a.git"
        self.seen: list[tuple[str, dict[str, str]]] = seen
        self.work.mkdir(parents=True)
        git(self.work, "init", "-q", "-b", "main", *options)

    def commit(
        self,
        files: dict[str, str] | None = None,
        links: dict[str, str] | None = None,
        subject: str = "Take payments",
        **environment: str,
    ) -> str:
        for name, text in (files or {}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name, target in (links or {}).items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        git(self.work, "add", "-A")
        return self.commit_index(subject, **environment)

    def commit_index(self, subject: str = "Take payments", **environment: str) -> str:
        arguments = ("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", "-")
        git(self.work, *arguments, given=subject.encode(), **environment)
        return git(self.work, "rev-parse", "HEAD")

    def object(self, kind: str, content: bytes) -> str:
        arguments = ("hash-object", "-t", kind, "-w", "--stdin", "--literally")
        return git(self.work, *arguments, given=content)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Origin]:
    """A server of the repositories in a folder; the options are those of git init."""
    seen: list[Any] = []
    closing = threading.Event()
    members = {"root": str(folder), "seen": seen, "closing": closing}
    handler = type("Served", (Handler,), members)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Origin(folder, server, seen, *options)
    closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def fetching(log: Path, tree: Path) -> Run:
    """`fetch` into a folder: its exit code and its report, which is checked for its form."""

    def call(url: str, commit: str, **more: str) -> tuple[int, Report]:
        arguments = {"into": str(tree), "termination_log": str(log), **more}
        code = main.main(url, commit, **arguments)
        written = log.read_bytes()
        assert len(written) < 4096
        assert written.endswith(b"\n")
        assert written.count(b"\n") == 1
        assert not any(byte < 32 or byte == 127 for byte in written[:-1])
        report: Report = json.loads(written)
        assert set(report) == (
            {"reason", "message"} if code else {"commit", "time", "author", "subject", "go", "arch"}
        )
        return code, report

    return call


GOOD = {
    "go.mod": 'module example.com/a // why\n\ngo 1.26.1\n\ntoolchain "go1.27.0"\n',
    "main.go": "package main\n\nfunc main() {}\n",
}
"""The files of a module that is accepted."""


def failed(outcome: tuple[int, Report], reason: str, *words: str) -> str:
    code, report = outcome
    assert code == 1
    assert report["reason"] == reason
    for word in words:
        assert word in report["message"]
    return report["message"]
