"""Typical mistakes of Go projects, built by the real Go: each ends with a reason and Go's own words.

What a build does is done here to a folder: `fetch` looks at the module, then Go compiles with the
command that is rendered. `BuildFailed` is left for what Go said nothing about.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typing_extensions import override

from goservice.api.conditions import Reason
from goservice.build import dockerfile, kaniko
from goservice.build.outcome import Failed
from goservice.fetch import module, pointers
from goservice.fetch.checkout import Checkout, Refused
from testbed.node import programs
from tests.support import dockerfiles
from tests.support import factories as f

MAIN = "package main\n\nfunc main() {}\n"
MOD = "module example.com/a\n\ngo 1.25\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4096\n"

Broken = tuple[Mapping[str, str], Reason, str]

BROKEN: dict[str, Broken] = {
    "no go.mod": ({"main.go": MAIN}, Reason.NO_GO_MOD, "go mod init"),
    "go.mod in a folder": (
        {"api/go.mod": MOD, "api/main.go": MAIN},
        Reason.NO_GO_MOD,
        "set it to a folder that has one: api",
    ),
    "an undefined name": (
        {"go.mod": MOD, "main.go": "package main\n\nfunc main() { serve() }\n"},
        Reason.COMPILE_FAILED,
        "./main.go:3:15: undefined: serve",
    ),
    "an unused import": (
        {"go.mod": MOD, "main.go": 'package main\n\nimport "os"\n\nfunc main() {}\n'},
        Reason.COMPILE_FAILED,
        '"os" imported and not used',
    ),
    "an unused variable": (
        {"go.mod": MOD, "main.go": "package main\n\nfunc main() { x := 1 }\n"},
        Reason.COMPILE_FAILED,
        "declared and not used: x",
    ),
    "a syntax error": (
        {"go.mod": MOD, "main.go": "package main\n\nfunc main() {\n"},
        Reason.COMPILE_FAILED,
        "syntax error",
    ),
    "a type error": (
        {"go.mod": MOD, "main.go": 'package main\n\nvar x int = "a"\n\nfunc main() {}\n'},
        Reason.COMPILE_FAILED,
        "cannot use",
    ),
    "a merge mark in a program": (
        {"go.mod": MOD, "main.go": "<<<<<<< HEAD\npackage main\n\nfunc main() {}\n"},
        Reason.NO_MAIN_PACKAGE,
        "holds no Go files",
    ),
    "no func main": (
        {"go.mod": MOD, "main.go": "package main\n\nfunc Main() {}\n"},
        Reason.COMPILE_FAILED,
        "function main is undeclared",
    ),
    "two func main": (
        {"go.mod": MOD, "main.go": MAIN, "other.go": MAIN},
        Reason.COMPILE_FAILED,
        "main redeclared",
    ),
    "two packages in a folder": (
        {"go.mod": MOD, "main.go": MAIN, "lib.go": "package lib\n"},
        Reason.COMPILE_FAILED,
        "lib (lib.go) and main (main.go)",
    ),
    "a library": (
        {"go.mod": MOD, "lib.go": "package lib\n", "cmd/a/main.go": MAIN},
        Reason.NO_MAIN_PACKAGE,
        "Main packages here: ./cmd/a",
    ),
    "only a magefile": (
        {"go.mod": MOD, "magefile.go": "//go:build mage\n\n" + MAIN},
        Reason.NO_MAIN_PACKAGE,
        "magefile.go leaves it out",
    ),
    "for Windows only": (
        {"go.mod": MOD, "main_windows.go": MAIN},
        Reason.NO_MAIN_PACKAGE,
        "main_windows.go leaves it out",
    ),
    "only tests": (
        {"go.mod": MOD, "main_test.go": MAIN},
        Reason.NO_MAIN_PACKAGE,
        "no Go files but tests",
    ),
    "cgo": (
        {"go.mod": MOD, "main.go": 'package main\n\nimport "C"\n\nfunc main() {}\n'},
        Reason.COMPILE_FAILED,
        "main.go imports C",
    ),
    "cgo in a package": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport _ "example.com/a/db"\n\nfunc main() {}\n',
            "db/db.go": 'package db\n\nimport "C"\n',
        },
        Reason.NO_MAIN_PACKAGE,
        "without cgo",
    ),
    "a package that is not there": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport _ "example.com/a/db"\n\nfunc main() {}\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "no required module provides package example.com/a/db",
    ),
    "a misspelt package of Go": (
        {"go.mod": MOD, "main.go": 'package main\n\nimport _ "net/htp"\n\nfunc main() {}\n'},
        Reason.COMPILE_FAILED,
        "package net/htp is not in std",
    ),
    "another case of a file": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport _ "example.com/a/Store"\n\nfunc main() {}\n',
            "store/store.go": "package store\n",
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "no required module provides package example.com/a/Store",
    ),
    "a module that go.mod does not name": (
        {"go.mod": MOD, "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n'},
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod",
    ),
    "no go.sum": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\n",
            "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.sum",
    ),
    "a module that no proxy has": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\n",
            "go.sum": "example.com/b v1.0.0 h1:" + "A" * 43 + "=\n"
            "example.com/b v1.0.0/go.mod h1:" + "A" * 43 + "=\n",
            "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "build.modules.proxy",
    ),
    "a replacement beside the repository": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\nreplace example.com/b => ../b\n",
            "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "../b",
    ),
    "a replacement of somebody's machine": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\nreplace example.com/b => /home/me/b\n",
            "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "/home/me/b",
    ),
    "a submodule": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\nreplace example.com/b => ./third/b\n",
            "main.go": 'package main\n\nimport _ "example.com/b"\n\nfunc main() {}\n',
            ".gitmodules": '[submodule "b"]\n\tpath = third/b\n\turl = ../b\n',
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "submodules",
    ),
    "merge marks in go.mod": (
        {
            "go.mod": "module example.com/a\n\n<<<<<<< HEAD\ngo 1.25\n=======\ngo 1.24\n>>>>>>> b\n",
            "main.go": MAIN,
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod:3",
    ),
    "a byte order mark in go.mod": (
        {"go.mod": "\ufeff" + MOD, "main.go": MAIN},
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod:1",
    ),
    "a misspelt line of go.mod": (
        {"go.mod": MOD + "\nrequires example.com/b v1.0.0\n", "main.go": MAIN},
        Reason.MODULE_DOWNLOAD_FAILED,
        "unknown directive: requires",
    ),
    "a version without v": (
        {"go.mod": MOD + "\nrequire example.com/b 1.0.0\n", "main.go": MAIN},
        Reason.MODULE_DOWNLOAD_FAILED,
        "example.com/b",
    ),
    "a version of another major": (
        {"go.mod": MOD + "\nrequire example.com/b v2.0.0\n", "main.go": MAIN},
        Reason.MODULE_DOWNLOAD_FAILED,
        "example.com/b",
    ),
    "no module line": (
        {"go.mod": "go 1.25\n", "main.go": MAIN},
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod",
    ),
    "a vendored tree that is behind": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\n",
            "vendor/modules.txt": "# example.com/c v1.0.0\n",
            "main.go": MAIN,
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod, go.sum",
    ),
    "an import cycle": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport _ "example.com/a/x"\n\nfunc main() {}\n',
            "x/x.go": 'package x\n\nimport _ "example.com/a/y"\n',
            "y/y.go": 'package y\n\nimport _ "example.com/a/x"\n',
        },
        Reason.COMPILE_FAILED,
        "import cycle not allowed",
    ),
    "an internal package of others": (
        {
            "go.mod": MOD + "\nrequire example.com/b v1.0.0\nreplace example.com/b => ./b\n",
            "b/go.mod": "module example.com/b\n\ngo 1.25\n",
            "b/internal/x/x.go": "package x\n",
            "main.go": 'package main\n\nimport _ "example.com/b/internal/x"\n\nfunc main() {}\n',
        },
        Reason.COMPILE_FAILED,
        "use of internal package example.com/b/internal/x not allowed",
    ),
    "a main package that is imported": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport _ "example.com/a/cmd"\n\nfunc main() {}\n',
            "cmd/main.go": MAIN,
        },
        Reason.COMPILE_FAILED,
        "is a program, not an importable package",
    ),
    "files to embed that are not committed": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport "embed"\n\n//go:embed dist\nvar files embed.FS\n\nfunc main() { _ = files }\n',
        },
        Reason.COMPILE_FAILED,
        "pattern dist: no matching files found",
    ),
    "a file to embed in LFS": (
        {
            "go.mod": MOD,
            "main.go": 'package main\n\nimport "embed"\n\n//go:embed logo.png\nvar files embed.FS\n\nfunc main() { _ = files }\n',
            "logo.png": LFS,
        },
        Reason.UNSAFE_SOURCE,
        "logo.png lies in Git LFS",
    ),
    "a go line that is too new": (
        {"go.mod": "module example.com/a\n\ngo 1.99\n", "main.go": MAIN},
        Reason.GO_VERSION_TOO_OLD,
        "1.99",
    ),
    "a go.work that is too new": (
        {"go.mod": MOD, "main.go": MAIN, "go.work": "go 1.99\n\nuse .\n"},
        Reason.GO_VERSION_TOO_OLD,
        "go.work",
    ),
    "a go.work that is older than its module": (
        {"go.mod": MOD, "main.go": MAIN, "go.work": "go 1.21\n\nuse .\n"},
        Reason.GO_VERSION_TOO_OLD,
        "go work use",
    ),
    "a go.work without the module": (
        {
            "go.mod": MOD,
            "main.go": MAIN,
            "go.work": "go 1.25\n\nuse ./b\n",
            "b/go.mod": "module example.com/b\n\ngo 1.25\n",
        },
        Reason.MODULE_DOWNLOAD_FAILED,
        "go work use",
    ),
    "a go.work with a folder that is gone": (
        {"go.mod": MOD, "main.go": MAIN, "go.work": "go 1.25\n\nuse (\n\t.\n\t./gone\n)\n"},
        Reason.MODULE_DOWNLOAD_FAILED,
        "gone",
    ),
    "generics in an old language": (
        {
            "go.mod": "module example.com/a\n\ngo 1.17\n",
            "main.go": "package main\n\nfunc f[T any](t T) {}\n\nfunc main() { f(1) }\n",
        },
        Reason.COMPILE_FAILED,
        "requires go1.18 or later",
    ),
    "a function without a body": (
        {"go.mod": MOD, "main.go": "package main\n\nfunc main()\n"},
        Reason.COMPILE_FAILED,
        "missing function body",
    ),
}


class _Proxy(http.server.BaseHTTPRequestHandler):
    """A module proxy that has no module."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"not found")

    @override
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def built(tree: Path, proxy: str, caches: Path) -> tuple[Reason, str] | None:
    """What becomes of a build of these files; None if it makes a program."""
    wanted = Checkout("https://h/r", "a" * 40, "", ".", ".", "1.26")
    try:
        module.check_module(wanted, tree)
        module.check_package(wanted, tree)
        pointers.check(wanted, tree)
    except Refused as refused:
        return refused.reason, str(refused)
    rendered = dockerfiles.parse(dockerfile.render(f.service(), f.SETTINGS, f.COMMIT))
    commands = [i.arguments for i in rendered if i.name == "RUN"]
    (command,) = (words for words in commands if words[:2] == ("go", "build"))
    output = caches / "program"
    words = [str(output) if word.startswith("/out/rootfs") else word for word in command[1:]]
    done = subprocess.run(
        [programs.go(), *words],
        cwd=tree,
        env={
            **os.environ, "GOPROXY": proxy, "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "",
            "CGO_ENABLED": "0", "GOWORK": "", "GOMODCACHE": str(caches / "mod"),
        },
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    log = f"INFO[0012] Running: [go build]\n{done.stdout}{done.stderr}error building image: exit status 1"
    service = f.service()
    job = f.job(service, ended="Failed", ended_reason="BackoffLimitExceeded")
    ends = [
        f.terminated("fetch", 0, json.dumps({"commit": f.COMMIT})),
        f.terminated("build", 1, log),
    ]
    found = kaniko.outcome(job, f.pod(job, init=ends, main=[]))
    assert isinstance(found, Failed)
    return found.reason, found.message


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("go")


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_is_told_in_gos_words(
    name: str, tmp_path: Path, proxy: str, caches: Path
) -> None:
    files, reason, words = BROKEN[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = built(tmp_path, proxy, caches)
    assert found is not None, "it was built"
    assert found[0] is reason, found[1]
    assert words in found[1]


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 40
    assert {reason for _, reason, _ in BROKEN.values()} >= {
        Reason.NO_GO_MOD, Reason.NO_MAIN_PACKAGE, Reason.COMPILE_FAILED, Reason.UNSAFE_SOURCE,
        Reason.MODULE_DOWNLOAD_FAILED, Reason.GO_VERSION_TOO_OLD,
    }  # fmt: skip


def test_what_builds_elsewhere_builds_here(tmp_path: Path, proxy: str, caches: Path) -> None:
    """A workspace with a module, and a test's module, that no proxy has."""
    for path, text in {
        "go.mod": MOD + "\nrequire (\n\texample.com/b v0.0.0\n\texample.com/testkit v1.0.0\n)\n",
        "go.sum": "example.com/testkit v1.0.0/go.mod h1:" + "A" * 43 + "=\n",
        "main.go": 'package main\n\nimport "example.com/b"\n\nfunc main() { b.Do() }\n',
        "main_test.go": 'package main\n\nimport _ "example.com/testkit"\n',
        "go.work": "go 1.25\n\nuse (\n\t.\n\t./b\n)\n\nreplace example.com/testkit => ./kit\n",
        "b/go.mod": "module example.com/b\n\ngo 1.25\n",
        "b/b.go": "package b\n\nfunc Do() {}\n",
        "kit/go.mod": "module example.com/testkit\n\ngo 1.25\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert built(tmp_path, proxy, caches) is None
