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
    Sign(r"go\.mod requires go >= (?P<a>\S+) \(running go (?P<b>[^;)]+)", Reason.GO_VERSION_TOO_OLD,
         "go.mod asks for Go {a} and the builder has {b}: set build.builderImage to a newer one."),
    Sign(r"signal: killed|cannot allocate memory", Reason.OUT_OF_MEMORY,
         "The build ran out of memory: raise build.resources.limits.memory."),
    Sign(r"no space left on device", Reason.DISK_FULL, "The build ran out of disk space."),
    Sign(r"(?m)^\S+\.go:\d+:\d+: (?!no required module)|^vet: |imported and not used|undefined: ", Reason.COMPILE_FAILED,
         "The program does not compile."),
    Sign(r"is not a main package|no Go files in|no non-test Go files|directory not found", Reason.NO_MAIN_PACKAGE,
         "build.package is not a main package."),
    Sign(r"missing go\.sum entry|no required module provides|cannot find module|updates to go\.mod needed|"
         r"inconsistent vendoring|go: \S+@\S+: |module lookup disabled|invalid version|unrecognized import path|"
         r"verifying module|SECURITY ERROR|dial tcp .*proxy", Reason.MODULE_DOWNLOAD_FAILED,
         "A Go module could not be had: look at go.mod, go.sum and build.modules.proxy."),
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
    words = {key: clean(value)[:40] for key, value in found.groupdict().items()}
    return sign.reason, sign.message.format(**words)
