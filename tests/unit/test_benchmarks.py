"""The benchmark's own arithmetic: what it counts, and what it builds beside the operator's Job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import audit, bounds, build, campaign, machine, report
from testbed.apiserver.controlplane import OPERATOR_USER
from tests.support import factories as f


def entry(
    verb: str, resource: str, name: str, at: float, user: str = OPERATOR_USER, **more: Any
) -> dict[str, Any]:
    part = resource.partition("/")
    moment = f"2026-11-24T12:00:{at:09.6f}Z"
    return {
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": user},
        "objectRef": {
            "resource": part[0],
            "subresource": part[2],
            "namespace": audit.TRICKLE,
            "name": name,
        },
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
        **more,
    }


async def test_the_worst_allowed_input_keeps_its_bounds() -> None:
    found = [figure async for figure in bounds.figures(bounds.SMALL)]
    assert len(found) >= 30
    assert [bounds.row(figure) for figure in found if not figure.holds] == []
    assert all(figure.lag_seconds for figure in found)


async def test_a_bound_that_is_broken_is_told() -> None:
    many = bounds.at_once(lambda _: [0] * 1000)
    broken = await bounds.measured("a list", 2, many, bounds.Bounds(100, bounds.MIB, 9.0))
    assert not broken.holds
    assert bounds.row(broken).endswith("BROKEN")
    shortly = bounds.at_once(lambda _: len([0] * 1_000_000))
    broken = await bounds.measured("a list", 1, shortly, bounds.Bounds(bounds.KIB, bounds.KIB, 9.0))
    assert not broken.holds, "what is needed for a moment counts, too"
    slow = await bounds.measured("a list", 1, shortly, bounds.Bounds(bounds.KIB, 9 * bounds.MIB, 0))
    assert slow.holds
    assert bounds.row(slow).endswith("slow")


def complete(status: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Complete", "status": status}]}}


def log_of(tmp_path: Path, *entries: dict[str, Any]) -> audit.Log:
    file = tmp_path / "audit.log"
    file.write_text("".join(json.dumps(e) + "\n" for e in entries))
    return audit.Log(file)


def test_only_the_operators_requests_are_counted_and_no_discovery(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        entry("get", "goservices", "a", 1),
        entry("get", "", "", 1),
        entry("watch", "jobs", "", 1),
        entry("list", "jobs", "", 1),
        entry("create", "selfsubjectaccessreviews", "", 1),
        entry("patch", "goservices/status", "a", 1),
        entry("create", "goservices", "a", 1, user="admin"),
    )
    seen = log.new()
    assert audit.table(seen) == {
        ("get", "goservices"): 1,
        ("list", "jobs"): 1,
        ("patch", "goservices/status"): 1,
    }
    assert [r.resource for r in seen if r.ours and r.write] == ["goservices/status"]
    assert log.new() == []


def test_latencies_run_from_the_users_request_and_from_the_jobs_completion(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        entry("create", "goservices", "a", 1.0, user="admin"),
        entry("create", "jobs", "a-build-x-1", 1.25),
        entry(
            "update",
            "jobs/status",
            "a-build-x-1",
            2.0,
            user="admin",
            requestObject=complete("False"),
        ),
        entry(
            "update",
            "jobs/status",
            "a-build-x-1",
            3.0,
            user="admin",
            requestObject=complete("True"),
        ),
        entry("patch", "deployments", "a", 3.125),
        entry("patch", "deployments", "a", 9.0),
    )
    found = campaign._latencies(log.new())
    assert found["apply_to_job"] == {"count": 1, "p50_ms": 250.0, "p99_ms": 250.0}
    assert found["complete_to_deployment"] == {"count": 1, "p50_ms": 125.0, "p99_ms": 125.0}


def test_quantiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert audit.quantile(values, 0.5) == 51
    assert audit.quantile(values, 0.99) == 100
    assert audit.quantile([7.0], 0.99) == 7


def test_a_recorded_lifecycle_is_printed_in_full() -> None:
    table = {"patch deployments": 1.0, "get goservices": 1.0}
    lines = "\n".join(report._lifecycle({"plain": table, "autoscaled": {}}))
    assert "patch deployments" in lines
    assert "writes in all                                    1           0" in lines


def test_the_pace_is_a_median_of_the_same_work() -> None:
    pace = machine.Pace([0.003, 0.001, 0.9])
    assert pace.milliseconds == 3
    pace.measure()
    assert 0 < pace.taken[-1] < 0.9


def test_the_larger_number_is_compared_with_the_smaller_at_the_same_pace() -> None:
    settled = {
        "restart": {
            "ready_seconds": 1,
            "settled_cpu_seconds": 1,
            "memory_peak_mib": 1,
            "writes": 0,
        },
        "idle": {
            "seconds": 1,
            "writes": 0,
            "operator_cpu_share": 0,
            "memory_mib": 1,
            "polls": 12,
        },
    }
    burst = {
        "jobs_seconds": 1,
        "ready_seconds": 1,
        "memory_peak_mib": 1,
        "strangers_cpu_seconds": 0,
        "passes_per_service": 5,
        "polls_per_service": 1,
    }
    one = {**burst, "services": 1000, "operator_cpu_seconds": 30.0, "pace_ms": 4.0}
    many = {**burst, "services": 10000, "operator_cpu_seconds": 390.0, "pace_ms": 5.0}
    lines = "\n".join(report._many({"burst": one, "many": {"burst": many, **settled}}))
    assert "13.0 times that of 1000 (12 or less)" in lines
    assert "1.25 times  CPU of the operator at the same pace: 10.4 times" in lines
    assert "12 questions to git servers" in lines


def test_the_classic_file_is_built_in_the_operators_own_pod() -> None:
    job = f.job(f.service())
    made = build.classic_job(job, "classic", "registry.example.com/bench/classic:1")
    pod = made["spec"]["template"]["spec"]
    text = json.dumps(made)
    assert job["metadata"]["name"] not in text
    assert "ownerReferences" not in text
    assert {"name": "dockerfile", "configMap": {"name": "classic"}} in pod["volumes"]
    assert "--destination=registry.example.com/bench/classic:1" in pod["initContainers"][-1]["args"]
    assert "docker://registry.example.com/bench/classic:1" in pod["containers"][0]["args"]
    fetch = job["spec"]["template"]["spec"]["initContainers"][0]
    assert pod["initContainers"][0] == fetch


def test_spans_and_sizes_are_read_from_what_the_node_says() -> None:
    def ended(name: str, seconds: int) -> dict[str, Any]:
        times = {
            "startedAt": "2026-11-24T12:00:00Z",
            "finishedAt": f"2026-11-24T12:00:{seconds:02d}Z",
        }
        return {"name": name, "state": {"terminated": times}}

    status = {
        "initContainerStatuses": [ended("fetch", 2), ended("build", 20)],
        "containerStatuses": [ended("push", 1)],
    }
    assert build.spans({"status": status}) == {"fetch": 2, "build": 20, "push": 1}
    assert build.compressed({"layers": [{"size": 5}, {"size": 7}]}) == 12
