"""The build's pod as far as no engine changes it: the containers around the engine's, and how it ended.

Three containers in a row: `fetch` has the repository's address, `build` runs the user's code, `push`
has the Secret. No secret is where user code runs: the push Secret is in the last container only, at
a path that the build cannot know.

A digest counts only when every container exited 0: user code can write the file that holds it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from goservice import names
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build import skopeo, toolchain
from goservice.build.outcome import (
    LONGEST_WORDS,
    Failed,
    Outcome,
    Running,
    Succeeded,
    fetch_failed,
    fetched,
    is_digest,
    tail,
)
from goservice.manifest import Manifest, annotation, clean, condition_of
from goservice.settings import Settings

FETCH, BUILD, PUSH = "fetch", "build", skopeo.CONTAINER
"""Names of the containers, in the order in which they run."""
TERMINATION_LOG = "/dev/termination-log"
"""The file whose text the kubelet shows as a container's termination message."""
NOBODY = 65532
"""User id and group id of the containers that need no other; no file of an image is theirs."""

Explain = Callable[[str], tuple[Reason, str] | None]
"""From the end of a failed container's log to a reason and a message; None if it does not tell."""


def fetch(service: GoService, settings: Settings, commit: str, into: str) -> Manifest:
    """The container that checks the commit out into the volume `source`, mounted at `into`."""
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
            *([f"--tags={','.join(service.spec.build.tags)}"] if service.spec.build.tags else []),
            f"--into={into}",
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "volumeMounts": [
            {"name": "source", "mountPath": into},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
        "resources": settings.builds.step_resources.under(None),
        "securityContext": {
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def push(
    service: GoService,
    settings: Settings,
    destination: str,
    build: str,
    *,
    output: str,
    layout: str,
) -> Manifest:
    """The container that pushes the OCI layout at `layout`, in the volume `output`."""
    registry = service.spec.image.repository.partition("/")[0]
    secret = service.spec.image.push_secret_ref
    folder = _secret_folder(service, build)
    return {
        "name": PUSH,
        "image": settings.images.operator,
        "command": skopeo.command(),
        "args": skopeo.arguments(
            layout,
            destination,
            report=TERMINATION_LOG,
            authfile=f"{folder}/config.json" if secret else "",
            insecure=registry in settings.builds.insecure_registries,
        ),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "output", "mountPath": output, "readOnly": True},
            *([{"name": "push", "mountPath": folder, "readOnly": True}] if secret else []),
        ],
        "resources": settings.builds.step_resources.under(None),
        # An engine that runs as root may write layers that nobody else may read: mode 0600, uid 0.
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _secret_folder(service: GoService, build: str) -> str:
    """Where the push Secret is mounted: a path that no other container can know."""
    return "/push-" + hashlib.sha256(f"{service.uid}/{build}".encode()).hexdigest()[:32]


def volumes(service: GoService, settings: Settings, build: str) -> list[Manifest]:
    """The volumes of fetch, of the toolchain, of the image on its way, and of the push Secret."""
    found: list[Manifest] = [
        {"name": "dockerfile", "configMap": {"name": build}},
        {"name": "source", "emptyDir": {"sizeLimit": settings.builds.source_size_limit}},
        {"name": "output", "emptyDir": {"sizeLimit": settings.builds.output_size_limit}},
        *toolchain.volumes(service, settings),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    secret = service.spec.image.push_secret_ref
    if secret is not None:
        found.append(
            {
                "name": "push",
                "secret": {
                    "secretName": secret.name,
                    "defaultMode": 0o400,
                    "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                },
            }
        )
    return found


# --- how it ended ---------------------------------------------------------------------------------


def outcome(
    job: Mapping[str, Any], pod: Mapping[str, Any] | None, explain_build: Explain
) -> Outcome:
    """What has become of a build, from its Job and its newest pod (None if it is gone).

    `explain_build` reads the log of the engine's own container.
    """
    ended = {
        c["type"]: c
        for c in job.get("status", {}).get("conditions", ())
        if c.get("status") == "True"
    }
    if "Complete" not in ended and "Failed" not in ended:
        return _running(pod)
    if "Failed" in ended and ended["Failed"].get("reason") == "DeadlineExceeded":
        # Jobs of older operators have no other deadline than this one.
        return _never_started(pod) if annotation(job, names.MADE) else _too_late()
    if pod is None:
        return Failed(Reason.NODE_LOST, "The build's pod is gone before its end was seen.")
    states = _terminated(pod)
    failed = next(((n, s) for n, s in states.items() if s.get("exitCode") not in (0, None)), None)
    if failed is None and all(n in states for n in (FETCH, BUILD, PUSH)) and "Complete" in ended:
        return _succeeded(states)
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return _evicted(status)
    if status.get("reason") == "DeadlineExceeded":
        return _too_late() if _has_begun(pod) else _never_started(pod)
    if failed is None or status.get("reason") in ("NodeLost", "Shutdown", "Terminated"):
        return Failed(Reason.NODE_LOST, "The build's pod ended without a result.")
    return _failed(*failed, explain_build)


def _too_late() -> Failed:
    return Failed(
        Reason.DEADLINE_EXCEEDED,
        "The build took longer than build.timeoutSeconds; raise it, or look at what hangs.",
    )


def _never_started(pod: Mapping[str, Any] | None) -> Failed:
    why = _running(pod).waiting
    return Failed(
        Reason.NOT_STARTED,
        f"The build's pod could not start in time: {why}." if why else
        "The build's pod could not start in time.",
    )  # fmt: skip


def _has_begun(pod: Mapping[str, Any] | None) -> bool:
    """Whether any container of a pod has ever run."""
    return bool(pod and _terminated(pod)) or any(
        "running" in c.get("state", {}) or c.get("lastState")
        for c in _container_statuses((pod or {}).get("status", {}))
    )


def _running(pod: Mapping[str, Any] | None) -> Running:
    placed = condition_of(pod, "PodScheduled")
    scheduled = placed.get("lastTransitionTime") if placed.get("status") == "True" else ""
    return replace(_at_work(pod), begun=_has_begun(pod), scheduled=str(scheduled or ""))


def _at_work(pod: Mapping[str, Any] | None) -> Running:
    status = (pod or {}).get("status", {})
    for container in _container_statuses(status):
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        if "running" in state:
            return Running(container["name"])
        if is_in_trouble(waiting):
            why = why_waiting(waiting)
            if 'failed to mkdir ""' in why:
                why = (
                    f"{waiting['reason']}: the node's container runtime has no image volumes,"
                    " which the platform's setting builds.toolchainVolume: Image takes"
                )
            return Running(container["name"], why, _missing_image(container, why))
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            why = clean(f"{condition.get('reason')}: {condition.get('message')}")[:LONGEST_WORDS]
            claim = re.search(r'persistentvolumeclaim "([a-z0-9.-]+)" not found', why)
            return Running("", why, missing_claim=claim[1] if claim else "")
    return Running()


def is_in_trouble(waiting: Mapping[str, Any]) -> bool:
    """Whether a waiting container waits for more than its turn."""
    return waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating")


def why_waiting(waiting: Mapping[str, Any]) -> str:
    """Why a container cannot start, in the kubelet's words but for the id that each try has."""
    words = clean(f"{waiting['reason']}: {waiting.get('message', '')}")
    return re.sub(r"(?<![:0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "…", words)[:LONGEST_WORDS]


def _missing_image(container: Mapping[str, Any], why: str) -> str:
    """The one image of the pod that a service may name, if its registry refuses it."""
    refused = re.search(r"not found|denied|unauthorized|forbidden|^InvalidImageName", why, re.I)
    return str(container["image"]) if container["name"] == toolchain.CONTAINER and refused else ""


def _container_statuses(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _terminated(pod: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The end of each container that has ended, by its name.

    Of one that was not there when its pod ended, the kubelet tells an exit code that it made up.
    """
    ends = {
        c["name"]: c["state"]["terminated"]
        for c in _container_statuses(pod.get("status", {}))
        if "terminated" in c.get("state", {})
    }
    return {n: end for n, end in ends.items() if end.get("reason") != "ContainerStatusUnknown"}


def _succeeded(states: Mapping[str, Mapping[str, Any]]) -> Outcome:
    digest = str(states[BUILD].get("message", ""))
    if not is_digest(digest):
        return Failed(Reason.BUILD_FAILED, "The build reported no digest.", BUILD, tail(digest))
    by_digest = str(states[PUSH].get("message", "")).strip() == digest
    return Succeeded(digest, fetched(str(states[FETCH].get("message", ""))), untagged=by_digest)


def _evicted(status: Mapping[str, Any]) -> Failed:
    message = clean(str(status.get("message", "")))[:LONGEST_WORDS]
    if re.search(r"ephemeral|disk|emptyDir|exceeds the limit", message):
        return Failed(Reason.DISK_FULL, f"The build's pod was evicted for its disk use: {message}")
    return Failed(Reason.EVICTED, f"The build's pod was evicted: {message}")


def first_error(text: str) -> str:
    """The first line of a log that looks like an error; empty if none does."""
    for line in tail(text).splitlines():
        if re.match(r"(INFO|WARN|DEBU)\[|error building image", line):
            continue
        if re.search(
            r"(?i)\b(error|cannot|fatal|failed|invalid|not found|no such|unknown)\b", line
        ):
            return line.strip()[:LONGEST_WORDS]
    return ""


def _failed(container: str, state: Mapping[str, Any], explain_build: Explain) -> Failed:
    text = str(state.get("message", ""))
    if state.get("reason") == "OOMKilled" or state.get("exitCode") == 137:
        message = (
            f"The {container} container ran out of memory: raise build.resources.limits.memory."
        )
        return Failed(Reason.OUT_OF_MEMORY, message, container, tail(text))
    if container == FETCH:
        return fetch_failed(container, text)
    explain = {PUSH: skopeo.failure, toolchain.CONTAINER: toolchain.failure}
    why = explain.get(container, explain_build)(text)
    if why is None:
        line = first_error(text)
        said = f": {line}" if line else "."
        message = f"The {container} container ended with exit code {state.get('exitCode')}{said}"
        why = Reason.BUILD_FAILED, message
    return Failed(*why, container, tail(text))
