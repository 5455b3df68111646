"""Outcomes over recorded pod and container statuses, one row for each class of failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goservice import names
from goservice.api.conditions import After, Reason
from goservice.build import kaniko
from goservice.build.outcome import (
    TAIL_LENGTH,
    Failed,
    Fetched,
    Outcome,
    Running,
    Succeeded,
    fetched,
    tail,
)
from tests.support import factories as f

SERVICE = f.service()
BUILD_FAILURES = {reason for reason in Reason if reason.after in (After.STOP, After.RETRY)} - {
    Reason.INVALID_SPEC,
    Reason.FORBIDDEN_BY_PLATFORM,
    Reason.CPU_REQUEST_MISSING,
    Reason.PROGRESS_DEADLINE_EXCEEDED,
    Reason.PODS_FAILING,
    Reason.PAUSED,
    Reason.RETRIES_EXHAUSTED,
}
"""Every way in which one build can fail; the others are of the resource, the rollout, or of many builds."""
COMPILE = """INFO[0012] Running: [go build -trimpath]
# example.com/checkout
./main.go:9:2: undefined: fmt.Printn
error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1"""
TOO_OLD = "go: go.mod requires go >= 1.99 (running go 1.27.3; GOTOOLCHAIN=local)\nerror building image: exit status 1"
MODULE = "go: example.com/missing@v1.2.3: reading http://10.0.0.1/example.com/missing/@v/v1.2.3.mod: 404 Not Found\nerror building image: exit status 1"
BASE = "error building image: unable to complete operation after 3 attempts, last error: GET https://index.docker.io/v2/library/golang/manifests/9: MANIFEST_UNKNOWN: manifest unknown"
AWAY = 'error building image: Get "https://registry.example.com/v2/": dial tcp 192.0.2.1:443: connect: connection refused'
DENIED = 'level=fatal msg="writing blob: initiating layer upload to /v2/a/blobs/uploads/ in registry.example.com: requested access to the resource is denied"'
PUSH_AWAY = 'level=fatal msg="pinging container registry registry.example.com: EOF"'
CHANGED = 'level=fatal msg="initializing source oci:/kaniko/out/oci:: open /kaniko/out/oci/index.json: no such file or directory"'


def fetch_ended(**changes: Any) -> dict[str, Any]:
    return f.terminated("fetch", message=f.FETCHED % f.COMMIT) | changes


def failed(
    init: list[dict[str, Any]], main: list[dict[str, Any]] | None = None, **status: Any
) -> Outcome:
    job = f.job(SERVICE, ended="Failed", ended_reason="BackoffLimitExceeded")
    return kaniko.outcome(job, f.pod(job, init=init, main=main or [], **status))


def report(reason: str) -> dict[str, Any]:
    return f.terminated("fetch", 1, json.dumps({"reason": reason, "message": "words"}))


BUILD = "build"
ROWS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], Reason]] = {
    "revision": ([report("RevisionNotFound")], [], {}, Reason.REVISION_NOT_FOUND),
    "authentication": (
        [report("GitAuthenticationFailed")],
        [],
        {},
        Reason.GIT_AUTHENTICATION_FAILED,
    ),
    "git away": ([report("GitUnavailable")], [], {}, Reason.GIT_UNAVAILABLE),
    "unsafe link": ([report("UnsafeSource")], [], {}, Reason.UNSAFE_SOURCE),
    "no go.mod": ([report("NoGoMod")], [], {}, Reason.NO_GO_MOD),
    "no main": ([report("NoMainPackage")], [], {}, Reason.NO_MAIN_PACKAGE),
    "fetch breaks": ([f.terminated("fetch", 1, "Traceback")], [], {}, Reason.GIT_UNAVAILABLE),
    "fetch lies": ([report("Serving")], [], {}, Reason.GIT_UNAVAILABLE),
    "compile": ([fetch_ended(), f.terminated(BUILD, 1, COMPILE)], [], {}, Reason.COMPILE_FAILED),
    "go too old": (
        [fetch_ended(), f.terminated(BUILD, 1, TOO_OLD)],
        [],
        {},
        Reason.GO_VERSION_TOO_OLD,
    ),
    "module": (
        [fetch_ended(), f.terminated(BUILD, 1, MODULE)],
        [],
        {},
        Reason.MODULE_DOWNLOAD_FAILED,
    ),
    "base": ([fetch_ended(), f.terminated(BUILD, 1, BASE)], [], {}, Reason.BASE_IMAGE_NOT_FOUND),
    "registry away": (
        [fetch_ended(), f.terminated(BUILD, 1, AWAY)],
        [],
        {},
        Reason.REGISTRY_UNAVAILABLE,
    ),
    "oom": (
        [fetch_ended(), f.terminated(BUILD, 137, "", "OOMKilled")],
        [],
        {},
        Reason.OUT_OF_MEMORY,
    ),
    "compiler killed": (
        [fetch_ended(), f.terminated(BUILD, 1, "go: compile: signal: killed")],
        [],
        {},
        Reason.OUT_OF_MEMORY,
    ),
    "disk": (
        [fetch_ended(), f.terminated(BUILD, 1, "write /x: no space left on device")],
        [],
        {},
        Reason.DISK_FULL,
    ),
    "unknown": ([fetch_ended(), f.terminated(BUILD, 7, "what?")], [], {}, Reason.BUILD_FAILED),
    "push denied": (
        [fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 1, DENIED)],
        {},
        Reason.PUSH_DENIED,
    ),
    "push away": (
        [fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 1, PUSH_AWAY)],
        {},
        Reason.REGISTRY_UNAVAILABLE,
    ),
    "image changed before the push": (
        [fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 1, CHANGED)],
        {},
        Reason.BUILD_FAILED,
    ),
    "push cannot start": (
        [fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 128, 'exec: "skopeo": executable file not found in $PATH')],
        {},
        Reason.BUILD_FAILED,
    ),
    "evicted": (
        [],
        [],
        {"reason": "Evicted", "message": "The node was low on memory"},
        Reason.EVICTED,
    ),
    "evicted by disk": (
        [],
        [],
        {"reason": "Evicted", "message": "exceeds the limit of ephemeral-storage"},
        Reason.DISK_FULL,
    ),
    "node lost": ([fetch_ended()], [], {"reason": "NodeLost"}, Reason.NODE_LOST),
    "no end seen": ([fetch_ended()], [], {}, Reason.NODE_LOST),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_failures(row: tuple[Any, Any, Any, Reason]) -> None:
    init, main, status, expected = row
    outcome = failed(init, main, **status)
    assert isinstance(outcome, Failed)
    assert outcome.reason is expected
    assert outcome.retry is (expected.after is After.RETRY)
    assert outcome.message


def test_a_refused_push_names_the_field_and_keeps_the_registrys_words() -> None:
    outcome = failed(
        [fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)], [f.terminated("push", 1, DENIED)]
    )
    assert isinstance(outcome, Failed)
    assert "image.pushSecretRef" in outcome.message
    assert outcome.container == "push"
    assert outcome.tail == DENIED


def test_every_reason_has_a_row() -> None:
    of_the_clock = {Reason.DEADLINE_EXCEEDED, Reason.NOT_STARTED}
    assert {row[3] for row in ROWS.values()} | of_the_clock == BUILD_FAILURES


def test_deadline_and_lost_pod() -> None:
    job = f.job(SERVICE, ended="Failed", ended_reason="DeadlineExceeded")
    late = kaniko.outcome(job, None)
    assert isinstance(late, Failed)
    assert late.reason is Reason.DEADLINE_EXCEEDED
    gone = kaniko.outcome(f.job(SERVICE, ended="Failed"), None)
    assert isinstance(gone, Failed)
    assert gone.reason is Reason.NODE_LOST


def test_the_time_to_build_begins_when_a_node_has_the_pod() -> None:
    """The pod's own deadline is the build's; the Job's is the longest wait for a node."""
    made = f.job(SERVICE, ended="Failed", ended_reason="DeadlineExceeded", notes={names.MADE: "x"})
    unschedulable = f.pod(
        made,
        init=[],
        main=[],
        conditions=[
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}
        ],
    )
    waited = kaniko.outcome(made, unschedulable)
    assert isinstance(waited, Failed)
    assert (waited.reason, waited.retry) == (Reason.NOT_STARTED, True)
    assert "Unschedulable: 0/3" in waited.message
    job = f.job(SERVICE, ended="Failed", notes={names.MADE: "x"})
    mounting = f.pod(
        job, init=[{"name": "fetch", "state": {"waiting": {}}}], reason="DeadlineExceeded"
    )
    stuck = kaniko.outcome(job, mounting)
    assert isinstance(stuck, Failed)
    assert stuck.reason is Reason.NOT_STARTED
    # What a kubelet writes of a first container that never was, when the pod's time is over.
    unknown = [f.terminated("fetch", 137, reason="ContainerStatusUnknown")]
    never = kaniko.outcome(job, f.pod(job, init=unknown, main=[], reason="DeadlineExceeded"))
    assert isinstance(never, Failed)
    assert (never.reason, never.retry) == (Reason.NOT_STARTED, True)
    lost = kaniko.outcome(job, f.pod(job, init=unknown, main=[]))
    assert isinstance(lost, Failed)
    assert (lost.reason, lost.retry) == (Reason.NODE_LOST, True)
    killed = f.pod(
        job, init=[f.terminated("fetch"), f.terminated("build", 137)], reason="DeadlineExceeded"
    )
    late = kaniko.outcome(job, killed)
    assert isinstance(late, Failed)
    assert (late.reason, late.retry) == (Reason.DEADLINE_EXCEEDED, False)


