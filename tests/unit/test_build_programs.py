"""The shell programs of a rendered Dockerfile, run on real files: mirrors, accounts, time zones.

Each runs as the Dockerfile has it, with its lines joined, in a folder that stands for the image's
root, and with the programs of BusyBox (Alpine) and of GNU (Debian) where this machine has them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from goservice.build import dockerfile, kaniko
from tests.support import dockerfiles
from tests.support import factories as f

ALPINE = """\
https://dl-cdn.alpinelinux.org/alpine/v3.22/main
https://dl-cdn.alpinelinux.org/alpine/v3.22/community
#https://dl-cdn.alpinelinux.org/alpine/edge/testing
@edge http://dl-4.alpinelinux.org/alpine/edge/community/
"""
DEB822 = """\
Types: deb
# http://snapshot.debian.org/archive/debian/20250811T000000Z
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main
"""
ONE_LINE = """\
# deb http://snapshot.debian.org/archive/debian/20220101T000000Z bullseye main
deb http://deb.debian.org/debian bullseye main
deb [arch=amd64] http://security.debian.org/debian-security bullseye-security main
deb\thttp://deb.debian.org/debian\tbullseye-updates main
"""
LISTS = {
    "etc/apk/repositories": ALPINE,
    "etc/apt/sources.list": ONE_LINE,
    "etc/apt/sources.list.d/debian.sources": DEB822,
}

HOST = "https://m.example.com"


@pytest.fixture(params=["gnu", "busybox"])
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the programs of one family, for PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    names = ("sh", "sed", "mkdir", "cp", "dirname", "grep")
    if request.param == "gnu":
        said = subprocess.run(["sed", "--version"], capture_output=True, text=True, check=False)
        if "GNU sed" not in said.stdout:
            pytest.skip("this machine's sed is not GNU's")
    busybox = shutil.which("busybox")
    if request.param == "busybox" and busybox is None:
        pytest.skip("this machine has no busybox: apt-get install busybox")
    for name in names:
        source = busybox if request.param == "busybox" else shutil.which(name)
        assert source is not None
        (folder / name).symlink_to(source)
    return folder


def lists_with(mirror: str, programs: Path, root: Path) -> dict[str, list[str]]:
    """The URLs of each list after the rendered program ran on it; root stands for /."""
    service = f.service(build={"packages": ["git"], "packageMirror": mirror})
    run = arguments(service, "packages")
    for place, text in LISTS.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    script = run[2].replace("/etc/", f"{root}/etc/").partition("if command -v apk")[0]
    execute([*run[:2], script, *run[3:]], programs)
    return {
        place: [
            url
            for line in (root / place).read_text().splitlines()
            if not line.startswith("#")
            for url in re.findall(r"https?://\S+", line)
        ]
        for place in LISTS
    }


def arguments(service: object, name: str) -> list[str]:
    """The command of the RUN of this name, its lines joined."""
    text = dockerfile.render(service, f.SETTINGS, f.COMMIT)  # type: ignore[arg-type]
    return next(
        list(each.arguments)
        for each in dockerfiles.parse(text)
        if each.name == "RUN" and each.arguments[3:4] == (name,)
    )


def execute(command: list[str], programs: Path, code: int = 0) -> str:
    """What the command says on stderr; it ends with the code."""
    result = subprocess.run(
        command, env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stderr
    return result.stderr


def alpine(base: str) -> list[str]:
    return [f"{base}/alpine/v3.22/main", f"{base}/alpine/v3.22/community", f"{base}/alpine/edge/community/"]  # fmt: skip


def debian(base: str) -> list[str]:
    return [f"{base}/debian", f"{base}/debian-security"]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("mirror", "base"),
    [
        (HOST, HOST),
        ("http://m.example.com:8080", "http://m.example.com:8080"),
        (f"{HOST}/os", f"{HOST}/os"),
        (f"{HOST}/alpine", HOST),
        (f"{HOST}/debian", HOST),
        (f"{HOST}/debian-security", HOST),
        (f"{HOST}/os/alpine", f"{HOST}/os"),
        (f"{HOST}/os/debian", f"{HOST}/os"),
        ("https://alpine", "https://alpine"),
        (f"{HOST}/a_b@c+d.e-f", f"{HOST}/a_b@c+d.e-f"),
    ],
)
def test_a_mirror_of_hosts_and_folders(
    mirror: str, base: str, slash: str, programs: Path, tmp_path: Path
) -> None:
    found = lists_with(mirror + slash, programs, tmp_path / "root")
    assert found["etc/apk/repositories"] == alpine(base)
    assert found["etc/apt/sources.list.d/debian.sources"] == debian(base)
    assert found["etc/apt/sources.list"] == [*debian(base), f"{base}/debian"]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("release", ["v3.16", "v3.22", "edge", "latest-stable"])
def test_a_mirror_that_names_a_release(
    release: str, slash: str, programs: Path, tmp_path: Path
) -> None:
    mirror = f"{HOST}/x/alpine/{release}"
    found = lists_with(mirror + slash, programs, tmp_path / "root")
    assert found["etc/apk/repositories"] == [
        f"{mirror}/main",
        f"{mirror}/community",
        f"{mirror}/community",
    ]


@pytest.mark.parametrize(
    "mirror",
    [
        # The line of the operator that this one takes the place of.
        "https://mirror.tuna.tsinghua.edu.cn/alpine/v3.16/main/",
        "https://mirror.tuna.tsinghua.edu.cn/alpine/v3.16/main",
        "http://m.example.com/v3.16/community/",
        "https://m.example.com/x/alpine/edge/testing",
    ],
)
def test_a_mirror_that_names_release_and_repository_is_taken_as_it_is(
    mirror: str, programs: Path, tmp_path: Path
) -> None:
    found = lists_with(mirror, programs, tmp_path / "root")
    assert set(found["etc/apk/repositories"]) == {mirror.rstrip("/")}
    kept = (tmp_path / "root" / "etc/apk/repositories").read_text()
    assert "@edge " in kept


def test_lists_of_debian_stay_where_the_mirror_is_alpine_s(programs: Path, tmp_path: Path) -> None:
    for mirror in (f"{HOST}/alpine/v3.16", f"{HOST}/alpine/v3.16/main/"):
        lists_with(mirror, programs, tmp_path / "root")
        for place in ("etc/apt/sources.list", "etc/apt/sources.list.d/debian.sources"):
            assert (tmp_path / "root" / place).read_text() == LISTS[place]


def test_every_user_has_a_group_of_its_name(programs: Path, tmp_path: Path) -> None:
    run = arguments(f.service(user={"uid": 20000, "name": "check-out_1"}), "accounts")
    assert run[4] == "/out/rootfs/etc"
    execute([*run[:4], str(tmp_path), *run[5:]], programs)
    assert (tmp_path / "passwd").read_text().splitlines() == [
        "root:x:0:0::/root:/sbin/nologin",
        "nobody:x:65534:65534::/nonexistent:/sbin/nologin",
        "check-out_1:x:20000:20000::/nonexistent:/sbin/nologin",
    ]
    assert (tmp_path / "group").read_text().splitlines() == [
        "root:x:0:",
        "nobody:x:65534:",
        "check-out_1:x:20000:",
    ]


# --- time zones ---------------------------------------------------------------------------------------


def with_go(programs: Path, root: Path) -> None:
    """A go command that tells this root and a version."""
    go = programs / "go"
    go.write_text(
        f'#!/bin/sh\nif [ "$1" = env ]; then echo {root}; else echo go version go1.20.1 linux/amd64; fi\n'
    )
    go.chmod(0o755)


def database(root: Path, *zones: str) -> None:
    """Go's own database as its source has it: names and data in one literal."""
    folder = root / "src" / "time" / "tzdata"
    folder.mkdir(parents=True)
    said = "".join(f"PK\\x03\\x04\\n\\x00{zone}TZif2\\x00" for zone in zones)
    (folder / "zzipdata.go").write_text(f'package tzdata\n\nconst zipdata = "{said}"\n')


