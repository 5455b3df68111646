"""Assemble the test bed's images and put them into the local registry.

No image is pulled: each is made from what the host has. An image whose recipe has not changed is
neither assembled nor sent again; the registry's storage outlives the cluster.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.node import commands, layers, paths, prerequisites, programs, progress

RECIPE = "3"
"""Counts up when an assembling function below changes what it makes."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The host's certificate authorities, which go into images whose programs speak TLS."""
BASE_PACKAGES = (
    *("ca-certificates", "git", "openssh-client", "python3", "python3-pip", "python3-venv"),
    # Skopeo wants a container-network-stack, a virtual package that debootstrap does not know.
    *("netavark", "skopeo", "tzdata"),
)
"""Debian packages of the base of the operator's image."""
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
"""/etc/passwd of the small images."""
GROUP = b"root:x:0:\nnogroup:x:65534:\n"
"""/etc/group of the small images."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH in the images."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's names for processors, and the registries'."""
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
"""The manifests that the registry is asked for, as an Accept header has them."""


@dataclass(frozen=True)
class Recipe:
    """An image: its name, what decides its content, how its layer is made, its configuration."""

    name: str
    """Without a registry, with a tag."""
    content: str
    """Decides what the layer holds; its hash says whether the image must be made anew."""
    layer: Callable[[Path], Path]
    """Makes the layer's tar file, in the folder that it is given or elsewhere."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the image's configuration."""
    entrypoint: str = ""
    """The program that always starts; empty for none."""
    command: str = ""
    """What runs where a pod names nothing; empty for none."""
    remark: str = ""
    """Shown in the progress line, such as a version."""

    @property
    def reference(self) -> str:
        """The image as pods name it."""
        return f"{paths.REGISTRY}/{self.name}"

    @property
    def hash(self) -> str:
        """The hash of everything that decides what the image is."""
        parts = (RECIPE, self.content, repr(sorted(self.environment.items())))
        return hashlib.sha256(
            "\0".join((*parts, self.entrypoint, self.command)).encode()
        ).hexdigest()


def architecture() -> str:
    """This machine's architecture, as Go and images call it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def busybox() -> Path:
    """A static busybox: the host's, or the one out of Debian's package, which is not installed."""
    installed = shutil.which("busybox")
    if installed is not None and Path("/usr/share/doc/busybox-static").exists():
        return Path(installed)
    folder = paths.cache() / "busybox"
    program = folder / "bin" / "busybox"
    if program.exists():
        return program
    with progress.step("fetch busybox-static"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        commands.run(
            ["apt-get", "download", "-o", "APT::Sandbox::User=root", "busybox-static"],
            folder=folder,
            timeout=300,
        )
        package = next(folder.glob("*.deb"))
        commands.run(["dpkg-deb", "-x", package, folder])
        package.unlink()
        merged = folder / "usr" / "bin" / "busybox"
        if not program.exists() and merged.exists():
            program.parent.mkdir(exist_ok=True)
            shutil.copy2(merged, program)
    return program


def busybox_entries() -> list[layers.Entry]:
    """What busybox and its links put into an image."""
    program = busybox()
    entries: list[layers.Entry] = [
        ("etc/passwd", PASSWD, 0o644),
        ("etc/group", GROUP, 0o644),
        ("etc/ssl/certs/ca-certificates.crt", CERTIFICATES, 0o644),
        ("root", "", 0o700),
        ("tmp", "", 0o1777),
        ("bin/busybox", program, 0o755),
    ]
    for applet in commands.run([program, "--list-full"]).split():
        name = applet.removeprefix("usr/")
        if name.startswith(("bin/", "sbin/")) and name != "bin/busybox":
            entries.append((name, "-> /bin/busybox", 0o777))
    entries.append(("usr/bin/env", "-> /bin/busybox", 0o777))
    return entries


def _tar(entries: Callable[[], list[layers.Entry]], skip: layers.Skip) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        target = folder / "layer.tar"
        layers.write(target, entries(), skip)
        return target

    return make


def _nothing(_: str) -> bool:
    return False


def left_out_of_go(relative: str) -> bool:
    """What a compiler does not need of a Go distribution; a test of that is in the unit tests."""
    return relative.split("/")[0] in {"test", "doc", "api", "misc", ".git"} or (
        "/testdata/" in f"/{relative}/" or relative.endswith("_test.go")
    )


def _file_hash(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def pause() -> Recipe:
    """The image of every pod's sandbox."""
    program = programs.build_quietly(programs.PAUSE)
    entries: list[layers.Entry] = [("pause", program, 0o755)]
    return Recipe("pause:1", program.name, _tar(lambda: entries, _nothing), entrypoint="/pause")


def busybox_image() -> Recipe:
    """A shell and its tools."""
    return Recipe(
        "busybox:1",
        _file_hash(busybox()),
        _tar(busybox_entries, _nothing),
        environment={"PATH": SEARCH_PATH},
        command="sh",
    )


def golang() -> Recipe:
    """The builder base: busybox and the host's Go, which may not fetch another."""
    root = programs.goroot()
    version = (root / "VERSION").read_text().split()[0]

    def entries() -> list[layers.Entry]:
        return [*busybox_entries(), ("usr/local/go", root, 0o755), ("go", "", 0o1777)]

    return Recipe(
        "golang:1",
        f"{version} {_file_hash(busybox())}",
        _tar(entries, left_out_of_go),
        environment={
            "PATH": f"/go/bin:/usr/local/go/bin:{SEARCH_PATH}",
            "GOPATH": "/go",
            "GOTOOLCHAIN": "local",
            "GOLANG_VERSION": version.removeprefix("go"),
        },
        command="sh",
        remark=version,
    )


