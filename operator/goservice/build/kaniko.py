"""Kaniko, the engine that builds: its container, and what its words mean.

Nothing outside this module knows Kaniko's flags, paths or words. Kaniko's own `push` ends with its
usage instead of its error, so Skopeo pushes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goservice import names
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build import pod as build_pod
from goservice.build import toolchain
from goservice.build.outcome import Outcome
from goservice.build.signs import Sign, first_match
from goservice.manifest import Manifest, clean
from goservice.settings import Settings

CONTEXT = "/kaniko/buildcontext"
"""The checked-out repository. Kaniko leaves what is below /kaniko out of its snapshots."""
DOCKERFILE = "/kaniko/df"
"""The folder of the rendered Dockerfile."""
OUTPUT = "/kaniko/out"
"""The volume that the image goes to."""
LAYOUT = f"{OUTPUT}/oci"
"""The image as an OCI layout."""

container_names: tuple[str, ...] = (
    build_pod.FETCH,
    toolchain.CONTAINER,
    build_pod.BUILD,
    build_pod.PUSH,
)
"""Every container that a build may have, in the order in which they run."""


def containers(
    service: GoService, settings: Settings, commit: str, inputs: str, build: str
) -> Manifest:
    """The pod's containers and volumes: fetch, the toolchain if it comes apart, build, push."""
    destination = names.destination(service, commit, inputs)
    return {
        "initContainers": [
            build_pod.fetch(service, settings, commit, CONTEXT),
            *toolchain.containers(service, settings),
            _executor(service, settings, destination),
        ],
        "containers": [
            build_pod.push(service, settings, destination, build, output=OUTPUT, layout=LAYOUT)
        ],
        "volumes": build_pod.volumes(service, settings, build),
    }


def _executor(service: GoService, settings: Settings, destination: str) -> Manifest:
    return {
        "name": build_pod.BUILD,
        "image": settings.images.kaniko,
        "args": [
            f"--dockerfile={DOCKERFILE}/Dockerfile",
            f"--context=dir://{CONTEXT}",
            "--no-push",
            f"--destination={destination}",
            f"--oci-layout-path={LAYOUT}",
            # Kaniko writes it before the image is whole, so it counts only with exit code 0.
            f"--digest-file={build_pod.TERMINATION_LOG}",
            "--snapshot-mode=redo",
            "--compressed-caching=false",
            "--reproducible",
            "--image-format=oci",
            "--ignore-path=/product_uuid",
            "--credential-helpers=",
            "--image-download-retry=3",
            "--log-format=text",
            *(f"--insecure-registry={host}" for host in settings.builds.insecure_registries),
            *(f"--registry-mirror={host}" for host in settings.builds.registry_mirrors),
        ],
        "env": [
            {"name": "container", "value": "kube"},
            {"name": "USER", "value": "root"},
            {"name": "HOME", "value": "/root"},
            {"name": "FF_KANIKO_COPY_AS_ROOT", "value": "true"},
            {"name": "FF_KANIKO_RUN_HONOR_GROUP", "value": "true"},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "dockerfile", "mountPath": DOCKERFILE, "readOnly": True},
            {"name": "source", "mountPath": CONTEXT},
            {"name": "output", "mountPath": OUTPUT},
            *toolchain.mounts(service, settings),
        ],
        "resources": settings.builds.resources.under(service.spec.build.resources),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {
                "drop": ["ALL"],
                "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SETFCAP", "KILL"],
            },
        },
    }


