"""Where Go comes from, what is kept between builds, and the scripts that lay both out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from goservice.api.conditions import Reason
from goservice.build import kaniko, toolchain
from goservice.build.inputs import inputs_hash
from goservice.settings import Settings
from tests.support import factories as f

GO = Path(__file__).with_name("fake-go.sh").read_text()


def platform(**builds: Any) -> Settings:
    changed = f.SETTINGS.builds.model_copy(update=builds)
    return f.SETTINGS.model_copy(update={"builds": changed})


# --- whether it is mounted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "mounted"),
    [
        ({}, True),
        ({"toolchain": "Image"}, False),
        ({"packages": ["tzdata"]}, False),
        ({"builderImage": "golang:1.26-trixie"}, True),
        ({"builderImage": "registry.example.com/library/golang:1.21.0"}, True),
        ({"builderImage": "golang:1.20-alpine3.18"}, False),
        ({"builderImage": "golang:latest"}, False),
        ({"builderImage": "registry.example.com/builder:1.27"}, False),
        ({"builderImage": "registry.example.com/builder:1.27", "toolchain": "Mounted"}, True),
    ],
)
def test_go_is_mounted_wherever_that_can_be(build: dict[str, Any], mounted: bool) -> None:
    assert toolchain.mounted(f.service(build=build), f.SETTINGS) is mounted


def test_a_platform_may_choose_the_image() -> None:
    image = platform(toolchain="Image")
    assert not toolchain.mounted(f.service(), image)
    assert toolchain.mounted(f.service(build={"toolchain": "Mounted"}), image)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("golang:1.27-alpine3.24", "1.27"),
        ("golang:1.26.7", "1.26"),
        ("registry.example.com:5000/library/golang:1.27.3-trixie@sha256:" + "0" * 64, "1.27"),
        ("golang:1.28rc1-alpine", None),
        ("golang:latest", None),
        ("golang", None),
        ("10.0.0.1:5000/golang:1", None),
        ("registry.example.com/builder:1.27", None),
    ],
)
def test_go_version(image: str, version: str | None) -> None:
    assert toolchain.go_version(image) == version


# --- the pod --------------------------------------------------------------------------------------


def pod(settings: Settings = f.SETTINGS, **build: Any) -> dict[str, Any]:
    return kaniko.containers(f.service(build=build), settings, f.COMMIT, "0" * 10, "build-1")


def steps(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["initContainers"] + found["containers"]]


def mounts(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return next(
        each["volumeMounts"]
        for each in found["initContainers"] + found["containers"]
        if each["name"] == name
    )


def test_only_what_is_needed_is_laid_out() -> None:
    by_image = platform(toolchain_volume="Image")
    cache = {"claimName": "go-caches"}
    assert steps(pod()) == ["fetch", "toolchain", "build", "push"]
    assert steps(pod(toolchain="Image")) == ["fetch", "build", "push"]
    assert steps(pod(by_image)) == ["fetch", "build", "push"]
    assert steps(pod(by_image, cache=cache)) == ["fetch", "toolchain", "build", "push"]
    assert steps(pod(toolchain="Image", cache=cache)) == ["fetch", "toolchain", "build", "push"]
    volume = {"reference": f.SETTINGS.images.builder, "pullPolicy": "IfNotPresent"}
    assert {"name": "toolchain", "image": volume} in pod(by_image)["volumes"]


def test_a_build_writes_its_own_caches_and_nothing_that_another_reads() -> None:
    found = pod(cache={"claimName": "go-caches"})
    shared = [m for m in mounts(found, "build") if m["name"] in ("cache", "toolchain")]
    own, image = shared
    assert own == {"name": "cache", "mountPath": "/gocache", "subPath": "services/checkout"}
    assert image["subPath"].startswith("images/")
    assert image["readOnly"] is True
    other = pod(cache={"claimName": "go-caches"}, builderImage="golang:1.26")
    assert mounts(other, "build")[-1]["subPath"] != image["subPath"]
    secret_free = {"fetch", "toolchain", "build"}
    for name in secret_free:
        assert "push" not in {m["name"] for m in mounts(found, name)}


def test_without_a_cache_nothing_runs_as_root_but_the_engine() -> None:
    step = pod()["initContainers"][1]
    assert step["securityContext"]["runAsNonRoot"] is True
    assert step["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_neither_toolchain_nor_cache_is_an_input() -> None:
    """The image that comes out is the same."""
    plain = inputs_hash(f.service(), f.SETTINGS, f.COMMIT)
    for build in ({"toolchain": "Image"}, {"cache": {"claimName": "go-caches"}}):
        assert inputs_hash(f.service(build=build), f.SETTINGS, f.COMMIT) == plain
    changed = platform(toolchain="Image", toolchain_volume="Image")
    assert inputs_hash(f.service(), changed, f.COMMIT) == plain


# --- the scripts ----------------------------------------------------------------------------------


class Room:
    """Folders in place of the container's, and a `go` that is a test part."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.goroot = root / "go"
        self.image, self.service = root / "image", root / "service"
        for folder in (self.image, self.service, root / "bin", self.goroot / "bin"):
            folder.mkdir(parents=True)
        (root / "bin" / "go").write_text(GO)
        (root / "bin" / "go").chmod(0o755)
        (self.goroot / "bin" / "go").write_text("go")
        self.upgrade("go1.27.0")

    def upgrade(self, version: str) -> None:
        (self.goroot / "VERSION").write_text(version)

    def run(self, pod_name: str = "a", **build: Any) -> str:
        step = toolchain.containers(f.service(build=build), f.SETTINGS)[0]
        places = {"/cache/image": self.image, "/cache/service": self.service}
        arguments = [str(places.get(word, word)) for word in step["args"]]
        # Files are given to the build's user, which takes root: here they stay whose they are.
        script = step["command"][2].replace("chown ", "true ")
        done = subprocess.run(
            ["sh", "-euc", script, "toolchain", *arguments],
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "FAKE_GOROOT": str(self.goroot),
                "HOSTNAME": pod_name,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def compiled(self) -> int:
        calls = self.root / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


CACHE = {"claimName": "go-caches"}


def test_the_first_build_of_a_claim_compiles_the_standard_library_and_no_other(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    assert "Compiling the standard library" in room.run(cache=CACHE)
    assert (room.service / "build" / "object").read_text() == "object\n"
    assert (room.image / "usr" / "local" / "go" / "bin" / "go").read_text() == "go"
    (room.service / "build" / "mine").write_text("kept")
    assert room.run(cache=CACHE) == ""
    assert (room.service / "build" / "mine").read_text() == "kept"
    room.service = tmp_path / "another"
    room.service.mkdir()
    assert "cache begins" in room.run(cache=CACHE)
    assert (room.service / "build" / "object").exists()
    assert room.compiled() == 1


def test_a_newer_go_under_the_same_name_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.run(cache=CACHE)
    before = (room.image / "usr").resolve()
    room.upgrade("go1.27.1")
    room.run(cache=CACHE)
    assert (room.image / "usr" / "local" / "go" / "VERSION").read_text() == "go1.27.1"
    assert before.exists(), "a build that runs keeps the one that it has begun with"
    assert room.compiled() == 2
    old = before.parent
    os.utime(old, (0, 0))
    room.run(cache=CACHE)
    assert not old.exists(), "after a day it goes"


def test_of_two_builds_at_once_the_first_one_wins_and_nothing_half_made_is_left(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    room.run("a", cache=CACHE)
    made = sorted(p.name for p in room.image.iterdir())
    version = next(p for p in room.image.iterdir() if p.is_dir() and not p.is_symlink())
    (version / "first").write_text("")
    version.rename(tmp_path / "aside")
    (tmp_path / "bin" / "go").write_text(
        GO.replace("echo object", f"mv {tmp_path}/aside {version}; echo object")
    )
    room.run("b", cache=CACHE)
    assert (version / "first").exists()
    assert sorted(p.name for p in room.image.iterdir()) == made


def test_what_another_build_renames_meanwhile_ends_no_build(tmp_path: Path) -> None:
    """busybox's find fails so where a link that it has seen is gone when it looks."""
    room = Room(tmp_path)
    room.run("a", cache=CACHE)
    find = room.root / "bin" / "find"
    find.write_text('#!/bin/sh\necho "find: $1/etc-b: No such file or directory" >&2\nexit 1\n')
    find.chmod(0o755)
    room.service = tmp_path / "another"
    room.service.mkdir()
    assert "cache begins" in room.run("c", cache=CACHE)


def test_without_a_mounted_toolchain_only_caches_are_kept(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.run(cache=CACHE, toolchain="Image")
    assert not (room.image / "usr").exists()
    assert (room.service / "build" / "object").exists()


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("cp: write error: No space left on device", Reason.DISK_FULL),
        ("sh: go: not found", Reason.BUILD_FAILED),
        ("toolchain: line 1: go: command not found", Reason.BUILD_FAILED),
    ],
)
def test_a_failure_is_told(log: str, reason: Reason) -> None:
    found = toolchain.failure(log)
    assert found is not None
    assert found[0] is reason


def test_an_unknown_failure_is_not_guessed() -> None:
    assert toolchain.failure("sh: something else") is None