def executor() -> Recipe:
    """The image of the build's containers: the stand-in, or the Kaniko that KANIKO_EXECUTOR names."""
    real = os.environ.get("KANIKO_EXECUTOR", "")
    if real and not Path(real).is_file():
        raise commands.Failed(f"KANIKO_EXECUTOR names no file: {real}")
    program = Path(real) if real else programs.build_quietly(programs.EXECUTOR)
    entries: list[layers.Entry] = [
        ("kaniko/executor", program, 0o755),
        ("kaniko/ssl/certs/ca-certificates.crt", CERTIFICATES, 0o644),
        ("kaniko/.docker", "", 0o755),
        ("etc/passwd", PASSWD, 0o644),
    ]
    return Recipe(
        "executor:1",
        _file_hash(program),
        _tar(lambda: entries, _nothing),
        environment={
            "PATH": "/usr/local/bin:/kaniko",
            "HOME": "/root",
            "USER": "root",
            "SSL_CERT_DIR": "/kaniko/ssl/certs",
            "DOCKER_CONFIG": "/kaniko/.docker/",
        },
        entrypoint="/kaniko/executor",
        remark=f"real Kaniko: {real}" if real else "stand-in, not Kaniko",
    )


def suite() -> str:
    """The distribution's code name, which debootstrap wants."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "bookworm"


def operator_base() -> Recipe:
    """The base of the operator's own image: a minimal Debian with Python, git and Skopeo."""
    content = f"{suite()} {architecture()} {' '.join(BASE_PACKAGES)} {RECIPE}"
    tarball = paths.cache() / "bases" / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.tar"

    def make(folder: Path) -> Path:
        if not tarball.exists():
            _debootstrap(folder / "root", tarball)
        return tarball

    return Recipe(
        "operator-base:1",
        content,
        make,
        environment={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
        command="bash",
        remark=suite(),
    )


def _debootstrap(root: Path, tarball: Path) -> None:
    mirror = os.environ.get("GOSERVICE_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    commands.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
            *("debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"),
            *(suite(), root, mirror),
        ],
        timeout=1800,
        advice="GOSERVICE_DEBIAN_MIRROR names another mirror.",
    )
    for folder in (
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "var/log",
    ):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    tarball.parent.mkdir(parents=True, exist_ok=True)
    partial = tarball.with_suffix(".partial")
    commands.run(
        [
            *("tar", "--create", "--numeric-owner", "--sort=name", "--mtime=@0"),
            *("--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*"),
            *("--exclude=./etc/hostname", "--exclude=./etc/resolv.conf"),
            *("--file", partial, "--directory", root, "."),
        ],
        timeout=600,
    )
    partial.rename(tarball)


def digest(reference: str) -> str:
    """The digest of a reference in the local registry; empty where it is not there."""
    _, _, rest = reference.partition("/")
    repository, _, tag = rest.rpartition(":")
    request = urllib.request.Request(
        f"http://{paths.REGISTRY}/v2/{repository}/manifests/{tag}",
        method="HEAD",
        headers={"Accept": MANIFESTS},
    )
    # A proxy of the environment must not see the registry of the namespace.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            return str(response.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def crane(*arguments: str) -> str:
    """Run crane against the local registry and return its output."""
    return commands.run(
        [programs.build_quietly(programs.CRANE), *arguments, "--insecure"],
        environment={"NO_PROXY": paths.BRIDGE_ADDRESS},
        timeout=900,
    ).strip()


@contextmanager
def _scratch() -> Iterator[Path]:
    parent = paths.cache() / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def load(recipe: Recipe) -> str:
    """Put an image into the registry unless it is there already; return its digest."""
    stamp = paths.cache() / "images" / f"{recipe.name.replace(':', '-')}.json"
    remark = f" ({recipe.remark})" if recipe.remark else ""
    with progress.step(f"image {recipe.name}{remark}") as step:
        there = digest(recipe.reference)
        if there and stamp.exists():
            known = json.loads(stamp.read_text())
            if known == {"hash": recipe.hash, "digest": there}:
                step.skipped = "unchanged"
                return there
        with _scratch() as folder:
            step.note = "assembling"
            tar = recipe.layer(folder)
            step.note = "sending"
            crane("append", "-f", str(tar), "-t", recipe.reference, "--oci-empty-base")
        crane("mutate", recipe.reference, *_mutations(recipe))
        loaded = digest(recipe.reference)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps({"hash": recipe.hash, "digest": loaded}))
        return loaded


def _mutations(recipe: Recipe) -> list[str]:
    words = ["-t", recipe.reference, "--set-platform", f"linux/{architecture()}"]
    for name, value in recipe.environment.items():
        words += ["--env", f"{name}={value}"]
    if recipe.entrypoint:
        words += ["--entrypoint", recipe.entrypoint]
    if recipe.command:
        words += ["--cmd", recipe.command]
    return words


RECIPES: dict[str, Callable[[], Recipe]] = {
    "pause": pause,
    "busybox": busybox_image,
    "golang": golang,
    "executor": executor,
    "operator-base": operator_base,
}
"""The images that the node needs, by the short name that the command line knows."""


def load_all(names: tuple[str, ...] = tuple(RECIPES)) -> dict[str, str]:
    """Load images by name; return their digests."""
    prerequisites.kubectl()
    return {name: load(RECIPES[name]()) for name in names}
