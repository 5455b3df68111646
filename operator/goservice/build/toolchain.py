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
from typing import Any

from goservice import names
from goservice.api.build import Toolchain
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.settings import Settings

Manifest = dict[str, Any]

CONTAINER = "toolchain"
MOUNT = "/toolchain"
"""The builder image's root, or the part of it that compiling takes."""
PATH = f"{MOUNT}/usr/local/go/bin"
CERTIFICATES = f"{MOUNT}/etc/ssl/certs/ca-certificates.crt"
GOCACHE = "/gocache"
"""Go's build and module caches during a build."""
_IMAGE = "/cache/image"
_SERVICE = "/cache/service"
_OLDEST = (1, 21)
"""Since then Go's programs need no C library, so that they run on any base."""

_COPY = """\
go="$(go env GOROOT)"
mkdir -p "$1/usr/local/go" "$1/etc/ssl/certs"
for part in bin lib pkg src go.env VERSION; do
  if [ -e "$go/$part" ]; then cp -R "$go/$part" "$1/usr/local/go/"; fi
done
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
fi
"""
_KEEP = """\
# $1: what builds with this image share; $2: what the builds of this service keep; $3: copy, or nothing.
version="$(go version | tr -c 'A-Za-z0-9.\\n' -)"
if [ ! -d "$1/$version" ]; then
  echo "Compiling the standard library of $(go version), once for all builds with this image."
  new="$1/new-$HOSTNAME"
  rm -rf "$new"
  mkdir -p "$new/std" "$new/tmp"
  if [ -n "$3" ]; then sh -euc "$3" copy "$new"; fi
  GOCACHE="$new/std" GOTMPDIR="$new/tmp" go build -trimpath -tags timetzdata std
  rm -rf "$new/tmp"
  # Whole or not at all; of two builds at once the first one wins.
  mv -T "$new" "$1/$version" 2> /dev/null || rm -rf "$new"
fi
if [ -n "$3" ]; then
  # An image's name may come to mean a newer Go: a build that runs keeps the one it has begun with.
  for part in usr etc; do
    ln -s "$version/$part" "$1/$part-$HOSTNAME"
    mv -T "$1/$part-$HOSTNAME" "$1/$part"
  done
fi
# A build beside this one may rename what is looked at: what is left is for the next one.
find "$1" -mindepth 1 -maxdepth 1 -type d ! -name "$version" -mtime +1 -exec rm -rf {} + \\
  2> /dev/null || true
if [ "$(cat "$2/begun" 2> /dev/null)" != "$version" ]; then
  echo "This service's cache begins with it."
  rm -rf "$2/build"
  cp -R "$1/$version/std" "$2/build"
  mkdir -p "$2/mod" "$2/tmp"
  chown -R 65532:65532 "$2/build"
  chown 65532:65532 "$2/mod" "$2/tmp"
  chmod 755 "$2"
  echo "$version" > "$2/begun"
fi
"""


def builder_image(service: GoService, settings: Settings) -> str:
    """The image that Go comes from."""
    return service.spec.build.builder_image or settings.images.builder


def go_version(image: str) -> str | None:
    """The Go version (1.27) that a builder image's name tells, None if it tells none."""
    told = re.fullmatch(
        r"(?:.+/)?golang:([0-9]+\.[0-9]+)(?:\.[0-9]+)?(?:-[A-Za-z0-9._-]+)?(?:@.+)?", image
    )
    return told[1] if told else None


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
    told = go_version(build.builder_image)
    return told is not None and tuple(int(n) for n in told.split(".")) >= _OLDEST


def claim(service: GoService) -> str:
    """The claim that the caches lie on, empty if nothing is kept between builds."""
    cache = service.spec.build.cache
    return (cache.claim_name or names.cache_claim(service)) if cache else ""


def containers(service: GoService, settings: Settings) -> list[Manifest]:
    """The container that lays out toolchain and caches before the build; none where none is needed."""
    by_copy = mounted(service, settings) and not _by_image(settings)
    kept = bool(claim(service))
    if not by_copy and not kept:
        return []
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if kept:
        script, arguments = _KEEP, [_IMAGE, _SERVICE, _COPY if by_copy else ""]
        mounts += [
            {"name": "cache", "mountPath": _IMAGE, "subPath": _shared(service, settings)},
            {"name": "cache", "mountPath": _SERVICE, "subPath": _own(service)},
        ]
    else:
        script, arguments = _COPY, [MOUNT]
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
            "resources": settings.builds.resources.under(service.spec.build.resources),
            "securityContext": _keeper() if kept else _copier(),
        }
    ]


def volumes(service: GoService, settings: Settings) -> list[Manifest]:
    """Where toolchain and caches lie."""
    found: list[Manifest] = []
    kept = claim(service)
    if kept:
        found.append({"name": "cache", "persistentVolumeClaim": {"claimName": kept}})
    else:
        found.append(
            {"name": "gocache", "emptyDir": {"sizeLimit": settings.builds.cache_size_limit}}
        )
    if mounted(service, settings):
        if _by_image(settings):
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
    kept = bool(claim(service))
    found: list[Manifest] = [
        {"name": "cache", "mountPath": GOCACHE, "subPath": _own(service)}
        if kept
        else {"name": "gocache", "mountPath": GOCACHE}
    ]
    if mounted(service, settings):
        there = {"mountPath": MOUNT, "readOnly": True}
        if kept and not _by_image(settings):
            found.append({"name": "cache", **there, "subPath": _shared(service, settings)})
        else:
            found.append({"name": "toolchain", **there})
    return found


def failure(text: str) -> tuple[Reason, str] | None:
    """What ended the container, from its last lines; None if they do not tell."""
    if "no space left on device" in text.lower():
        return Reason.DISK_FULL, "There is no space left for the toolchain or the caches."
    if re.search(r"\bgo: (command )?not found", text):
        return Reason.BUILD_FAILED, (
            "The builder image has no go command: set build.builderImage to a golang image,"
            " or build.toolchain to Image."
        )
    return None


def _by_image(settings: Settings) -> bool:
    return settings.builds.toolchain_volume == "Image"


def _shared(service: GoService, settings: Settings) -> str:
    """What builds with the same image share: too long for two names to be made to share it.

    No part of a subPath is written by anybody but the kubelet: it follows links within a claim.
    """
    image = builder_image(service, settings)
    return f"images/{hashlib.sha256(image.encode()).hexdigest()[:40]}"


def _own(service: GoService) -> str:
    return f"services/{service.name}"


def _copier() -> Manifest:
    return {
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _keeper() -> Manifest:
    """Root, because a claim's folders are root's, and a service's caches become its build's."""
    return {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    }
