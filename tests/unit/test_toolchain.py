"""Where Go comes from, what is kept between builds, and the scripts that lay both out."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from goservice.api.conditions import Reason
from goservice.build import dockerfile, kaniko, toolchain
from goservice.build.inputs import inputs_hash
from goservice.settings import Compute, Settings, StepCompute
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


def test_a_platform_may_size_the_toolchain_by_itself() -> None:
    user = {"resources": {"limits": {"memory": "9Gi"}}}
    as_build = pod(resources=user["resources"])["initContainers"]
    assert as_build[1]["resources"] == as_build[2]["resources"]
    own = {"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "2Gi"}}
    sized = platform(step_resources=StepCompute(limits={"cpu": "1"}, toolchain=Compute(**own)))
    fetch, toolchain_step, build = pod(sized, resources=user["resources"])["initContainers"]
    assert toolchain_step["resources"] == own
    assert build["resources"]["limits"]["memory"] == "9Gi"
    assert fetch["resources"]["limits"] == {"cpu": "1"}


@pytest.mark.parametrize("cache", [{}, {"cache": {"claimName": "go-caches"}}], ids=str)
@pytest.mark.parametrize("volume", ["Copy", "Image"])
@pytest.mark.parametrize("place", ["Mounted", "Image"])
def test_a_platform_can_limit_every_container_of_a_build(
    place: str, volume: str, cache: dict[str, Any]
) -> None:
    """So a quota that counts limits.cpu, and a LimitRange with a ratio, can be met by settings alone."""
    limited = platform(
        toolchain_volume=volume,
        resources=Compute(requests={"cpu": "500m"}, limits={"cpu": "2", "memory": "4Gi"}),
        step_resources=StepCompute(
            requests={"cpu": "50m"}, limits={"cpu": "200m", "memory": "1Gi"}
        ),
    )
    made = pod(limited, toolchain=place, **cache)
    for container in made["initContainers"] + made["containers"]:
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}, container["name"]
    bare = pod(platform(resources=Compute()), toolchain=place, **cache)
    assert "cpu" not in bare["containers"][0]["resources"]["limits"]


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

    @property
    def go(self) -> Path:
        """The Go that the build sees."""
        return self.service / "go" / "usr" / "local" / "go"

    def kept(self) -> list[Path]:
        """The folders of versions and architectures."""
        return sorted(p for p in self.image.iterdir() if p.name.startswith("go-version-"))

    def run(self, pod_name: str = "a", architecture: str = "amd64", **build: Any) -> str:
        step = toolchain.containers(f.service(build=build), f.SETTINGS)[0]
        places = {
            "/cache/image": self.image,
            "/cache/service": self.service,
            "/toolchain": self.image,
        }
        arguments = [str(places.get(word, word)) for word in step["args"]]
        # Files are given to the build's user, which takes root: here they stay whose they are.
        script = step["command"][2].replace("chown ", "true ")
        done = subprocess.run(
            ["sh", "-euc", script, "toolchain", *arguments],
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "FAKE_GOROOT": str(self.goroot),
                "HOSTNAME": pod_name,
                "FAKE_ARCH": architecture,
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
    assert (room.go / "bin" / "go").read_text() == "go"
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
    (old,) = room.kept()
    first = room.service
    room.service = tmp_path / "another"
    room.service.mkdir()
    room.upgrade("go1.27.1")
    room.run(cache=CACHE)
    assert (room.go / "VERSION").read_text() == "go1.27.1"
    running = first / "go" / "usr" / "local" / "go" / "VERSION"
    assert running.read_text() == "go1.27.0", "a build that runs keeps the one it has begun with"
    assert room.compiled() == 2
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


def test_of_three_builds_at_once_on_a_new_claim_one_compiles_and_the_others_wait(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    (tmp_path / "bin" / "go").write_text(GO.replace("echo object", "sleep 3; echo object"))
    rooms = []
    for number in range(3):
        other = Room.__new__(Room)
        other.__dict__.update(room.__dict__, service=tmp_path / f"service-{number}")
        other.service.mkdir()
        rooms.append(other)
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda at: at[1].run(f"pod-{at[0]}", cache=CACHE), enumerate(rooms)))
    assert room.compiled() == 1
    assert sum("Another build compiles" in text for text in told) == 2
    assert all((other.service / "build" / "object").exists() for other in rooms)
    assert not [p for p in room.image.iterdir() if p.name.startswith(("lock-", "new-"))]


def test_nobody_waits_for_a_build_that_is_dead(tmp_path: Path) -> None:
    room = Room(tmp_path)
    lock = room.image / "lock-go-version-go1.27.0-linux-amd64"
    lock.mkdir()
    os.utime(lock, (0, 0))
    assert "Compiling the standard library" in room.run(cache=CACHE)
    assert not lock.exists()


def test_a_build_that_fails_to_compile_lets_the_next_one_try(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (tmp_path / "bin" / "go").write_text(GO.replace("echo object", "exit 1; echo object"))
    with pytest.raises(subprocess.CalledProcessError):
        room.run(cache=CACHE)
    assert not [p for p in room.image.iterdir() if p.name.startswith("lock-")]


def test_a_build_that_can_make_no_lock_waits_for_nobody(tmp_path: Path) -> None:
    """Where the claim is full or read-only the reason is told at once, not after five minutes."""
    room = Room(tmp_path)
    mkdir = room.root / "bin" / "mkdir"
    mkdir.write_text('#!/bin/sh\ncase "$1" in */lock-*) exit 1 ;; esac\nexec /bin/mkdir "$@"\n')
    mkdir.chmod(0o755)
    told = room.run(cache=CACHE)
    assert "waits" not in told
    assert room.compiled() == 1


# --- two architectures ----------------------------------------------------------------------------


def test_builds_of_two_architectures_share_a_claim_and_nothing_that_only_one_can_run(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    room.run("a", cache=CACHE)
    (room.service / "build" / "mine").write_text("of amd64")
    other = tmp_path / "another"
    other.mkdir()
    mine, room.service = room.service, other
    assert "Compiling the standard library" in room.run("b", "arm64", cache=CACHE)
    assert [p.name.rpartition("-")[2] for p in room.kept()] == ["amd64", "arm64"]
    assert "arm64" in str((other / "go").readlink())
    assert "amd64" in str((mine / "go").readlink()), "a build that runs keeps its own"

    room.service = mine
    assert "cache begins" in room.run("c", "arm64", cache=CACHE)
    assert not (mine / "build" / "mine").exists()
    assert (mine / "build" / "object").exists()
    assert room.run("d", "amd64", cache=CACHE) == "", "what was compiled before is there"
    assert (mine / "build" / "mine").read_text() == "of amd64"
    assert room.compiled() == 2


def test_an_older_go_of_another_architecture_stays(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.run("a", "arm64", cache=CACHE)
    room.upgrade("go1.27.1")
    for left in ("new-dead", "lock-go-version-go1.26.0-linux-amd64"):
        (room.image / left).mkdir()
    for old in room.image.iterdir():
        os.utime(old, (0, 0))
    room.run("b", "amd64", cache=CACHE)
    assert [p.name for p in room.image.iterdir() if p.name.endswith("arm64")] == [
        "go-version-go1.27.0-linux-arm64"
    ]
    assert not (room.image / "new-dead").exists()
    assert sorted(p.name for p in room.image.iterdir() if not p.is_symlink()) == [
        "go-version-go1.27.0-linux-arm64",
        "go-version-go1.27.1-linux-amd64",
    ]


def test_builds_of_two_architectures_do_not_wait_for_one_another(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (room.image / "lock-go-version-go1.27.0-linux-arm64").mkdir()
    assert "waits" not in room.run("a", "amd64", cache=CACHE)


def test_a_claim_of_an_older_operator_keeps_what_it_has(tmp_path: Path) -> None:
    room = Room(tmp_path)
    version = "go-version-go1.27.0-linux-amd64"
    (room.image / version / "std").mkdir(parents=True)
    (room.image / version / "usr").mkdir()
    (room.image / "usr").symlink_to(f"{version}/usr")
    (room.service / "build").mkdir()
    (room.service / "build" / "mine").write_text("kept")
    (room.service / "begun").write_text(f"{version}\n")
    assert room.run("a", cache=CACHE) == ""
    assert (room.service / "build" / "mine").read_text() == "kept"
    assert (room.service / "build").is_symlink()
    room.run("b", "arm64", cache=CACHE)
    assert not (room.service / "build" / "mine").exists()
    room.run("c", cache=CACHE)
    assert (room.service / "build" / "mine").read_text() == "kept"
    assert room.compiled() == 1


def test_the_build_takes_the_go_of_its_own_architecture(tmp_path: Path) -> None:
    """With a claim by a link that is made when the node is known; else there is only one."""
    room = Room(tmp_path)
    room.run(cache=CACHE)
    first, second = toolchain.PATH.split(":")
    assert first == f"{toolchain.GOCACHE}/go{second.removeprefix(toolchain.MOUNT)}"
    assert (room.service / first.removeprefix(f"{toolchain.GOCACHE}/")).is_dir()
    assert not (room.image / second.removeprefix(f"{toolchain.MOUNT}/")).exists()
    assert (room.image / "etc" / "ssl" / "certs").is_dir(), "which any architecture's are"


def test_a_cache_changes_no_dockerfile() -> None:
    """So it reaches no image. A build without one finds nothing at the first place and takes the second."""
    texts = {
        dockerfile.render(f.service(build=build), f.SETTINGS, f.COMMIT, "0" * 10)
        for build in ({}, {"cache": CACHE}, {"cache": {"size": "5Gi"}})
    }
    assert len(texts) == 1


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
    assert not list(room.image.rglob("usr"))
    assert not (room.service / "go").is_symlink()
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
