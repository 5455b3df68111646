"""The parts of the tests with real operators that decide: what was asked, what broke a rule."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from goservice import names
from testbed.faults import Fault, Point, Strike
from tests.faults_process import campaign
from tests.faults_process.asked import asked
from tests.faults_process.recorder import Recorder
from tests.faults_process.stories import Run

KOPF = {"User-Agent": "kopf/1"}
SHOP = "/namespaces/shop"
POINTS = {
    "create": tuple(Point("create", "Job", "x", n) for n in range(1, 4)),
    "new commit": (Point("apply", "Deployment", "x", 1),),
}
UNDISTURBED = Run("create", (), (), POINTS["create"], {"Job/x": {"a": 1}}, [], (), 1.0)


@pytest.mark.parametrize(
    ("method", "line", "body", "expected"),
    [
        ("GET", "/apis/batch/v1/jobs?watch=true&limit=1", "", ("watch", "Job", "", "")),
        ("GET", f"/api/v1{SHOP}/pods?limit=100", "", ("list", "Pod", "shop", "")),
        ("GET", f"/api/v1{SHOP}/services/a", "", ("get", "Service", "shop", "a")),
        ("GET", "/apis/apps/v1", "", ("discover", "/apis/apps/v1", "", "")),
        ("GET", "/api", "", ("discover", "/api", "", "")),
        ("POST", f"/apis/batch/v1{SHOP}/jobs", "a", ("create", "Job", "shop", "a")),
        (
            "PATCH",
            f"/apis/apps/v1{SHOP}/deployments/a?fieldManager=goservice-operator",
            "a",
            ("apply", "Deployment", "shop", "a"),
        ),
        (
            "PATCH",
            f"/apis/apps/v1{SHOP}/deployments/a?fieldManager=goservice-operator-handover",
            "a",
            ("hand over", "Deployment", "shop", "a"),
        ),
        (
            "PATCH",
            f"/apis/goservice.dev/v1alpha1{SHOP}/goservices/a/status?force=true",
            "a",
            ("apply_status", "GoService", "shop", "a"),
        ),
        ("DELETE", f"/api/v1{SHOP}/services/a", "", ("delete", "Service", "shop", "a")),
    ],
)
def test_a_request_is_told_by_its_line_and_body(
    method: str, line: str, body: str, expected: tuple[str, ...]
) -> None:
    data = json.dumps({"metadata": {"name": body}}).encode()
    found = asked(method, line, KOPF, data)
    assert found is not None
    assert (found.verb, found.kind, found.namespace, found.name) == expected
    assert found.by_kopf
    assert found.is_write == (method != "GET")


def test_what_concerns_no_object_of_the_operator_is_let_through() -> None:
    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert asked("POST", review, {}, b"{}") is None


def test_every_point_is_struck_once_or_with_every_fault() -> None:
    faults = (Fault.CONFLICT, Fault.FORBIDDEN)
    every = {Strike(p, fault) for points in POINTS.values() for p in points for fault in faults}
    whole = [s for plan in campaign.plans(POINTS, faults, every=True) for s in plan.values()]
    assert Counter(whole) == Counter(every)
    rotated = [s for plan in campaign.plans(POINTS, faults) for s in plan.values()]
    assert Counter(s.point for s in rotated) == Counter({s.point for s in every})
    assert {s.fault for s in rotated} == set(faults)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end": {"Job/x": {"a": 2}}}, "/Job/x/a: 2, not 1"),
        ({"counts": [("ADDED", "Job", "x", 2)]}, "made and removed"),
        ({"late": "not within 30 s"}, "not within 30 s"),
        ({"violations": ("2 builds run at once",)}, "2 builds run at once"),
        ({"strikes": (Strike(POINTS["create"][0], Fault.LOST),)}, "never struck: create Job x#1"),
    ],
)
def test_whatever_differs_is_held_against_a_run(change: dict[str, Any], words: str) -> None:
    assert campaign.against(UNDISTURBED, UNDISTURBED) == []
    [found] = campaign.against(replace(UNDISTURBED, **change), UNDISTURBED)
    assert words in found


def seen(*changes: tuple[str, dict[str, Any]]) -> Recorder:
    recorder = Recorder()
    recorder.pushed.add("sha256:" + "a" * 64)
    for change, manifest in changes:
        recorder.saw(manifest["kind"], change, manifest)
    return recorder


def job(name: str, *, ended: bool = False) -> dict[str, Any]:
    status = {"conditions": [{"type": "Complete", "status": "True"}]} if ended else {}
    return {**named("Job", name), "status": status}


def named(kind: str, name: str) -> dict[str, Any]:
    metadata = {
        "namespace": "shop",
        "name": name,
        "uid": name,
        "labels": {names.SERVICE: "checkout"},
    }
    return {"kind": kind, "metadata": metadata}


def deployment(digest: str = "a" * 64, replicas: int = 2) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"image": f"registry.example.com/a@sha256:{digest}"}]}}
    return {**named("Deployment", "checkout"), "spec": {"replicas": replicas, "template": pod}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("ADDED", job("one")), ("MODIFIED", job("one", ended=True)), ("ADDED", job("two"))], ""),
        ([("ADDED", job("one")), ("ADDED", job("two"))], "2 builds run at once"),
        ([("ADDED", deployment())], ""),
        ([("ADDED", deployment("b" * 64))], "no build made"),
        ([("ADDED", deployment()), ("MODIFIED", deployment(replicas=1))], "scaled down"),
    ],
)
def test_the_recorder_sees_what_breaks_a_rule(
    changes: list[tuple[str, dict[str, Any]]], words: str
) -> None:
    found = "; ".join(seen(*changes).violations["shop", "checkout"])
    assert bool(found) == bool(words)
    assert words in found


def test_a_deployment_may_go_with_its_service_only() -> None:
    live = {"kind": "GoService", "metadata": {"namespace": "shop", "name": "checkout", "uid": "1"}}
    lost = seen(("ADDED", live), ("ADDED", deployment()), ("DELETED", deployment()))
    assert lost.violations["shop", "checkout"] == ["the Deployment was deleted"]
    ended = seen(("DELETED", live), ("ADDED", deployment()), ("DELETED", deployment()))
    assert not ended.violations["shop", "checkout"]


def test_creations_are_counted_by_object_and_a_watch_that_begins_anew_counts_nothing() -> None:
    again = {**job("one"), "metadata": {**job("one")["metadata"], "uid": "another"}}
    counts = seen(("ADDED", job("one")), ("ADDED", job("one"))).counts["shop", "checkout"]
    assert counts == {("ADDED", "Job", "one"): 1}
    counts = seen(("ADDED", job("one")), ("DELETED", job("one")), ("ADDED", again)).counts[
        "shop", "checkout"
    ]
    assert counts == {("ADDED", "Job", "one"): 2, ("DELETED", "Job", "one"): 1}
