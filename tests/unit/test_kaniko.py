"""Outcomes over recorded pod and container statuses, one row for each class of failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

import factories as f
from goservice import kaniko
from goservice.conditions import Reason

SERVICE = f.service()
COMPILE = """INFO[0012] Running: [go build -trimpath]
# example.com/checkout
./main.go:9:2: undefined: fmt.Printn
error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1"""
TOO_OLD = "go: go.mod requires go >= 1.99 (running go 1.27.3; GOTOOLCHAIN=local)\nerror building image: exit status 1"
MODULE = "go: example.com/missing@v1.2.3: reading http://10.0.0.1/example.com/missing/@v/v1.2.3.mod: 404 Not Found\nerror building image: exit status 1"
BASE = "error building image: unable to complete operation after 3 attempts, last error: GET https://index.docker.io/v2/library/golang/manifests/9: MANIFEST_UNKNOWN: manifest unknown"
AWAY = 'error building image: Get "https://registry.example.com/v2/": dial tcp 192.0.2.1:443: connect: connection refused'
DENIED = "error pushing image: failed to push to destination: POST https://registry.example.com/v2/: UNAUTHORIZED: authentication required"


def fetched(**changes: Any) -> dict[str, Any]:
    return f.terminated("fetch", message=f.FETCHED % f.COMMIT) | changes


def failed(
    init: list[dict[str, Any]], main: list[dict[str, Any]] | None = None, **status: Any
) -> kaniko.Outcome:
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
    "compile": ([fetched(), f.terminated(BUILD, 1, COMPILE)], [], {}, Reason.COMPILE_FAILED),
    "go too old": ([fetched(), f.terminated(BUILD, 1, TOO_OLD)], [], {}, Reason.GO_VERSION_TOO_OLD),
    "module": ([fetched(), f.terminated(BUILD, 1, MODULE)], [], {}, Reason.MODULE_DOWNLOAD_FAILED),
    "base": ([fetched(), f.terminated(BUILD, 1, BASE)], [], {}, Reason.BASE_IMAGE_NOT_FOUND),
    "registry away": (
        [fetched(), f.terminated(BUILD, 1, AWAY)],
        [],
        {},
        Reason.REGISTRY_UNAVAILABLE,
    ),
    "oom": ([fetched(), f.terminated(BUILD, 137, "", "OOMKilled")], [], {}, Reason.OUT_OF_MEMORY),
    "compiler killed": (
        [fetched(), f.terminated(BUILD, 1, "go: compile: signal: killed")],
        [],
        {},
        Reason.OUT_OF_MEMORY,
    ),
    "disk": (
        [fetched(), f.terminated(BUILD, 1, "write /x: no space left on device")],
        [],
        {},
        Reason.DISK_FULL,
    ),
    "unknown": ([fetched(), f.terminated(BUILD, 7, "what?")], [], {}, Reason.BUILD_FAILED),
    "push denied": (
        [fetched(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 1, DENIED)],
        {},
        Reason.PUSH_DENIED,
    ),
    "push away": (
        [fetched(), f.terminated(BUILD, 0, f.DIGEST)],
        [f.terminated("push", 1, "EOF")],
        {},
        Reason.REGISTRY_UNAVAILABLE,
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
    "node lost": ([fetched()], [], {"reason": "NodeLost"}, Reason.NODE_LOST),
    "no end seen": ([fetched()], [], {}, Reason.NODE_LOST),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_failures(row: tuple[Any, Any, Any, Reason]) -> None:
    init, main, status, expected = row
    outcome = failed(init, main, **status)
    assert isinstance(outcome, kaniko.Failed)
    assert outcome.reason is expected
    assert outcome.retry is (expected in kaniko.RETRY)
    assert outcome.message


def test_a_push_that_only_shows_kanikos_usage_is_not_called_denied() -> None:
    """Kaniko prints its usage after the error of a push, and the kubelet keeps the end alone."""
    usage = (
        "  --push-ignore-immutable-tag-errors   If true, known tag immutability errors are ignored"
    )
    outcome = failed(
        [fetched(), f.terminated(BUILD, 0, f.DIGEST)], [f.terminated("push", 1, usage)]
    )
    assert isinstance(outcome, kaniko.Failed)
    assert outcome.reason is Reason.REGISTRY_UNAVAILABLE


def test_every_reason_has_a_row() -> None:
    assert {row[3] for row in ROWS.values()} | {
        Reason.DEADLINE_EXCEEDED
    } == kaniko.STOP | kaniko.RETRY


def test_deadline_and_lost_pod() -> None:
    job = f.job(SERVICE, ended="Failed", ended_reason="DeadlineExceeded")
    late = kaniko.outcome(job, None)
    assert isinstance(late, kaniko.Failed)
    assert late.reason is Reason.DEADLINE_EXCEEDED
    gone = kaniko.outcome(f.job(SERVICE, ended="Failed"), None)
    assert isinstance(gone, kaniko.Failed)
    assert gone.reason is Reason.NODE_LOST


def test_success_needs_all_three_containers_and_a_digest() -> None:
    job = f.job(SERVICE, ended="Complete")
    good = kaniko.outcome(job, f.pod(job))
    assert isinstance(good, kaniko.Succeeded)
    assert good.digest == f.DIGEST
    assert good.fetched.go == "1.26"
    for forged in ("sha256:" + "a" * 63, f.DIGEST + "\n", "x" + f.DIGEST):
        init = [fetched(), f.terminated(BUILD, 0, forged)]
        bad = kaniko.outcome(job, f.pod(job, init=init, main=[f.terminated("push")]))
        assert isinstance(bad, kaniko.Failed)
    # The build wrote a digest and then the push failed: it does not count.
    assert isinstance(
        failed([fetched(), f.terminated(BUILD, 0, f.DIGEST)], [f.terminated("push", 1)]),
        kaniko.Failed,
    )


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ([], kaniko.Running()),
        ([{"name": "fetch", "state": {"running": {}}}], kaniko.Running("fetch")),
        (
            [
                {
                    "name": "fetch",
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "no\x1b such"}},
                }
            ],
            kaniko.Running("fetch", "ErrImagePull: no such"),
        ),
        (
            [{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}],
            kaniko.Running(),
        ),
    ],
)
def test_running(init: list[dict[str, Any]], expected: kaniko.Running) -> None:
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
    assert outcome == kaniko.Running("", "Unschedulable: 0/1 nodes")
    assert kaniko.outcome(job, None) == kaniko.Running()


def test_texts_of_a_pod_are_cleaned_and_capped() -> None:
    text = "\x1b[31mred\x1b[0m \x07\u202e line\n" * 500
    shown = kaniko.tail(text)
    assert len(shown.encode()) <= kaniko.TAIL_LENGTH
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.startswith("red")
    assert kaniko.fetched(
        '{"commit": "x", "time": 5, "go": "{{7*7}}", "author": "a\\u001bb"}'
    ) == kaniko.Fetched(author="ab")
    assert kaniko.fetched("[]") == kaniko.Fetched()


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
    assert {"name": "DOCKER_CONFIG", "value": place} in pod["containers"][0]["env"]
    other = kaniko.containers(service, f.SETTINGS, f.COMMIT, "abc", "checkout-build-abc-2")
    assert place not in json.dumps(other)
    assert place not in json.dumps(pod["initContainers"])