def outcome(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Outcome:
    """What has become of a build, from its Job and its newest pod (None if it is gone)."""
    return build_pod.outcome(job, pod, failure)


_SIGNS = (
    Sign(r"(?<!\S)(?P<c>\S{1,200}) requires go >= (?P<a>[0-9a-z.]{1,20}) \(running go (?P<b>[^;)]{1,20})", Reason.GO_VERSION_TOO_OLD,
         "{c} asks for Go {a} and the builder has {b}: set build.builderImage to a newer one."),
    Sign(r"module (?P<c>\S{1,200}) listed in go\.work file requires go >= (?P<a>[0-9a-z.]{1,20}), but go\.work lists go (?P<b>[0-9a-z.]{1,20})",
         Reason.GO_VERSION_TOO_OLD, "go.work says go {b} and its module {c} asks for {a}: run go work use, and commit go.work."),
    Sign(r"(?m)^(?:/out/rootfs)?(?P<a>[^\n]{1,200}) lies in Git LFS$", Reason.UNSAFE_SOURCE,
         "{a} (build.files) lies in Git LFS, whose contents are not fetched: commit the file itself (git lfs migrate export)."),
    Sign(r"(?m)^timeZone: (?P<a>\S{1,64}) is not in the time zone database of go version (?P<b>\S{1,40})", Reason.GO_VERSION_TOO_OLD,
         "timeZone {a} is newer than the builder's Go ({b}), and the program would run in UTC: set build.builderImage"
         " to a newer one, add tzdata to build.packages, or set timeZone to a zone that it has."),
    Sign(r"(?m)^timeZone: (?P<a>\S{1,64}) is not in the time zone database of the package tzdata", Reason.BUILD_FAILED,
         "timeZone {a} is newer than the package tzdata of the builder image: set build.builderImage to a newer one,"
         " or set timeZone to a zone that it has."),
    Sign(r"signal: killed|cannot allocate memory", Reason.OUT_OF_MEMORY,
         "The build ran out of memory: raise build.resources.limits.memory."),
    Sign(r"no space left on device", Reason.DISK_FULL, "The build ran out of disk space."),
    Sign(r"replacement directory (?P<a>\S{1,200}) does not exist|\(replaced by (?P<b>\S{1,200})\): reading \S{1,200}: open", Reason.MODULE_DOWNLOAD_FAILED,
         "go.mod replaces a module by {a}{b}, which is not there: what lies outside the repository is not fetched,"
         " nor are submodules. Vendor it, or require its module."),
    Sign(r"errors parsing (?P<b>\S{1,200}):\n(?P<a>[^\n]{1,200})", Reason.MODULE_DOWNLOAD_FAILED,
         "Go cannot read {b}: {a}. Correct that line and push."),
    Sign(r"directory is contained in a module that is not one of the workspace modules", Reason.MODULE_DOWNLOAD_FAILED,
         "go.work does not list the module in source.git.directory: add it with go work use, and push."),
    Sign(r"build constraints exclude all Go files", Reason.NO_MAIN_PACKAGE,
         "Build constraints leave out all files of a package: builds run for Linux, with build.tags, and without cgo"
         ' (no import "C"). Look at the first lines and the names of its files.'),
    Sign(r"found packages (?P<a>[^\n]{1,200})", Reason.COMPILE_FAILED,
         "One folder has two packages: {a}."),
    Sign(r"(?m)^[ \t]{0,8}(?P<a>[^\s:]{1,200}\.go:\d{1,9}:\d{1,9}: (?!no required module|missing go\.sum|\S{1,200}@\S{1,100}: (?:reading|invalid|verifying))[^\n]{1,200})", Reason.COMPILE_FAILED,
         "The program does not compile: {a}"),
    Sign(r"(?m)^(?P<a>[^\n]{0,300}(?:import cycle not allowed|main is undeclared in the main package|imported and not used|undefined: )[^\n]{0,100})",
         Reason.COMPILE_FAILED, "The program does not compile: {a}"),
    Sign(r"(?m)^vet: ", Reason.COMPILE_FAILED, "The program does not compile."),
    Sign(r"is not a main package|no Go files in|no non-test Go files|directory not found", Reason.NO_MAIN_PACKAGE,
         "build.package is not a main package."),
    Sign(r"(?m)^(?P<a>[^\n]{0,300}(?:cannot load module \S{1,200} listed in go\.work|error reading go\.mod: )[^\n]{0,200})", Reason.MODULE_DOWNLOAD_FAILED,
         "Go cannot read the module: {a}. Correct that file and push."),
    Sign(r"(?m)^(?P<a>[^\n]{0,300}(?:missing go\.sum entry|no required module provides|cannot find module|updates to go\.mod needed|"
         r"inconsistent vendoring|\S{1,200}@\S{1,100}: |module lookup disabled|invalid version|unrecognized import path|"
         r"verifying module|SECURITY ERROR|dial tcp [^\n]{1,200}proxy)[^\n]{0,200})", Reason.MODULE_DOWNLOAD_FAILED,
         "A Go module could not be had: {a}. Look at go.mod, go.sum and build.modules.proxy."),
    Sign(r"MANIFEST_UNKNOWN|NAME_UNKNOWN|manifest unknown|repository does not exist|name unknown|"
         r"UNAUTHORIZED|DENIED|401 Unauthorized|403 Forbidden", Reason.BASE_IMAGE_NOT_FOUND,
         "The builder or base image cannot be pulled: look at build.builderImage and build.baseImage."),
    Sign(r"connection refused|i/o timeout|no such host|TLS handshake|EOF|TOOMANYREQUESTS|"
         r"50[0234] |network is unreachable", Reason.REGISTRY_UNAVAILABLE,
         "The registry of the base image does not answer."),
    Sign(r"(?m)^# \S+", Reason.COMPILE_FAILED, "The program does not compile."),
)  # fmt: skip
"""What Kaniko and Go print when they fail: pattern, reason, message. The first that is found counts."""


def failure(text: str) -> tuple[Reason, str] | None:
    """What ended the build, from its last lines; None if they do not tell."""
    matched = first_match(_SIGNS, text)
    if matched is None:
        return None
    sign, found = matched
    words = {key: clean(value or "")[:160] for key, value in found.groupdict().items()}
    return sign.reason, sign.message.format(**words)