def test_success_needs_all_three_containers_and_a_digest() -> None:
    job = f.job(SERVICE, ended="Complete")
    good = kaniko.outcome(job, f.pod(job))
    assert isinstance(good, Succeeded)
    assert good.digest == f.DIGEST
    assert good.fetched.go == "1.26"
    for forged in ("sha256:" + "a" * 63, f.DIGEST + "\n", "x" + f.DIGEST):
        init = [fetch_ended(), f.terminated(BUILD, 0, forged)]
        bad = kaniko.outcome(job, f.pod(job, init=init, main=[f.terminated("push")]))
        assert isinstance(bad, Failed)
    # The build wrote a digest and then the push failed: it does not count.
    assert isinstance(
        failed([fetch_ended(), f.terminated(BUILD, 0, f.DIGEST)], [f.terminated("push", 1)]),
        Failed,
    )


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ([], Running()),
        ([{"name": "fetch", "state": {"running": {}}}], Running("fetch", begun=True)),
        (
            [
                {
                    "name": "fetch",
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "no\x1b such"}},
                }
            ],
            Running("fetch", "ErrImagePull: no such"),
        ),
        (
            [{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}],
            Running(),
        ),
        (
            [
                {
                    "name": "fetch",
                    "state": {
                        "waiting": {
                            "reason": "CreateContainerError",
                            "message": f'no container "{"0f" * 32}" of a@sha256:{"0f" * 32}',
                        }
                    },
                }
            ],
            Running("fetch", f'CreateContainerError: no container "…" of a@sha256:{"0f" * 32}'),
        ),
        (
            [
                {
                    "name": "build",
                    "state": {
                        "waiting": {
                            "reason": "CreateContainerError",
                            # Seen of containerd 1.6.20 under Kubernetes v1.37.
                            "message": f'failed to generate container "{"0f" * 32}" spec: failed to'
                            ' generate spec: failed to mkdir "": mkdir : no such file or directory',
                        }
                    },
                }
            ],
            Running(
                "build",
                "CreateContainerError: the node's container runtime has no image volumes,"
                " which the platform's setting builds.toolchainVolume: Image takes",
            ),
        ),
    ],
)
def test_running(init: list[dict[str, Any]], expected: Running) -> None:
    job = f.job(SERVICE)
    assert kaniko.outcome(job, f.pod(job, init=init, main=[])) == expected