def test_a_zone_that_go_does_not_know_ends_the_build_by_name(
    programs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "go"
    with_go(programs, root)
    run = arguments(f.service(timeZone="America/Coyhaique"), "zone")
    # No database at all, as before Go 1.15: nothing can be said.
    assert execute(run, programs) == ""
    database(root, "America/Coyhaique_Old", "Europe/Paris", "Not/America/Coyhaique2")
    said = execute(run, programs, code=1)
    assert said == (
        "timeZone: America/Coyhaique is not in the time zone database of go version go1.20.1 linux/amd64\n"
    )
    told = kaniko.failure(f"go: x\n{said}error building image: exit status 1")
    assert told is not None
    assert told[0] == "GoVersionTooOld"
    assert told[1].startswith(
        "timeZone America/Coyhaique is newer than the builder's Go (go1.20.1)"
    )
    assert "build.builderImage" in told[1]
    assert execute(arguments(f.service(timeZone="Europe/Paris"), "zone"), programs) == ""


def test_where_the_base_may_have_the_zone_it_is_said_and_built(
    programs: Path, tmp_path: Path
) -> None:
    with_go(programs, tmp_path / "go")
    database(tmp_path / "go", "Europe/Paris")
    for build in ({"base": "Distroless"}, {"base": "Custom", "baseImage": "a.example.com/b:1"}):
        run = arguments(f.service(timeZone="America/Coyhaique", build=build), "zone")
        assert "America/Coyhaique is not in the time zone database" in execute(run, programs)


def test_utc_is_not_looked_for() -> None:
    with pytest.raises(StopIteration):
        arguments(f.service(), "zone")


def test_the_zone_of_the_package_tzdata_is_copied_or_missed_by_name(
    programs: Path, tmp_path: Path
) -> None:
    run = arguments(f.service(timeZone="Europe/Paris", build={"packages": ["tzdata"]}), "zone")
    assert run[4:] == ["Europe/Paris", "/usr/share/zoneinfo", "/out/rootfs"]
    zones, image = tmp_path / "zones", tmp_path / "image"
    run[5:] = [str(zones), str(image)]
    said = execute(run, programs, code=1)
    told = kaniko.failure(said)
    assert told is not None
    assert told[1].startswith("timeZone Europe/Paris is newer than the package tzdata")
    (zones / "Europe").mkdir(parents=True)
    (zones / "real").write_text("TZif2")
    (zones / "Europe" / "Paris").symlink_to("../real")
    assert execute(run, programs) == ""
    copied = image / str(zones).lstrip("/") / "Europe" / "Paris"
    assert copied.read_text() == "TZif2"
    assert not copied.is_symlink()


def test_a_real_go_knows_every_zone_of_the_schema_but_new_ones(
    programs: Path, tmp_path: Path
) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("this machine has no Go")
    (programs / "go").symlink_to(go)
    zones = resources.files("tzdata").joinpath("zones").read_text().split()
    run = arguments(f.service(timeZone="Europe/Paris"), "zone")
    missing = []
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout
    data = "".join(p.read_text() for p in Path(root.strip(), "src/time/tzdata").glob("*zipdata.go"))
    for zone in zones:
        if f"{zone}TZif" not in data and f"{zone}PK" not in data:
            missing.append(zone)
    assert len(missing) < 10, missing
    env = {"PATH": str(programs), "HOME": str(tmp_path), "GOTOOLCHAIN": "local"}
    for zone, code in (("Europe/Paris", 0), ("Etc/GMT+1", 0), ("Mars/Olympus", 1)):
        result = subprocess.run(
            [*run[:4], zone, run[5]], env={**os.environ, **env}, capture_output=True, check=False
        )
        assert result.returncode == code, result.stderr
