"""Where Go comes from in a build, and what builds keep for the next one.

Mounted: the toolchain lies on a volume beside the build, which then neither unpacks nor snapshots
nor deletes it, and the builder stage stands on a small base. A cache claim holds three things, each
writable only for whom it concerns: the toolchain and the compiled standard library of a builder
image (written by a container of that image, where no code of a repository runs), and the caches of
one service (written by its own builds). No service can write what another one reads, unless both
name the same builder image and that image does so.
"""

from __future__ import annotations

import hashlib
import re

from goservice import names
from goservice.api.build import Toolchain
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build import shell
from goservice.build.signs import Sign, first_match
from goservice.manifest import Manifest
from goservice.settings import Settings

CONTAINER = "toolchain"
"""The container of the build's pod that lays out toolchain and caches."""
MOUNT = "/toolchain"
"""Where the build sees the builder image's root, or the part of it that compiling takes; with a cache
claim a folder for each version and architecture of Go, each of which is such a root."""
GOCACHE = "/gocache"
"""Go's build and module caches during a build: build/, mod/ and tmp/ (see Dockerfile.j2)."""
PATH = f"{GOCACHE}/go/usr/local/go/bin:{MOUNT}/usr/local/go/bin"
"""Where Go's programs are while the toolchain is mounted; golang images have them at /usr/local/go. With a
cache claim GOCACHE has a link to this build's own root below MOUNT, made when its node is known. No field
decides which of the two it is: a cache changes no Dockerfile."""
CERTIFICATES = f"{MOUNT}/etc/ssl/certs/ca-certificates.crt"
"""The builder image's CA certificates while the toolchain is mounted, whatever its architecture; the
small base has none."""

_SHARED_CACHE = "/cache/image"
"""In this container: what all builds with the same builder image share. Builds only read it."""
_SERVICE_CACHE = "/cache/service"
"""In this container: what the builds of this service keep; a build sees it as GOCACHE."""
_OLDEST_MOUNTED_GO = (1, 21)
"""The oldest version of Go that is mounted unasked: since it Go's programs need no C library, so that they run on any base."""

_USER = 65532
"""The uid and gid of builds, as in Dockerfile.j2 and toolchain-keep.sh: not root, nobody's."""

_SIGNS = (
    Sign(
        r"(?i)no space left on device",
        Reason.DISK_FULL,
        "There is no space left for the toolchain or the caches.",
    ),
    Sign(
        r"\bgo: (command )?not found",
        Reason.BUILD_FAILED,
        "The builder image has no go command: set build.builderImage to a golang image,"
        " or build.toolchain to Image.",
    ),
)
"""What the container's last lines mean."""


def builder_image(service: GoService, settings: Settings) -> str:
    """The image that Go comes from."""
    return service.spec.build.builder_image or settings.images.builder


def go_version(image: str) -> str | None:
    """The Go version (1.27) that a builder image's name tells, None if it tells none."""
    found = re.fullmatch(
        r"(?:.+/)?golang:([0-9]+\.[0-9]+)(?:\.[0-9]+)?(?:-[A-Za-z0-9._-]+)?(?:@.+)?", image
    )
    return found[1] if found else None


def mounted(service: GoService, settings: Settings) -> bool:
    """Whether Go comes by a volume: as the service says, else as the platform does where that can be.

    It cannot where packages are installed into the builder image, nor where a service names an
    image of its own that is not known to hold a Go that runs on any base.
    """
    build = service.spec.build
    if build.toolchain is not None:
        return build.toolchain is Toolchain.MOUNTED
    if build.packages or settings.builds.toolchain == "Image":
        return False
    if build.builder_image is None:
        return True
    version = go_version(build.builder_image)
    return version is not None and tuple(map(int, version.split("."))) >= _OLDEST_MOUNTED_GO


