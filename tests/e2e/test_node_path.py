"""The main path on a real node: what a person sees, what runs, what a new commit changes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.node import kubectl, localnode
from testbed.node.localnode import Demo, Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]


def test_the_demo_shows_the_whole_way(demo: Demo) -> None:
    assert "cluster provider: local" in demo.output
    for stage in ("install the operator", "Building", "RollingOut", "Serving"):
        assert stage in demo.output, stage
    for container in ("fetch", "build", "push"):
        assert f"| --- {container}" in demo.output
    assert re.search(r"uid +10001\n", demo.output)
    assert "Europe/Paris (CET, CEST)" in demo.output
    assert re.search(r"digest +sha256:[0-9a-f]{64}\n", demo.output)
    assert re.search(r"compressed +[1-9]\d*\.\d\d MB\n", demo.output)
    assert demo.output.count("sample -n demo") >= 3
    assert "\x1b[" not in demo.output, "colours belong on a terminal only"
    if localnode.REAL_KANIKO:
        assert "stand-in for Kaniko" not in demo.output
    else:
        assert "stand-in for Kaniko" in demo.output


def test_the_operator_runs_its_own_image_as_the_manifests_say(demo: Demo) -> None:
    pod = localnode.operator_pod()
    digest = demo.operator.partition("@")[2]
    assert pod["status"]["containerStatuses"][0]["imageID"].endswith(digest)
    assert pod["spec"]["serviceAccountName"] == "goservice-operator"
    labels = kubectl.get("namespace", "goservice-system")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    name = pod["metadata"]["name"]
    proxy = f"/api/v1/namespaces/goservice-system/pods/{name}:8080/proxy"
    assert kubectl.kubectl("get", "--raw", f"{proxy}/healthz") == "ok\n"
    assert kubectl.kubectl("get", "--raw", f"{proxy}/readyz") == "ok\n"
    counted = kubectl.kubectl("get", "--raw", f"{proxy}/metrics")
    assert re.search(r"^goservice_operator_passes_total\{.*\} [1-9]", counted, re.MULTILINE)
    lines = kubectl.kubectl("logs", name, "-n", "goservice-system").splitlines()
    assert lines
    assert all({"time", "level", "message"} <= json.loads(line).keys() for line in lines)


def test_the_service_is_hardened_and_knows_its_zone(checkout: Service) -> None:
    said = checkout.ask()
    assert (said["uid"], said["gid"]) == (10001, 10001)
    assert int(said["capEff"], 16) == 0
    assert said["noNewPrivs"] == "1"
    assert said["seccomp"] == "2"
    assert said["rootWritable"] is False
    assert said["tmpWritable"] is True
    environment = said["environment"]
    assert environment["PORT"] == "8080"
    assert environment["GOMEMLIMIT"] == str(int(128 * 1024 * 1024 * 0.9))
    assert environment["GREETING"] == "hello"
    assert "GOMAXPROCS" not in environment
    assert said["location"] == "Europe/Paris"
    assert said["winter"] == {"name": "CET", "offset": 3600}
    assert said["summer"] == {"name": "CEST", "offset": 7200}
    assert said["pacific"] == "2026-01-15T04:00:00-08:00"


def test_a_person_can_read_it(checkout: Service) -> None:
    where = ("-n", checkout.namespace)
    table = kubectl.kubectl("get", "gsvc", checkout.name, *where, "-o", "wide").splitlines()
    assert table[0].split() == ["NAME", "READY", "REASON", "IMAGE", "REPLICAS", "COMMIT", "AGE"]
    assert table[1].split()[1:5] == ["True", "Serving", checkout.status()["servingImage"], "1"]
    kubectl.kubectl("wait", "--for=condition=Ready", f"gsvc/{checkout.name}", *where)
    told = localnode.goservice("status", checkout.name, *where).stdout
    assert f"{checkout.namespace}/{checkout.name}: Serving" in told
    assert "First, Test Bed" in told
    events = kubectl.get(
        "events", *where, "--field-selector", f"involvedObject.name={checkout.name}"
    )
    ours = [e["reason"] for e in events["items"] if e["involvedObject"]["kind"] == "GoService"]
    assert len(ours) == len(set(ours)), "one event a transition"
    assert {"Building", "RollingOut", "Serving"} <= set(ours)
    log = localnode.goservice("logs", checkout.name, *where).stdout
    assert [line for line in log.splitlines() if line.startswith("---")] == [
        *("--- fetch", "--- toolchain", "--- build", "--- push")
    ]
    if not localnode.REAL_KANIKO:
        assert "test stand-in for the Kaniko executor (not Kaniko)" in log
    assert "Autoscaled" not in checkout.conditions(), "nobody asked for an autoscaler"


def test_kubectl_explains_every_level(demo: Demo) -> None:
    text = kubectl.kubectl("explain", "goservice", "--recursive")
    assert "memoryLimitPercent" in text
    crd = kubectl.get("crd", "goservices.goservice.dev")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    levels = list(_levels(schema, "goservice"))
    assert len(levels) > 40
    for level in levels:
        said = kubectl.kubectl("explain", level)
        assert "FIELDS:" in said, level
        assert "<empty>" not in said, level


def _levels(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Every object of the resource: what has fields of its own."""
    below = schema.get("items", schema).get("properties", {})
    if below:
        yield path
    for name, child in below.items():
        yield from _levels(child, f"{path}.{name}")


