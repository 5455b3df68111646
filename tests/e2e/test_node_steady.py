"""The operator at rest, restarted and killed: nothing is written, nothing is built twice."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from testbed.node import kubectl, localnode
from testbed.node.localnode import Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]

IDLE_SECONDS = 60


def test_idle_and_restarted_it_writes_nothing_and_then_it_acts(checkout: Service) -> None:
    checkout.wait_for("True Serving")
    localnode.until("nothing is written any more", _quiet, 120)
    since = localnode.mark()
    time.sleep(IDLE_SECONDS)
    assert localnode.writes(since) == []
    localnode.restart_operator()
    time.sleep(10)
    assert localnode.writes(since) == []
    checkout.patch({"env": [{"name": "GREETING", "value": "awake"}]})
    localnode.until("the change is acted on", lambda: localnode.writes(since), 5)
    checkout.wait_for("True Serving")


def _quiet() -> bool:
    since = localnode.mark()
    time.sleep(5)
    return not localnode.writes(since)


def test_killed_in_mid_build_it_loses_nothing_and_builds_nothing_twice(checkout: Service) -> None:
    jobs = {job["metadata"]["name"] for job in checkout.jobs()}
    commit = localnode.push_sample("checkout", "Killed", **{"note.txt": "killed in mid-build\n"})
    checkout.wait_until(
        "the build runs",
        lambda s: s["commit"]["sha"] == commit and s["build"]["phase"] == "Running",
    )
    localnode.restart_operator(kill=True)
    status = checkout.wait_for("True Serving")
    assert status["commit"]["sha"] == commit
    assert status["build"]["attempt"] == 1
    new = {job["metadata"]["name"] for job in checkout.jobs()} - jobs
    assert new == {status["build"]["name"]}


def test_a_node_that_loses_power_in_mid_build_costs_a_second_attempt_at_the_most(
    checkout: Service,
) -> None:
    """API server, etcd, kubelet, the build, the service and the operator die at once."""
    jobs = {job["metadata"]["name"] for job in checkout.jobs()}
    deployment = checkout.deployment()["metadata"]["uid"]
    commit = localnode.push_sample("checkout", "Power", **{"note.txt": "lost in mid-build\n"})
    checkout.wait_until(
        "the build runs",
        lambda s: s["commit"]["sha"] == commit and s["build"]["phase"] == "Running",
    )
    since = localnode.mark()
    localnode.crash()
    localnode.wait_for_operator()
    checkout.wait_until(
        "the commit serves",
        lambda s: checkout.says() == "True Serving" and s["commit"]["sha"] == commit,
        2 * localnode.BUILD_SECONDS,
    )
    assert checkout.deployment()["metadata"]["uid"] == deployment
    new = {job["metadata"]["name"] for job in checkout.jobs()} - jobs
    assert 1 <= len(new) <= 2, "the one that died, and its second attempt"
    wrote = [w for w in localnode.writes(since) if w.code < 300]
    created = [w.name for w in wrote if w.resource == "jobs"]
    assert len(created) == len(set(created)) <= 1
    told = ("goservices/status", "events")
    objects = Counter((w.resource, w.name) for w in wrote if w.resource not in told)
    assert set(objects.values()) <= {1}, objects


def test_only_the_last_builds_are_kept(checkout: Service) -> None:
    finished = [
        job
        for job in checkout.jobs()
        if any(
            c["type"] == "Complete" and c["status"] == "True" for c in job["status"]["conditions"]
        )
    ]
    assert len(checkout.status()["history"]) > 3
    assert len(finished) == 3, "build.history.succeeded is 3"
    files = kubectl.get(
        *("configmaps", "-n", checkout.namespace),
        *("-l", f"goservice.dev/service={checkout.name}"),
    )["items"]
    assert {f["metadata"]["name"] for f in files} == {
        job["metadata"]["name"] for job in checkout.jobs()
    }
    assert all(f["immutable"] for f in files)