def containers(service: GoService, settings: Settings) -> list[Manifest]:
    """The container that lays out toolchain and caches before the build; none where none is needed."""
    by_copy = mounted(service, settings) and not _by_image_volume(settings)
    kept = bool(names.kept_on(service))
    if not by_copy and not kept:
        return []
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if kept:
        script = shell.program("toolchain-keep")
        copy = shell.program("toolchain-copy") if by_copy else ""
        arguments = [_SHARED_CACHE, _SERVICE_CACHE, copy, MOUNT]
        mounts += [
            {
                "name": "cache",
                "mountPath": _SHARED_CACHE,
                "subPath": _shared_folder(service, settings),
            },
            {"name": "cache", "mountPath": _SERVICE_CACHE, "subPath": _service_folder(service)},
        ]
    else:
        script, arguments = shell.program("toolchain-copy"), [MOUNT]
        mounts.append({"name": "toolchain", "mountPath": MOUNT})
    return [
        {
            "name": CONTAINER,
            "image": builder_image(service, settings),
            "command": ["sh", "-euc", script, CONTAINER],
            "args": arguments,
            "env": [
                {"name": "HOME", "value": "/tmp"},  # noqa: S108
                {"name": "CGO_ENABLED", "value": "0"},
                {"name": "GOTOOLCHAIN", "value": "local"},
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
            "resources": _resources(service, settings),
            "securityContext": _root() if kept else _not_root(),
        }
    ]


def _resources(service: GoService, settings: Settings) -> Manifest:
    """The platform's for this container, else those of the build, which compiles as this one does."""
    of_step = settings.builds.step_resources.toolchain
    if of_step is not None:
        return of_step.under(None)
    return settings.builds.resources.under(service.spec.build.resources)


def volumes(service: GoService, settings: Settings) -> list[Manifest]:
    """Where toolchain and caches lie."""
    found: list[Manifest] = []
    kept = names.kept_on(service)
    if kept:
        found.append({"name": "cache", "persistentVolumeClaim": {"claimName": kept}})
    else:
        found.append(
            {"name": "gocache", "emptyDir": {"sizeLimit": settings.builds.cache_size_limit}}
        )
    if mounted(service, settings):
        if _by_image_volume(settings):
            image = builder_image(service, settings)
            found.append(
                {"name": "toolchain", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
            )
        elif not kept:
            found.append(
                {"name": "toolchain", "emptyDir": {"sizeLimit": settings.builds.cache_size_limit}}
            )
    return found


def mounts(service: GoService, settings: Settings) -> list[Manifest]:
    """What the build container sees of them: its own caches to write, the toolchain to read."""
    kept = bool(names.kept_on(service))
    found: list[Manifest] = [
        {"name": "cache", "mountPath": GOCACHE, "subPath": _service_folder(service)}
        if kept
        else {"name": "gocache", "mountPath": GOCACHE}
    ]
    if mounted(service, settings):
        there = {"mountPath": MOUNT, "readOnly": True}
        if kept and not _by_image_volume(settings):
            found.append({"name": "cache", **there, "subPath": _shared_folder(service, settings)})
        else:
            found.append({"name": "toolchain", **there})
    return found


def failure(text: str) -> tuple[Reason, str] | None:
    """What ended the container, from its last lines; None if they do not tell."""
    matched = first_match(_SIGNS, text)
    return (matched[0].reason, matched[0].message) if matched else None


def _by_image_volume(settings: Settings) -> bool:
    """Whether the kubelet mounts the builder image itself, so that nothing is copied out of it."""
    return settings.builds.toolchain_volume == "Image"


def _shared_folder(service: GoService, settings: Settings) -> str:
    """What builds with the same builder image share, relative to the claim.

    Named by 40 hex digits of the image name's hash: nobody can find a second name with the same.
    It is a folder of its own at the top, as the kubelet follows links on the way to a subPath:
    nothing but the kubelet may write where that way leads along.
    """
    image = builder_image(service, settings)
    return f"images/{hashlib.sha256(image.encode()).hexdigest()[:40]}"


def _service_folder(service: GoService) -> str:
    """What the builds of one service keep, relative to the claim."""
    return f"services/{service.name}"


def _not_root() -> Manifest:
    """No rights: copying a toolchain into an empty folder needs none."""
    return {
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _root() -> Manifest:
    """Root, as the folders of a claim are root's, and a service's caches are given to the user of builds."""
    return {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    }