def test_unschedulable_is_told() -> None:
    job = f.job(SERVICE)
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes",
    }
    outcome = kaniko.outcome(job, f.pod(job, init=[], main=[], conditions=[condition]))
    assert outcome == Running("", "Unschedulable: 0/1 nodes")
    assert kaniko.outcome(job, None) == Running()


def test_texts_of_a_pod_are_cleaned_and_capped() -> None:
    text = "\x1b[31mred\x1b[0m \x07\u202e line\n" * 500
    shown = tail(text)
    assert len(shown.encode()) <= TAIL_LENGTH
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.startswith("red")
    assert fetched('{"commit": "x", "time": 5, "go": "{{7*7}}", "author": "a\\u001bb"}') == Fetched(
        author="ab"
    )
    assert fetched("[]") == Fetched()


def test_no_secret_is_where_user_code_runs() -> None:
    service = f.service(
        image={"repository": "registry.example.com/a", "pushSecretRef": {"name": "push"}}
    )
    pod = kaniko.containers(service, f.SETTINGS, f.COMMIT, "abc", "checkout-build-abc-1")
    mounts = {
        c["name"]: [m["name"] for m in c["volumeMounts"]]
        for c in pod["initContainers"] + pod["containers"]
    }
    assert [name for name, volumes in mounts.items() if "push" in volumes] == ["push"]
    place = next(
        m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if m["name"] == "push"
    )
    assert pod["containers"][0]["args"][-1] == f"{place}/config.json"
    other = kaniko.containers(service, f.SETTINGS, f.COMMIT, "abc", "checkout-build-abc-2")
    assert place not in json.dumps(other)
    assert place not in json.dumps(pod["initContainers"])


def test_push_reads_the_layout_as_root_without_rights_and_writes_nothing() -> None:
    pod = kaniko.containers(f.service(), f.SETTINGS, f.COMMIT, "abc", "checkout-build-abc-1")
    [push] = pod["containers"]
    assert push["image"] == f.SETTINGS.images.operator
    assert push["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(mount["readOnly"] for mount in push["volumeMounts"])
    assert not [word for word in push["args"] if word.startswith("--authfile")]


@pytest.mark.parametrize(
    ("repository", "plain"),
    [
        ("registry.local:5000/shop/a", True),
        ("registry.local/shop/a", False),
        ("registry.local:50001/shop/a", False),
        ("registry.example.com/registry.local", False),
    ],
)
def test_only_a_registry_that_the_platform_names_may_speak_plain_http(
    repository: str, plain: bool
) -> None:
    settings = f.SETTINGS.model_copy(
        update={
            "builds": f.SETTINGS.builds.model_copy(
                update={"insecure_registries": ("registry.local:5000",)}
            )
        }
    )
    service = f.service(image={"repository": repository})
    pod = kaniko.containers(service, settings, f.COMMIT, "abc", "checkout-build-abc-1")
    *_, goal, may_be_plain, _ = pod["containers"][0]["args"]
    assert bool(may_be_plain) is plain
    assert goal == f"docker://{repository}:{f.COMMIT}-abc"
