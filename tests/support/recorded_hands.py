"""Everybody's hands in a recorded life, but the operator's: users, controllers, kubelets, git.

What they write is written out here, so that no factory can change it. Kept until the next release,
then it goes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from goservice.manifest import Manifest

if TYPE_CHECKING:
    from tests.support.recorded_lives import Life


GROUP = "goservice.dev"
SERVICE = f"{GROUP}/service"
COMPONENT = "app.kubernetes.io/component"
GO_LINES = ("1.26", "1.21", "1.27rc1", "")
"""What builds report of go.mod; some things are set by it."""


# --- hands: users --------------------------------------------------------------------------------


def submits(life: Life) -> None:
    """A user creates the service."""
    body = json.loads(json.dumps(life.body))
    for server_owned in ("uid", "generation"):
        body["metadata"].pop(server_owned, None)
    life.world.add(body, manager="user")


def edits(life: Life, change: Callable[[Manifest], object]) -> None:
    """A user changes the spec."""
    life.world.edit("GoService", *life.key, lambda live: change(live["spec"]), manager="user")


def sets(life: Life, **fields: Any) -> None:
    """A user sets fields of the spec; None takes one away."""

    def change(wanted: Manifest) -> None:
        wanted.update({key: value for key, value in fields.items() if value is not None})
        for key in [key for key, value in fields.items() if value is None]:
            wanted.pop(key, None)

    edits(life, change)


def asks(life: Life, what: str, value: str) -> None:
    """A user asks for a rebuild or a restart."""

    def change(live: Manifest) -> None:
        live["metadata"].setdefault("annotations", {})[f"{GROUP}/{what}-requested-at"] = value

    life.world.edit("GoService", *life.key, change, manager="user")


def commits(life: Life) -> None:
    """A new commit, which git tells of."""
    life.commits += 1
    life.git.sha = hashlib.sha256(f"commit {life.commits}".encode()).hexdigest()[:40]
    answers(life)


def answers(life: Life) -> None:
    """Git is asked again."""
    life.git_fails("")


# --- hands: the cluster's controllers ------------------------------------------------------------


def running_jobs(life: Life) -> list[Manifest]:
    """The service's builds that are not over."""
    return [
        job
        for job in life.world.all("Job")
        if job["metadata"]["labels"].get(SERVICE) == life.key[1]
        and not job.get("status", {}).get("conditions")
    ]


def pod_of(life: Life, job: Manifest, status: Manifest) -> None:
    """A build's pod has this status; it is made if it is not there."""
    metadata = job["metadata"]
    name = f"{metadata['name']}-abcde"
    if life.world.find("Pod", metadata["namespace"], name) is None:
        made = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": metadata["labels"],
                "ownerReferences": [{"uid": metadata["uid"], "controller": True}],
            },
        }
        life.world.add(made, manager="controller")
    life.world.set_status("Pod", metadata["namespace"], name, status)


def job_ends(life: Life, job: Manifest, end: str, reason: str = "") -> None:
    """A Job is over: Complete or Failed."""
    metadata = job["metadata"]
    condition = {"type": end, "status": "True", "lastTransitionTime": life.stamp}
    status: Manifest = {"conditions": [condition | ({"reason": reason} if reason else {})]}
    if end == "Complete":
        status["completionTime"] = life.stamp
    life.world.set_status("Job", metadata["namespace"], metadata["name"], status)


def container(name: str, code: int = 0, message: str = "", reason: str = "") -> Manifest:
    """A container's status that has ended."""
    why = reason or ("Error" if code else "Completed")
    ended = {"exitCode": code, "reason": why, "message": message}
    return {"name": name, "state": {"terminated": ended}}


def report(life: Life, job: Manifest) -> str:
    """What `fetch` tells of a commit."""
    return json.dumps(
        {
            "commit": job["metadata"]["annotations"][f"{GROUP}/commit"],
            "time": "2026-11-24T11:59:00+00:00",
            "author": "A. Author",
            "subject": f"Take payments \u202e{life.commits}",
            "go": GO_LINES[life.number % len(GO_LINES)],
            "toolchain": "",
        }
    )


def first_containers(job: Manifest) -> list[str]:
    """The names of a build's init containers, in order."""
    return [each["name"] for each in job["spec"]["template"]["spec"]["initContainers"]]


def build_runs(life: Life) -> None:
    """Every build that has begun is at work."""
    for job in running_jobs(life):
        fetching = {"name": "fetch", "state": {"running": {}}}
        pod_of(life, job, {"phase": "Running", "initContainerStatuses": [fetching]})


def build_succeeds(life: Life) -> None:
    """Every build that has begun pushes its image."""
    for job in running_jobs(life):
        pushed = "sha256:" + hashlib.sha256(job["metadata"]["name"].encode()).hexdigest()
        says = {"fetch": report(life, job), "build": pushed}
        ended = [container(name, message=says.get(name, "")) for name in first_containers(job)]
        status = {"initContainerStatuses": ended, "containerStatuses": [container("push")]}
        pod_of(life, job, {"phase": "Succeeded", **status})
        job_ends(life, job, "Complete")