def test_a_new_commit_is_built_once_and_rolled_out(checkout: Service) -> None:
    before = checkout.status()
    jobs = {job["metadata"]["name"] for job in checkout.jobs()}
    commit = localnode.push_sample("checkout", "Second", **{"note.txt": "a change\n"})
    checkout.wait_until("the new commit is seen", lambda s: s["commit"]["sha"] == commit)
    after = checkout.wait_for("True Serving")
    assert after["commit"]["message"] == "Second"
    assert after["build"]["trigger"] == ["NewCommit"]
    assert after["servingImage"] == checkout.image()
    # The note is not in the image, so the digest tells only that the label changed.
    assert after["servingImage"] != before["servingImage"]
    assert len({job["metadata"]["name"] for job in checkout.jobs()} - jobs) == 1


def test_a_run_time_field_builds_nothing(checkout: Service) -> None:
    jobs = len(checkout.jobs())
    image = checkout.image()
    checkout.patch({"env": [{"name": "GREETING", "value": "good day"}]})
    checkout.wait_for("True Serving")
    localnode.until(
        "the new greeting", lambda: checkout.ask()["environment"]["GREETING"] == "good day"
    )
    assert checkout.image() == image
    assert len(checkout.jobs()) == jobs


def test_rebuild_and_restart_requests_are_echoed(checkout: Service) -> None:
    instance = checkout.ask()["instance"]
    now = str(time.time())
    checkout.annotate("restart-requested-at", now)
    checkout.wait_until("restarted", lambda s: s.get("lastHandledRestartAt") == now)
    checkout.wait_for("True Serving")
    localnode.until("another pod answers", lambda: checkout.ask()["instance"] != instance)
    digest = checkout.status()["servingImage"]
    localnode.goservice("rebuild", checkout.name, "-n", checkout.namespace)
    checkout.wait_until("rebuilt", lambda s: s.get("lastHandledRebuildAt"), localnode.BUILD_SECONDS)
    after = checkout.wait_for("True Serving")
    assert after["build"]["trigger"] == ["RebuildRequested"]
    assert after["build"]["attempt"] == 2
    assert after["servingImage"] == digest, "the same inputs give the same image, byte for byte"


def test_kubectl_scales_it_while_nothing_else_does(checkout: Service) -> None:
    def scale(count: int) -> None:
        kubectl.kubectl(
            *("scale", "goservice", checkout.name, "-n", checkout.namespace),
            f"--replicas={count}",
        )

    scale(2)
    checkout.wait_until("two pods", lambda s: s.get("readyReplicas") == 2)
    budget = kubectl.get("pdb", checkout.name, "-n", checkout.namespace)
    assert budget["spec"]["maxUnavailable"] == 1
    scale(1)
    checkout.wait_until("one pod", lambda s: s.get("replicas") == 1)
    checkout.wait_for("True Serving")


def test_suspend_holds_everything(checkout: Service) -> None:
    checkout.patch({"suspend": True})
    checkout.wait_until(
        "suspended",
        lambda s: any(c["reason"] == "Suspended" for c in s["conditions"]),
    )
    since = localnode.mark()
    jobs = len(checkout.jobs())
    localnode.push_sample("checkout", "Third", **{"note.txt": "while suspended\n"})
    checkout.patch({"env": []})
    time.sleep(8)
    assert {w.resource for w in localnode.writes(since)} <= {"goservices/status"}
    assert len(checkout.jobs()) == jobs
    checkout.patch({"suspend": False})
    checkout.wait_until(
        "the third commit",
        lambda s: s.get("commit", {}).get("message") == "Third",
        localnode.BUILD_SECONDS,
    )
    checkout.wait_for("True Serving")


def test_a_digest_serves_without_a_source_where_only_restricted_pods_may_run(
    checkout: Service,
) -> None:
    """Nothing is built, so the namespace may enforce `restricted`. The zone is the pods' alone."""
    localnode.namespace("locked", "restricted")
    localnode.push_secret("locked", "pull")
    oldest = checkout.status()["history"][-1]["image"]
    repository, _, digest = oldest.partition("@")
    for name, zone, winter, summer in (
        ("pacific", "US/Pacific", "PST", "PDT"),
        ("utc", "UTC", "UTC", "UTC"),
    ):
        service = localnode.submit(
            name,
            "locked",
            image={
                "repository": repository,
                "digest": digest,
                "pullSecretRefs": [{"name": "pull"}],
            },
            timeZone=zone,
        )
        status = service.wait_for("True Serving", 60)
        assert status["servingImage"] == oldest
        assert {c["type"] for c in status["conditions"]} == {"Ready", "Available"}
        said = service.ask()
        assert said["location"] == zone if zone != "UTC" else said["winter"]["offset"] == 0
        assert (said["winter"]["name"], said["summer"]["name"]) == (winter, summer)
        assert service.jobs() == []
    service.patch({"ports": []})
    found = ("get", "service", "utc", "-n", "locked", "--ignore-not-found", "-o", "name")
    localnode.until("a worker has no Service", lambda: not kubectl.kubectl(*found), 30)
    service.wait_for("True Serving", 60)


def test_rolling_back_by_digest_and_forward_again(checkout: Service) -> None:
    newest = checkout.status()["servingImage"]
    oldest = checkout.status()["history"][-1]["image"]
    assert oldest != newest
    jobs = len(checkout.jobs())
    checkout.patch({"image": {"digest": oldest.partition("@")[2]}})
    checkout.wait_for("True Serving", 60)
    assert checkout.image() == oldest
    checkout.patch({"image": {"digest": None}})
    checkout.wait_until("forward again", lambda s: s.get("servingImage") == newest)
    checkout.wait_for("True Serving", 60)
    assert len(checkout.jobs()) == jobs, "what has been built is not built again"
