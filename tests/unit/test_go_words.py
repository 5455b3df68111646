"""What Go says of broken repositories, as it said it, and what the status makes of it."""

from __future__ import annotations

import time

import pytest

from goservice.api.conditions import Reason
from goservice.build import kaniko
from goservice.build.pod import first_error

SAID = {
    "cgo": (
        "package example.com/a: build constraints exclude all Go files in /build/src",
        Reason.NO_MAIN_PACKAGE,
        'import "C"',
    ),
    "go.work too new": (
        "go: ../go.work requires go >= 1.99 (running go 1.26.8; GOTOOLCHAIN=local)",
        Reason.GO_VERSION_TOO_OLD,
        "../go.work asks for Go 1.99 and the builder has 1.26.8: set build.builderImage",
    ),
    "go.work too old": (
        "go: module . listed in go.work file requires go >= 1.24.0, but go.work lists go 1.21; to update it:\n\tgo work use",
        Reason.GO_VERSION_TOO_OLD,
        "go.work says go 1.21",
    ),
    "dependency too new": (
        "go: module ./lib requires go >= 1.99.0 (running go 1.26.8; GOTOOLCHAIN=local)",
        Reason.GO_VERSION_TOO_OLD,
        "./lib asks for Go 1.99.0",
    ),
    "dependency of a proxy too new": (
        "go: cases.test/lib@v0.1.0: module cases.test/lib@v0.1.0 requires go >= 1.99.0 (running go 1.26.8; GOTOOLCHAIN=local)",
        Reason.GO_VERSION_TOO_OLD,
        "cases.test/lib@v0.1.0 asks for Go 1.99.0",
    ),
    "replace outside": (
        "main.go:2:8: cases.test/lib@v0.0.0: replacement directory ../elsewhere does not exist",
        Reason.MODULE_DOWNLOAD_FAILED,
        "../elsewhere",
    ),
    "replace by a submodule": (
        "go: cases.test/lib@v0.0.0 (replaced by ./third_party/lib): reading third_party/lib/go.mod: open /build/src/third_party/lib/go.mod: no such file or directory",
        Reason.MODULE_DOWNLOAD_FAILED,
        "submodules",
    ),
    "merge marks": (
        "go: errors parsing go.mod:\ngo.mod:2: unknown directive: <<<<<<<\ngo.mod:4: unknown directive: =======",
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod:2: unknown directive: <<<<<<<",
    ),
    "byte order mark": (
        "go: errors parsing go.mod:\ngo.mod:1: unexpected input character '\\ufeff'",
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.mod:1: unexpected input character",
    ),
    "embed without files": (
        "main.go:3:12: pattern static/*: no matching files found",
        Reason.COMPILE_FAILED,
        "pattern static/*: no matching files found",
    ),
    "internal package": (
        "package a.b/c\n\tmain.go:2:8: use of internal package cases.test/lib/internal/x not allowed",
        Reason.COMPILE_FAILED,
        "use of internal package",
    ),
    "import cycle": (
        "package example.com/a\n\timports example.com/a/x from main.go\n\timports example.com/a/x from y.go: import cycle not allowed",
        Reason.COMPILE_FAILED,
        "import cycle not allowed",
    ),
    "no func main": (
        "# example.com/a\nruntime.main_main·f: function main is undeclared in the main package",
        Reason.COMPILE_FAILED,
        "function main is undeclared",
    ),
    "two packages": (
        "found packages main (main.go) and other (o.go) in /build/src",
        Reason.COMPILE_FAILED,
        "main (main.go) and other (o.go)",
    ),
    "not in std": (
        "main.go:2:8: package foo/bar is not in std (/usr/local/go/src/foo/bar)",
        Reason.COMPILE_FAILED,
        "package foo/bar is not in std",
    ),
    "language too old": (
        "# a.b/c\n./main.go:2:8: type parameter requires go1.18 or later (-lang was set to go1.17; check go.mod)",
        Reason.COMPILE_FAILED,
        "requires go1.18 or later",
    ),
    "not in the workspace": (
        "current directory is contained in a module that is not one of the workspace modules listed in go.work. You can add the module to the workspace using:\n\tgo work use .",
        Reason.MODULE_DOWNLOAD_FAILED,
        "go work use",
    ),
    "syntax": (
        "# example.com/a\n./main.go:3:1: syntax error: unexpected EOF, expected }",
        Reason.COMPILE_FAILED,
        "./main.go:3:1: syntax error",
    ),
    "case collision": (
        'main.go:3:1: case-insensitive import collision: "example.com/a/x" and "example.com/a/X"',
        Reason.COMPILE_FAILED,
        "import collision",
    ),
    "no go.sum entry": (
        "main.go:2:8: missing go.sum entry for module providing package cases.test/lib (imported by a.b/c); to add:\n\tgo get a.b/c",
        Reason.MODULE_DOWNLOAD_FAILED,
        "go.sum",
    ),
    "missing body": (
        "# example.com/a\n./main.go:2:6: missing function body",
        Reason.COMPILE_FAILED,
        "missing function body",
    ),
    "no such package": (
        "stat /build/src/cmd/nothere: directory not found",
        Reason.NO_MAIN_PACKAGE,
        "build.package",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_go_said_has_a_name(name: str) -> None:
    text, reason, words = SAID[name]
    found = kaniko.failure(
        f"INFO[0012] Running: [go build]\n{text}\nerror building image: exit status 1"
    )
    assert found is not None
    assert found[0] is reason
    assert words in found[1]


def test_an_unknown_error_is_told_by_its_first_line() -> None:
    log = "INFO[0012] Running\nlinking\ngo: an error nobody has seen\nmore\nerror building image: exit status 1"
    assert first_error(log) == "go: an error nobody has seen"
    assert first_error("what?") == ""


@pytest.mark.parametrize(
    "piece", ["a", ".", "/", " ", "a.go:1", "\n", "1", "a@b: ", "module ", "go.work "]
)
def test_hostile_logs_cost_what_they_are_long(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        best = 1e9
        for _ in range(3):
            begun = time.process_time()
            kaniko.failure(text)
            first_error(text)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(4096) < 0.5