FAILURES: tuple[tuple[str, int, str, str], ...] = (
    ("build", 1, "# example.com/a\n./main.go:3:1: undefined: x\n" * 60, ""),
    ("build", 1, "\x1b[31m./a.go:1:1: undefined: y\x1b[0m\u2028", ""),
    ("build", 137, "signal: killed", "OOMKilled"),
    ("build", 1, "go: example.com/b@v1.0.0: invalid version: unknown revision", ""),
    ("build", 1, "error building image: GET https://r/v2/a: MANIFEST_UNKNOWN", ""),
    ("build", 1, "go: go.mod requires go >= 1.99 (running go 1.27; GOTOOLCHAIN=local)", ""),
    ("build", 3, "something else\n", ""),
    ("fetch", 1, '{"reason": "NoGoMod", "message": "no go.mod in ."}', ""),
    ("fetch", 1, "\x1b[2J not JSON", ""),
    ("fetch", 1, '{"reason": "UnsafeSource", "message": "a link leads out"}', ""),
    ("push", 1, 'time="t" level=fatal msg="writing: denied: requested access is denied"', ""),
    ("push", 1, 'time="t" level=fatal msg="dial tcp: lookup r: no such host"', ""),
    ("push", 2, "something else", ""),
    ("toolchain", 1, "cp: write error: No space left on device", ""),
    ("toolchain", 127, "sh: go: not found", ""),
    ("build", 1, "package ./cmd/a is not a main package", ""),
    ("build", 1, "Get https://r/v2/: net/http: TLS handshake timeout", ""),
    ("fetch", 1, '{"reason": "RevisionNotFound", "message": "it\u0007 went"}', ""),
)
"""How builds fail: the container, its exit code, its last words, the kubelet's reason."""
STOPS = 8
"""The first of them are not tried again."""


def build_fails(life: Life, kind: int = 0) -> None:
    """Every build that has begun fails in one way."""
    name, code, message, reason = FAILURES[kind % len(FAILURES)]
    for job in running_jobs(life):
        names = [*first_containers(job), "push"]
        where = names.index(name) if name in names else names.index("build")
        says = {"fetch": report(life, job), "build": "sha256:" + "0" * 64}
        ended = [container(each, message=says.get(each, "")) for each in names[:where]]
        ended.append(container(names[where], code, message, reason))
        pushed = [each for each in ended if each["name"] == "push"]
        before = [each for each in ended if each["name"] != "push"]
        pod_of(life, job, {"initContainerStatuses": before, "containerStatuses": pushed})
        job_ends(life, job, "Failed", "BackoffLimitExceeded")


def build_is_lost(life: Life, kind: int) -> None:
    """The platform ends every build that has begun."""
    for job in running_jobs(life):
        over = "BackoffLimitExceeded"
        match kind % 4:
            case 0:
                pod_of(life, job, {"reason": "Evicted", "message": "The node was low on memory."})
            case 1:
                words = "Usage of EmptyDir volume exceeds the limit"
                pod_of(life, job, {"reason": "Evicted", "message": words})
            case 2:
                pod_of(life, job, {"reason": "NodeLost"})
            case _:
                over = "DeadlineExceeded"
        job_ends(life, job, "Failed", over)


def rolls_out(life: Life) -> None:
    """The newest template takes over."""
    live = life.world.find("Deployment", *life.key)
    if live is not None:
        count = live["spec"]["replicas"]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        progress = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        status = {
            "observedGeneration": live["metadata"]["generation"],
            **dict.fromkeys(counts, count),
            "conditions": [
                {"type": "Available", "status": "True"},
                progress | {"lastUpdateTime": life.stamp},
            ],
        }
        life.world.set_status("Deployment", *life.key, status)


def rollout_sticks(life: Life, reason: str, **refusal: str) -> None:
    """The newest template does not take over."""
    live = life.world.find("Deployment", *life.key)
    if live is None:
        return
    exceeded = reason == "ProgressDeadlineExceeded"
    conditions = [
        {"type": "Available", "status": "True" if life.number % 2 else "False"},
        {
            "type": "Progressing",
            "status": "False" if exceeded else "True",
            "reason": reason,
            "lastUpdateTime": life.stamp,
        },
    ]
    if refusal:
        conditions.append({"type": "ReplicaFailure", "status": "True", **refusal})
    status = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": 2,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "conditions": conditions,
    }
    life.world.set_status("Deployment", *life.key, status)


def pod_is(life: Life, status: Manifest) -> None:
    """The one pod of the service that is looked at has this status."""
    namespace, service = life.key
    name = f"{service}-abcde"
    if life.world.find("Pod", namespace, name) is None:
        labels = {SERVICE: service, COMPONENT: "app"}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        life.world.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    life.world.set_status("Pod", namespace, name, status)


def autoscaler_says(life: Life, active: str, replicas: int) -> None:
    """The autoscaler has found out whether it can, and wants this many pods."""
    if life.world.find("HorizontalPodAutoscaler", *life.key) is None:
        return
    said = {"type": "ScalingActive", "status": active, "reason": "Found", "message": "so\x07 it is"}
    life.world.set_status("HorizontalPodAutoscaler", *life.key, {"conditions": [said]})
    if replicas and life.world.find("Deployment", *life.key):
        life.world.edit(
            "Deployment",
            *life.key,
            lambda live: live["spec"].update(replicas=replicas),
            manager="autoscaler",
        )


def passes(life: Life, seconds: float) -> None:
    """Time passes."""
    life.now += timedelta(seconds=seconds)


def an_hour_passes(life: Life) -> None:
    """Nothing happens for an hour."""
    passes(life, 3600)
