"""Kaniko, the engine that builds: what its containers are given, and what their end means.

Two pure functions: `containers` and `outcome`. Nothing outside this module knows Kaniko's flags,
paths or words; another engine would be another module with the same two. Kaniko's own `push` ends
with its usage instead of its error, so Skopeo pushes.

A digest counts only when every container exited 0: Kaniko writes it before the image is whole, and
user code can write the file too. Texts from a pod are stripped of control characters and capped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goservice import names
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build import skopeo, toolchain
from goservice.settings import Settings

Manifest = dict[str, Any]

FETCH, BUILD, PUSH = "fetch", "build", "push"
CONTEXT = "/kaniko/buildcontext"
DOCKERFILE = "/kaniko/df"
OUTPUT = "/kaniko/out"
LAYOUT = f"{OUTPUT}/oci"
TAIL_LENGTH = 2048

STOP = frozenset(
    {
        Reason.REVISION_NOT_FOUND,
        Reason.GIT_AUTHENTICATION_FAILED,
        Reason.UNSAFE_SOURCE,
        Reason.NO_GO_MOD,
        Reason.NO_MAIN_PACKAGE,
        Reason.GO_VERSION_TOO_OLD,
        Reason.MODULE_DOWNLOAD_FAILED,
        Reason.COMPILE_FAILED,
        Reason.BASE_IMAGE_NOT_FOUND,
        Reason.PUSH_DENIED,
        Reason.OUT_OF_MEMORY,
        Reason.DEADLINE_EXCEEDED,
        Reason.BUILD_FAILED,
    }
)
"""Failures that a person must mend."""
RETRY = frozenset(
    {
        Reason.EVICTED,
        Reason.NODE_LOST,
        Reason.DISK_FULL,
        Reason.GIT_UNAVAILABLE,
        Reason.REGISTRY_UNAVAILABLE,
    }
)
"""Failures of the platform, tried again."""


@dataclass(frozen=True)
class Fetched:
    """What `fetch` learnt of the commit."""

    commit: str = ""
    time: str = ""
    author: str = ""
    subject: str = ""
    go: str = ""
    """The module's go line, such as 1.26."""


@dataclass(frozen=True)
class Running:
    """The build is not over. `container` is the one at work, empty while the pod waits."""

    container: str = ""
    waiting: str = ""
    """Why a container cannot start, in the kubelet's words."""
    missing_image: str = ""
    """The builder image, if the node cannot pull it."""
    missing_claim: str = ""
    """The claim for the caches, if there is none of its name."""


@dataclass(frozen=True)
class Succeeded:
    """The image is pushed."""

    digest: str
    fetched: Fetched


@dataclass(frozen=True)
class Failed:
    """The build is over without an image."""

    reason: Reason
    message: str
    container: str = ""
    tail: str = ""
    """The failed container's last lines."""

    @property
    def retry(self) -> bool:
        """Whether the platform failed, not the user's input."""
        return self.reason in RETRY


Outcome = Running | Succeeded | Failed


