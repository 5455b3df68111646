"""A real autoscaler: load, metrics-server's figures, more pods, and who wrote `replicas`."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from goservice.manifest import Manifest
from testbed.node import kubectl, localnode
from testbed.node.localnode import Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]

HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
HANDOVER = "goservice-operator-handover"


@contextmanager
def load(address: str, callers: int = 3) -> Iterator[None]:
    """Callers that each keep one request of 200 ms CPU time under way."""
    done = threading.Event()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call() -> None:
        while not done.is_set():
            try:
                opener.open(f"{address}/burn?ms=200", timeout=10).read()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                done.wait(0.2)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def managers_of_replicas(service: Service) -> set[str]:
    """Who owns `spec.replicas` of the Deployment."""
    fields = service.deployment()["metadata"]["managedFields"]
    return {f["manager"] for f in fields if "f:replicas" in f["fieldsV1"].get("f:spec", {})}


def replicas(service: Service) -> int:
    """The wanted pods."""
    return int(service.deployment()["spec"]["replicas"])


def test_load_brings_pods_and_only_the_autoscaler_writes_their_number(checkout: Service) -> None:
    checkout.patch(
        {
            "autoscaling": {
                "minReplicas": 1,
                "maxReplicas": 4,
                "targetCPUUtilizationPercentage": 50,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}},
            }
        }
    )
    checkout.wait_for("True Serving")
    assert managers_of_replicas(checkout) == {HANDOVER}
    after_handover = localnode.mark()

    def figure() -> bool:
        hpa = kubectl.get("hpa", checkout.name, "-n", checkout.namespace)["status"]
        return any(
            (m.get("containerResource") or {}).get("current", {}).get("averageUtilization")
            is not None
            for m in hpa.get("currentMetrics") or ()
        )

    localnode.until("metrics-server has a figure", figure, 120)
    checkout.wait_until(
        "Autoscaled", lambda s: _condition(s, "Autoscaled") == "True", 60
    )  # fmt: skip
    with load(checkout.address()):
        localnode.until("three pods or more", lambda: replicas(checkout) >= 3, 180)
        checkout.wait_until("they are ready", lambda s: s.get("readyReplicas", 0) >= 3, 90)
        assert _condition(checkout.status(), "Ready") == "True", "scaling is no rollout"
    localnode.until("one pod again", lambda: replicas(checkout) == 1, 180)
    writers = {
        entry.user
        for entry in localnode.audit(after_handover)
        if entry.resource in ("deployments", "deployments/scale")
        and entry.name == checkout.name
        and entry.verb in ("patch", "update", "create")
        and "replicas" in (entry.body.get("spec") or {})
    }
    assert writers == {HPA}


def test_switching_the_autoscaler_off_keeps_the_declared_number(checkout: Service) -> None:
    operation = '[{"op": "remove", "path": "/spec/autoscaling"}]'
    kubectl.kubectl(
        *("patch", "gsvc", checkout.name, "-n", checkout.namespace, "--type=json"),
        *("-p", operation),
    )
    hpa = (
        "get",
        "hpa",
        checkout.name,
        "-n",
        checkout.namespace,
        "--ignore-not-found",
        "-o",
        "name",
    )
    localnode.until("the autoscaler is gone", lambda: not kubectl.kubectl(*hpa), 30)
    checkout.wait_for("True Serving")
    # The autoscaler wrote the same number last, so it may be named beside us.
    assert "goservice-operator" in managers_of_replicas(checkout)
    assert HANDOVER not in managers_of_replicas(checkout)
    assert replicas(checkout) == checkout.body()["spec"]["replicas"] == 1


def _condition(status: Manifest, kind: str) -> str:
    found = [c["status"] for c in status.get("conditions", ()) if c["type"] == kind]
    return str(found[0]) if found else ""
