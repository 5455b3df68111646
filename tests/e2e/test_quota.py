"""A namespace with a quota and a limit range, against a real API server that enforces them.

No node: a pod that the API server takes stays pending, and that is all that is asked here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from goservice.manifest import find_condition
from testbed.apiserver.controlplane import ControlPlane, Operator, Repository, until

pytestmark = pytest.mark.e2e

HARD = {
    "limits.cpu": "4",
    "limits.memory": "16Gi",
    "requests.cpu": "4",
    "requests.memory": "16Gi",
}
"""What the quota counts: a pod is refused if one of its containers leaves one of these out."""
GIT = {"git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]}}
"""Settings that let the operator ask the test's own repository."""
SIZED = {
    "builds": {
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"cpu": "2", "memory": "4Gi"},
        },
        "stepResources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "200m", "memory": "512Mi"},
        },
    }
}
"""The settings that docs/operations.md gives for such a namespace."""


@pytest.fixture
def bed() -> Iterator[tuple[ControlPlane, Repository]]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        plane = ControlPlane(Path(name))
        repository = Repository(Path(name))
        try:
            plane.start()
            plane.install()
            repository.commit()
            yield plane, repository
        finally:
            plane.stop()
            repository.close()


@contextmanager
def running(plane: ControlPlane, name: str, settings: dict[str, Any]) -> Iterator[None]:
    """The operator with these settings."""
    operator = Operator(plane, plane.settings(settings, name), name=f"operator-{name}")
    operator.start()
    try:
        yield
    finally:
        operator.stop()
    assert operator.alarms == [], "a false alarm of the liveness probe"


def objects(repository: Repository) -> list[dict[str, Any]]:
    """A quota that counts limits.cpu, a limit range with a ratio, and a service."""
    ratio = [{"type": "Container", "maxLimitRequestRatio": {"memory": "4"}}]
    spec = {
        "source": {"git": {"url": repository.url}, "pollIntervalSeconds": 0},
        "image": {"repository": "registry.example.com/a"},
    }
    made = [
        ("v1", "ResourceQuota", "compute", {"hard": HARD}),
        ("v1", "LimitRange", "ratio", {"limits": ratio}),
        ("goservice.dev/v1alpha1", "GoService", "checkout", spec),
    ]
    return [
        {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "cases"}, "spec": body}
        for api, kind, name, body in made
    ]  # fmt: skip


def test_a_quota_is_told_in_its_words_and_met_by_settings_alone(
    bed: tuple[ControlPlane, Repository],
) -> None:
    plane, repository = bed

    def ready() -> tuple[str, str]:
        status = plane.get("goservice", "checkout", "cases").get("status") or {}
        found = find_condition(status, "Ready")
        return found.get("reason", ""), found.get("message", "")

    def pods() -> list[dict[str, Any]]:
        return list(plane.get("pods", namespace="cases") or [])

    plane.kubectl("create", "namespace", "cases")
    quota, limits, service = objects(repository)
    plane.kubectl("create", "-f", "-", given=json.dumps(quota))
    until(
        "the quota counts",
        lambda: plane.get("resourcequota", "compute", "cases").get("status", {}).get("hard"),
    )
    with running(plane, "bare", GIT):
        plane.kubectl("create", "-f", "-", given=json.dumps(service))
        until("it is told", lambda: ready()[0] == "ClusterRefused", 75)
        assert "must specify limits.cpu for: build,fetch,push" in ready()[1].replace(
            "toolchain,", ""
        )
        assert not pods()
        (refused,) = plane.get("jobs", namespace="cases")
    plane.kubectl("create", "-f", "-", given=json.dumps(limits))
    with running(plane, "sized", GIT | SIZED):
        (pod,) = until("the corrected build has its pod", pods, 90)
        job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
        assert job != refused["metadata"]["name"]
        every = pod["spec"]["initContainers"] + pod["spec"]["containers"]
        assert all({"cpu", "memory"} <= set(c["resources"]["limits"]) for c in every)
        until("that is no failure", lambda: ready()[0] == "Building", 20)