def containers(
    service: GoService, settings: Settings, commit: str, inputs: str, build: str
) -> Manifest:
    """The pod's containers and volumes: fetch, the toolchain if it comes apart, build, push.

    No secret is where user code runs: the push Secret is in the last container only, at a path
    that the build cannot know.
    """
    secret = service.spec.image.push_secret_ref
    place = "/push-" + hashlib.sha256(f"{service.uid}/{build}".encode()).hexdigest()[:32]
    volumes: list[Manifest] = [
        {"name": "dockerfile", "configMap": {"name": build}},
        {"name": "source", "emptyDir": {"sizeLimit": settings.builds.source_size_limit}},
        {"name": "output", "emptyDir": {"sizeLimit": settings.builds.output_size_limit}},
        *toolchain.volumes(service, settings),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if secret is not None:
        volumes.append(
            {
                "name": "push",
                "secret": {
                    "secretName": secret.name,
                    "defaultMode": 0o400,
                    "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                },
            }
        )
    return {
        "initContainers": [
            _fetch(service, settings, commit),
            *toolchain.containers(service, settings),
            _build(service, settings, commit, inputs),
        ],
        "containers": [_push(service, settings, commit, inputs, place)],
        "volumes": volumes,
    }


def _fetch(service: GoService, settings: Settings, commit: str) -> Manifest:
    source = service.spec.source
    assert source is not None
    git = source.git
    go = toolchain.go_version(toolchain.builder_image(service, settings))
    return {
        "name": FETCH,
        "image": settings.images.operator,
        "args": [
            "fetch",
            f"--url={git.url}",
            f"--commit={commit}",
            *([f"--revision={git.revision}"] if git.revision else []),
            f"--directory={git.directory}",
            f"--package={service.spec.build.package}",
            *([f"--go-version={go}"] if go else []),
            f"--into={CONTEXT}",
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": [
            {"name": "source", "mountPath": CONTEXT},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _build(service: GoService, settings: Settings, commit: str, inputs: str) -> Manifest:
    return {
        "name": BUILD,
        "image": settings.images.kaniko,
        "args": [
            f"--dockerfile={DOCKERFILE}/Dockerfile",
            f"--context=dir://{CONTEXT}",
            "--no-push",
            f"--destination={names.destination(service, commit, inputs)}",
            f"--oci-layout-path={LAYOUT}",
            "--digest-file=/dev/termination-log",
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


def _push(service: GoService, settings: Settings, commit: str, inputs: str, place: str) -> Manifest:
    registry = service.spec.image.repository.partition("/")[0]
    secret = service.spec.image.push_secret_ref
    return {
        "name": PUSH,
        "image": settings.images.operator,
        "command": list(skopeo.COMMAND),
        "args": skopeo.arguments(
            LAYOUT,
            names.destination(service, commit, inputs),
            authfile=f"{place}/config.json" if secret else "",
            insecure=registry in settings.builds.insecure_registries,
        ),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "output", "mountPath": OUTPUT, "readOnly": True},
            *([{"name": "push", "mountPath": place, "readOnly": True}] if secret else []),
        ],
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"memory": "512Mi"},
        },
        # Kaniko writes layers that only its own user may read: mode 0600, uid 0.
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def outcome(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Outcome:
    """What has become of a build, from its Job and its newest pod (None if it is gone)."""
    ended = {
        c["type"]: c
        for c in job.get("status", {}).get("conditions", ())
        if c.get("status") == "True"
    }
    if "Complete" not in ended and "Failed" not in ended:
        return _running(pod)
    if "Failed" in ended and ended["Failed"].get("reason") == "DeadlineExceeded":
        return Failed(
            Reason.DEADLINE_EXCEEDED,
            "The build took longer than build.timeoutSeconds; raise it, or look at what hangs.",
        )
    if pod is None:
        return Failed(Reason.NODE_LOST, "The build's pod is gone before its end was seen.")
    states = _ends(pod)
    failed = next(((n, s) for n, s in states.items() if s.get("exitCode") not in (0, None)), None)
    if failed is None and all(n in states for n in (FETCH, BUILD, PUSH)) and "Complete" in ended:
        return _succeeded(states)
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return _evicted(status)
    if failed is None or status.get("reason") in ("NodeLost", "Shutdown", "Terminated"):
        return Failed(Reason.NODE_LOST, "The build's pod ended without a result.")
    return _failed(*failed)


def _running(pod: Mapping[str, Any] | None) -> Running:
    status = (pod or {}).get("status", {})
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in every:
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        if "running" in state:
            return Running(container["name"])
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            why = waits(waiting)
            if 'failed to mkdir ""' in why:
                why = (
                    f"{waiting['reason']}: the node's container runtime has no image volumes,"
                    " which the platform's setting builds.toolchainVolume: Image takes"
                )
            return Running(container["name"], why, _missing_image(container, why))
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            why = clean(f"{condition.get('reason')}: {condition.get('message')}")[:300]
            claim = re.search(r'persistentvolumeclaim "([a-z0-9.-]+)" not found', why)
            return Running("", why, missing_claim=claim[1] if claim else "")
    return Running()


def waits(waiting: Mapping[str, Any]) -> str:
    """Why a container cannot start, in the kubelet's words but for the id that each try has."""
    words = clean(f"{waiting['reason']}: {waiting.get('message', '')}")
    return re.sub(r"(?<![:0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "…", words)[:300]


def _missing_image(container: Mapping[str, Any], why: str) -> str:
    """The one image of the pod that a service may name, if its registry refuses it."""
    refused = re.search(r"not found|denied|unauthorized|forbidden|^InvalidImageName", why, re.I)
    return str(container["image"]) if container["name"] == toolchain.CONTAINER and refused else ""


def _ends(pod: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    status = pod.get("status", {})
    every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return {
        c["name"]: c["state"]["terminated"] for c in every if "terminated" in c.get("state", {})
    }


def _succeeded(states: Mapping[str, Mapping[str, Any]]) -> Outcome:
    digest = str(states[BUILD].get("message", ""))
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return Failed(Reason.BUILD_FAILED, "The build reported no digest.", BUILD, tail(digest))
    return Succeeded(digest, fetched(str(states[FETCH].get("message", ""))))


def fetched(message: str) -> Fetched:
    """What the fetch container reported, as far as it can be trusted."""
    report = _report(message)
    go = str(report.get("go", ""))
    commit = str(report.get("commit", ""))
    time = str(report.get("time", ""))
    return Fetched(
        commit=commit if re.fullmatch(r"[0-9a-f]{40}", commit) else "",
        time=time if re.fullmatch(r"[0-9TZ:.+-]{20,35}", time) else "",
        author=clean(str(report.get("author", "")))[:200],
        subject=clean(str(report.get("subject", "")))[:200],
        go=go if re.fullmatch(r"[0-9a-z.]{1,20}", go) else "",
    )


def _report(message: str) -> dict[str, Any]:
    try:
        report = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _evicted(status: Mapping[str, Any]) -> Failed:
    message = clean(str(status.get("message", "")))[:300]
    if re.search(r"ephemeral|disk|emptyDir|exceeds the limit", message):
        return Failed(Reason.DISK_FULL, f"The build's pod was evicted for its disk use: {message}")
    return Failed(Reason.EVICTED, f"The build's pod was evicted: {message}")


_BUILD_SIGNS: tuple[tuple[str, Reason, str], ...] = (
    (r"go\.mod requires go >= (?P<a>\S+) \(running go (?P<b>[^;)]+)", Reason.GO_VERSION_TOO_OLD,
     "go.mod asks for Go {a} and the builder has {b}: set build.builderImage to a newer one."),
    (r"signal: killed|cannot allocate memory", Reason.OUT_OF_MEMORY,
     "The build ran out of memory: raise build.resources.limits.memory."),
    (r"no space left on device", Reason.DISK_FULL, "The build ran out of disk space."),
    (r"(?m)^\S+\.go:\d+:\d+: (?!no required module)|^vet: |imported and not used|undefined: ", Reason.COMPILE_FAILED,
     "The program does not compile."),
    (r"is not a main package|no Go files in|no non-test Go files|directory not found", Reason.NO_MAIN_PACKAGE,
     "build.package is not a main package."),
    (r"missing go\.sum entry|no required module provides|cannot find module|updates to go\.mod needed|"
     r"inconsistent vendoring|go: \S+@\S+: |module lookup disabled|invalid version|unrecognized import path|"
     r"verifying module|SECURITY ERROR|dial tcp .*proxy", Reason.MODULE_DOWNLOAD_FAILED,
     "A Go module could not be had: look at go.mod, go.sum and build.modules.proxy."),
    (r"MANIFEST_UNKNOWN|NAME_UNKNOWN|manifest unknown|repository does not exist|name unknown|"
     r"UNAUTHORIZED|DENIED|401 Unauthorized|403 Forbidden", Reason.BASE_IMAGE_NOT_FOUND,
     "The builder or base image cannot be pulled: look at build.builderImage and build.baseImage."),
    (r"connection refused|i/o timeout|no such host|TLS handshake|EOF|TOOMANYREQUESTS|"
     r"50[0234] |network is unreachable", Reason.REGISTRY_UNAVAILABLE,
     "The registry of the base image does not answer."),
    (r"(?m)^# \S+", Reason.COMPILE_FAILED, "The program does not compile."),
)  # fmt: skip


def _failed(container: str, state: Mapping[str, Any]) -> Failed:
    text = str(state.get("message", ""))
    if state.get("reason") == "OOMKilled" or state.get("exitCode") == 137:
        message = (
            f"The {container} container ran out of memory: raise build.resources.limits.memory."
        )
        return Failed(Reason.OUT_OF_MEMORY, message, container, tail(text))
    if container == FETCH:
        return _fetch_failed(text)
    why = _FAILURES.get(container, _build_failure)(text)
    if why is None:
        message = f"The {container} container ended with exit code {state.get('exitCode')}."
        why = Reason.BUILD_FAILED, message
    return Failed(*why, container, tail(text))


def _build_failure(text: str) -> tuple[Reason, str] | None:
    for pattern, reason, message in _BUILD_SIGNS:
        found = re.search(pattern, text)
        if found:
            words = {k: clean(v)[:40] for k, v in found.groupdict().items()}
            return reason, message.format(**words)
    return None


_FAILURES = {PUSH: skopeo.failure, toolchain.CONTAINER: toolchain.failure}


def _fetch_failed(text: str) -> Failed:
    report = _report(text)
    reported = str(report.get("reason", ""))
    known = {str(r): r for r in STOP | RETRY}
    if reported not in known:
        return Failed(Reason.GIT_UNAVAILABLE, "The source could not be fetched.", FETCH, tail(text))
    return Failed(known[reported], clean(str(report.get("message", "")))[:500], FETCH)


def clean(text: str) -> str:
    """A text from a pod without control characters, so that no terminal obeys it."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", "", text
    ).strip()


def tail(text: str) -> str:
    """The last lines of a log: cleaned, without colours, at most 2 KiB, whole lines."""
    plain = clean(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
    cut = plain.encode()[-TAIL_LENGTH:].decode(errors="ignore")
    return cut if len(cut) == len(plain) else cut.partition("\n")[2] or cut
