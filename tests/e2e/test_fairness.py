"""One tenant holds up no other: the queue for build slots, against a real API server.

No node: a build's pod stays pending until the test ends it. That is what a build without its Secret,
without room or without its quota looks like, too.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from goservice import names
from goservice.manifest import find_condition
from testbed.apiserver import podstatus
from testbed.apiserver.controlplane import ControlPlane, Operator, Repository, until

pytestmark = pytest.mark.e2e

PLACES = 10
"""Builds that the platform runs at once; of one namespace half of them."""
CROWD = 1000
"""Services of one namespace that queue."""


@dataclass
class Platform:
    """A control plane and the operator on it."""

    plane: ControlPlane
    repository: Repository

    def submit(self, namespace: str, *services: str, **image: Any) -> None:
        """Create services in a namespace of their own."""
        self.plane.kubectl("create", "namespace", namespace)
        spec = {
            "source": {"git": {"url": self.repository.url}, "pollIntervalSeconds": 0},
            "image": {"repository": "registry.example.com/a", **image},
        }
        items = [
            {
                "apiVersion": "goservice.dev/v1alpha1",
                "kind": "GoService",
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }
            for name in services
        ]
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self.plane.kubectl("create", "-f", "-", given=json.dumps(listed))

    def builds(self, namespace: str) -> list[str]:
        """The services of a namespace whose builds run."""
        return [
            job["metadata"]["labels"][names.SERVICE]
            for job in self.plane.get("jobs", namespace=namespace) or []
            if job["metadata"].get("ownerReferences")
            and not job.get("status", {}).get("completionTime")
        ]

    def end_a_build(self, namespace: str) -> None:
        """One build of a namespace succeeds."""
        pod = next(
            pod
            for pod in self.plane.get("pods", namespace=namespace)
            if pod["status"].get("phase") == "Pending"
        )
        job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
        commit = self.plane.get("job", job, namespace)["metadata"]["annotations"][names.COMMIT]
        self.plane.run(
            "patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status",
            "--type=merge", "-p", json.dumps({"status": podstatus.built(commit, job)}),
        )  # fmt: skip

    def ready(self, namespace: str, name: str) -> tuple[str, str]:
        """Reason and message of Ready."""
        found = self.plane.get("goservice", name, namespace).get("status") or {}
        condition = find_condition(found, "Ready")
        return condition.get("reason", ""), condition.get("message", "")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        folder = Path(name)
        plane = ControlPlane(folder, {"kube-controller-manager": ("--kube-api-qps=200",)})
        repository = Repository(folder)
        settings = plane.settings(
            {
                "git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]},
                "builds": {"maxConcurrent": PLACES},
            }
        )
        operator = Operator(plane, settings)
        try:
            plane.start()
            plane.install()
            repository.commit()
            operator.start()
            yield Platform(plane, repository)
            operator.stop()
            assert operator.alarms == [], "a false alarm of the liveness probe"
        finally:
            plane.stop()
            repository.close()


def has_five(platform: Platform, namespace: str) -> bool:
    """Whether half of the places are a namespace's."""
    return len(platform.builds(namespace)) == PLACES // 2


def test_forged_jobs_hold_no_place(platform: Platform) -> None:
    plane = platform.plane
    plane.kubectl("create", "namespace", "forger")
    for number in range(PLACES):
        name = f"forged-build-{number:010x}-1"
        forged = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": "forger",
                "labels": {
                    names.MANAGED_BY: names.OPERATOR,
                    names.SERVICE: f"forged-{number}",
                    names.COMPONENT: "build",
                },
            },
            "spec": {
                "suspend": True,
                "template": {
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
                },
            },
        }
        plane.kubectl("create", "-f", "-", given=json.dumps(forged))
    platform.submit("honest", "one")
    until("its build runs", lambda: platform.builds("honest") == ["one"], 20)
    platform.end_a_build("honest")
    until("it is built", lambda: not platform.builds("honest"), 20)


def test_ten_blocked_builds_hold_up_nobody(platform: Platform) -> None:
    """Half of them of one namespace, half of another: they have all places until their second look."""
    for namespace in ("stuck", "stuck-too"):
        platform.submit(namespace, *"abcde", pushSecretRef={"name": "none"})
        until("its builds have places", partial(has_five, platform, namespace), 30)
    platform.submit("healthy", "one")
    until("it waits", lambda: platform.ready("healthy", "one")[0] == "BuildQueued", 20)
    until("its build runs", lambda: platform.builds("healthy") == ["one"], 100)
    platform.end_a_build("healthy")
    assert len(platform.builds("stuck")) == 5, "they go on by themselves once they can"


def test_a_thousand_of_one_namespace_hold_up_nobody(platform: Platform) -> None:
    platform.submit("crowd", *(f"service-{n:04}" for n in range(CROWD)))
    until("the crowd has its half", lambda: len(platform.builds("crowd")) == PLACES // 2, 60)

    def told() -> bool:
        reason, message = platform.ready("crowd", "service-0999")
        return reason == "BuildQueued" and "Before it wait more than 500" in message

    until("the last one is told how many are before it", told, 120)
    _, message = platform.ready("crowd", "service-0999")
    assert "one namespace may have 5 at once (builds.maxConcurrentPerNamespace)" in message
    platform.submit("second", *"abcdef")
    until("the second has the other half", lambda: len(platform.builds("second")) == 5, 20)
    platform.submit("quiet", "one")
    until("no place is left", lambda: platform.ready("quiet", "one")[0] == "BuildQueued", 20)
    assert (
        "the platform runs 10 at once (builds.maxConcurrent)" in platform.ready("quiet", "one")[1]
    )
    assert "crowd" not in platform.ready("quiet", "one")[1], "no names of other namespaces"
    for _ in range(2):
        if not platform.builds("quiet"):
            platform.end_a_build("crowd")
            time.sleep(2)
    until("it started within two ends", lambda: platform.builds("quiet") == ["one"], 20)
