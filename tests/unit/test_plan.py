"""Rows of worlds: what is observed, and the plan that follows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from goservice import names, settings
from goservice.api import parsing, resource
from goservice.api.conditions import Reason, Type
from goservice.build import signs
from goservice.build.inputs import inputs_hash
from goservice.decide import plan, refusals
from goservice.decide.observed import Fleet, Lookup, Observed, Resolution
from goservice.decide.writes import Apply, Create, Delete, Plan
from goservice.errors import InvalidSpec
from goservice.manifest import find_condition
from goservice.objects import config_map, persistent_volume_claim, service_account
from tests.support import factories as f


def decide(service: resource.GoService, observed: Observed, seconds: float = 0) -> Plan:
    return plan.decide(service, observed, f.SETTINGS, f.later(seconds))


def kinds(decided: Plan) -> list[str]:
    """The plan's writes in short: `+Job`, `~Deployment`, `-Service`."""
    signs = {Create: "+", Apply: "~", Delete: "-"}
    result = []
    for write in decided.writes:
        kind = write.kind if isinstance(write, Delete) else write.manifest["kind"]
        by = "'" if isinstance(write, Apply) and write.manager == names.HANDOVER else ""
        result.append(signs[type(write)] + kind + by)
    return result


def verdict(decided: Plan) -> str:
    """The conditions in short, in the order of the truth table."""
    assert decided.status is not None
    words = []
    for kind in (Type.READY, Type.RECONCILING, Type.STALLED, Type.BUILT, Type.AVAILABLE):
        words.append(
            {"True": "T", "False": "F", "Unknown": "U"}.get(
                find_condition(decided.status, kind).get("status", ""), "-"
            )
        )
    return " ".join(words)


def reason(decided: Plan) -> str:
    assert decided.status is not None
    return str(find_condition(decided.status, Type.READY)["reason"])


def built(service: resource.GoService, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A finished Job and its pod."""
    job = f.job(service, ended="Complete", **more)
    return job, f.pod(job)


def applied(decided: Plan) -> list[dict[str, Any]]:
    """The applied objects as the cluster would show them, rolled out."""
    result = []
    for write in decided.writes:
        if isinstance(write, Apply) and write.manager == names.OPERATOR:
            manifest = write.manifest
            result.append(
                f.settled(manifest) if manifest["kind"] == "Deployment" else f.live(manifest)
            )
    return result


def serving(service: resource.GoService, *more: dict[str, Any], **observed: Any) -> Observed:
    """The world after a first successful build and rollout, status included."""
    job, pod = built(service)
    first = decide(service, f.observed(job, pod))
    world = [job, pod, *applied(first), *more]
    second = decide(service, f.observed(*world, status=dict(first.status or {})))
    assert verdict(second) == "T - - T T"
    observed.setdefault("status", dict(second.status or {}))
    return f.observed(*world, **observed)


# --- the truth table, row by row -----------------------------------------------------------------


def test_nothing_is_known_yet() -> None:
    decided = decide(f.service(), f.observed(resolution=None))
    assert verdict(decided) == "U T - U F"
    assert reason(decided) == "Resolving"
    assert decided.writes == ()
    assert decided.watch_source
    assert decided.events == ()


def test_first_build() -> None:
    decided = decide(f.service(), f.observed())
    assert kinds(decided) == ["~ServiceAccount", "+ConfigMap", "+Job"]
    assert verdict(decided) == "U T - U F"
    assert reason(decided) == "Building"
    assert decided.status is not None
    assert decided.status["build"]["trigger"] == ["FirstBuild"]
    assert decided.status["build"]["phase"] == "Running"
    assert [e.reason for e in decided.events] == ["Building"]


def test_build_running_changes_nothing() -> None:
    service = f.service()
    first = decide(service, f.observed())
    job = f.job(service)
    account = f.live(service_account.build_account(service))
    again = decide(service, f.observed(job, account, status=dict(first.status or {})), seconds=5)
    assert again.status is None
    assert again.writes == ()


def test_build_done_rolls_out() -> None:
    service = f.service()
    decided = decide(service, f.observed(*built(service)))
    assert kinds(decided) == ["~ServiceAccount", "~Deployment", "~Service"]
    assert verdict(decided) == "U T - T F"
    assert reason(decided) == "RollingOut"
    assert decided.status is not None
    assert decided.status["commit"]["author"] == "A. Author"
    assert decided.status["goVersion"] == "1.26"
    assert decided.status["latestImage"] == f"registry.example.com/shop/checkout@{f.DIGEST}"
    assert decided.status["history"][0]["outcome"] == "Succeeded"


def test_serving_sends_nothing_more() -> None:
    service = f.service()
    world = serving(service)
    decided = decide(service, world, seconds=600)
    assert decided.writes == ()
    assert decided.status is None
    assert world.status["servingImage"] == f"registry.example.com/shop/checkout@{f.DIGEST}"
    assert world.status["url"] == "http://checkout.shop.svc:80"


def test_new_commit_builds_while_the_old_image_serves() -> None:
    service = f.service()
    decided = decide(
        service, dataclasses.replace(serving(service), resolution=Resolution(sha=f.NEWER))
    )
    assert kinds(decided) == ["~ServiceAccount", "+ConfigMap", "+Job"]
    assert verdict(decided) == "U T - U T"
    assert decided.status is not None
    assert decided.status["build"]["trigger"] == ["NewCommit"]
    assert decided.status["servingImage"].endswith(f.DIGEST)


def test_failed_build_keeps_what_serves() -> None:
    service = f.service()
    world = serving(service)
    bad = f.job(
        service,
        commit=f.NEWER,
        ended="Failed",
        ended_reason="BackoffLimitExceeded",
        created=f.later(100),
    )
    pod = f.broken_pod(bad, "./main.go:3:1: undefined: x\n")
    children = {
        **world.children,
        ("Job", bad["metadata"]["name"]): bad,
        ("Pod", pod["metadata"]["name"]): pod,
    }
    decided = decide(
        service, dataclasses.replace(world, children=children, resolution=Resolution(sha=f.NEWER))
    )
    assert verdict(decided) == "F - T F T"
    assert reason(decided) == "CompileFailed"
    assert decided.writes == ()
    assert decided.status is not None
    assert "undefined: x" in decided.status["build"]["logTail"]
    assert (
        decided.status["build"]["logsCommand"]
        == f"kubectl logs -n shop job/{bad['metadata']['name']} -c build"
    )
    assert decided.events[0].type == "Warning"


def test_platform_failure_is_retried_with_delay() -> None:
    service = f.service()
    job = f.job(service, ended="Failed", finished=f.NOW)
    pod = f.pod(job, init=[], main=[], reason="Evicted", message="node was low on memory")
    waiting = decide(service, f.observed(job, pod), seconds=10)
    assert verdict(waiting) == "U T - U F"
    assert reason(waiting) == "Evicted"
    assert waiting.requeue_after == 20
    retried = decide(service, f.observed(job, pod), seconds=31)
    made = next(
        w.manifest for w in retried.writes if isinstance(w, Create) and w.manifest["kind"] == "Job"
    )
    assert made["metadata"]["name"].endswith("-2")
    assert made["metadata"]["annotations"][names.TRIES] == "2"
    assert made["metadata"]["annotations"][names.TRIGGER] == "Retry"


def test_retries_end() -> None:
    service = f.service()
    job = f.job(service, ended="Failed", notes={names.TRIES: "5"})
    pod = f.pod(job, init=[], main=[], reason="Evicted", message="node was low on memory")
    decided = decide(service, f.observed(job, pod), seconds=9999)
    assert reason(decided) == "RetriesExhausted"
    assert verdict(decided) == "F - T F F"


def test_a_new_generation_counts_tries_anew() -> None:
    job = f.job(f.service(), ended="Failed", notes={names.TRIES: "5"})
    pod = f.pod(job, init=[], main=[], reason="Evicted", message="node was low on memory")
    decided = decide(f.service(generation=2, replicas=2), f.observed(job, pod), seconds=9999)
    made = next(
        w.manifest for w in decided.writes if isinstance(w, Create) and w.manifest["kind"] == "Job"
    )
    assert made["metadata"]["annotations"][names.TRIES] == "1"


def test_a_new_generation_ends_a_failure() -> None:
    failed = f.service()
    job = f.job(failed, ended="Failed")
    pod = f.broken_pod(job)
    changed = f.service(generation=2, replicas=3)
    decided = decide(changed, f.observed(job, pod))
    assert "+Job" in kinds(decided)
    assert decided.status is not None
    assert decided.status["build"]["trigger"] == ["Retry"]


def test_rollout_stuck_past_its_deadline() -> None:
    service = f.service()
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])
    deployment["status"] = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 1,
        "conditions": [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
        ],
    }
    stuck = dataclasses.replace(
        world, children={**world.children, ("Deployment", "checkout"): deployment}
    )
    decided = decide(service, stuck)
    assert verdict(decided) == "F - T T T"
    assert reason(decided) == "ProgressDeadlineExceeded"
    question = decided.lookups[0]
    crash = {
        "metadata": {"name": "checkout-1"},
        "status": {
            "containerStatuses": [
                {
                    "name": "app",
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 2}},
                }
            ]
        },
    }
    told = decide(service, dataclasses.replace(stuck, lookups={question: (crash,)}))
    assert told.status is not None
    assert "CrashLoopBackOff" in find_condition(told.status, Type.READY)["message"]
    assert told.lookups == ()


def test_the_namespace_refuses_the_pods() -> None:
    service = f.service()
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])
    refusal = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": 'pods are forbidden: violates PodSecurity "restricted"',
    }
    deployment["status"] = {"observedGeneration": 1, "conditions": [refusal]}
    decided = decide(
        service,
        dataclasses.replace(
            world, children={**world.children, ("Deployment", "checkout"): deployment}
        ),
    )
    assert reason(decided) == "PodSecurityViolation"
    assert verdict(decided) == "F - T T F"


def test_suspended_says_so_of_the_current_generation() -> None:
    service = f.service()
    world = serving(service)
    decided = decide(f.service(generation=2, suspend=True), world)
    assert decided.writes == ()
    assert decided.status is not None
    assert decided.status["observedGeneration"] == 2, "else kstatus waits until it is resumed"
    assert verdict(decided) == "T - - T T"
    assert reason(decided) == "Suspended"
    assert "waits" not in find_condition(decided.status, Type.READY)["message"]
    asked = f.service(generation=2, suspend=True, annotations={resource.REBUILD_ANNOTATION: "now"})
    told = decide(asked, world)
    assert told.status is not None
    assert "A rebuild request waits." in find_condition(told.status, Type.READY)["message"]
    assert not decided.watch_source


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": {"git": {"url": "http://git.example.com/a.git"}}}, "ForbiddenByPlatform"),
        (
            {"autoscaling": {"maxReplicas": 3}, "resources": {"limits": {"cpu": "1"}}},
            "CPURequestMissing",
        ),
    ],
)
def test_what_the_platform_refuses_touches_nothing(changes: dict[str, Any], expected: str) -> None:
    decided = decide(f.service(**changes), f.observed())
    assert reason(decided) == expected
    assert verdict(decided) == "F - T - F"
    assert decided.writes == ()


@pytest.mark.parametrize(
    ("beginning", "fits"),
    [
        ("registry.example.com", True),
        ("registry.example.com/", True),
        ("registry.example.com/shop", True),
        ("registry.example.com/shop/checkout", True),
        ("registry.example.co", False),
        ("registry.example.com/sho", False),
        ("registry.example.com/shop/checkout/x", False),
        ("", False),
    ],
)
def test_a_registry_is_allowed_by_whole_parts(beginning: str, fits: bool) -> None:
    registries = f.SETTINGS.registries.model_copy(update={"allowed": (beginning,)})
    platform = f.SETTINGS.model_copy(update={"registries": registries})
    decided = plan.decide(f.service(), f.observed(), platform, f.NOW)
    assert reason(decided) == ("Building" if fits else "ForbiddenByPlatform")


def test_invalid_spec_touches_nothing_that_serves() -> None:
    world = serving(f.service())
    body = f.body(generation=2, timeZone="Mars/Olympus")
    with pytest.raises(InvalidSpec) as caught:
        parsing.parse(body)
    decided = refusals.invalid(body, caught.value, world, f.NOW)
    assert verdict(decided) == "F - T T T"
    assert decided.writes == ()
    assert "spec.timeZone" in decided.events[0].message


def test_foreign_object_is_never_overwritten() -> None:
    decided = decide(f.service(), f.observed(foreign=frozenset({("Service", "checkout")})))
    assert reason(decided) == "NotOwned"
    assert decided.writes == ()


# --- source ---------------------------------------------------------------------------------------


def test_a_git_outage_leaves_ready_alone() -> None:
    service = f.service()
    world = serving(service)
    away = dataclasses.replace(
        world, resolution=Resolution(reason=Reason.GIT_UNAVAILABLE, message="away")
    )
    decided = decide(service, away)
    assert verdict(decided) == "T - - T T"
    assert decided.status is not None
    assert find_condition(decided.status, Type.SOURCE_RESOLVED)["status"] == "False"
    assert decided.events == ()
    settled = decide(service, dataclasses.replace(away, status=dict(decided.status)))
    assert settled.status is None


@pytest.mark.parametrize(
    ("problem", "expected"),
    [(Reason.REVISION_NOT_FOUND, "F - T U F"), (Reason.GIT_UNAVAILABLE, "U T - U F")],
)
def test_no_commit_at_all(problem: Reason, expected: str) -> None:
    decided = decide(f.service(), f.observed(resolution=Resolution(reason=problem, message="…")))
    assert verdict(decided) == expected
    assert reason(decided) == problem


def test_a_restart_of_the_operator_trusts_the_status() -> None:
    service = f.service()
    decided = decide(service, dataclasses.replace(serving(service), resolution=None))
    assert decided.status is None
    assert decided.writes == ()


def test_a_new_revision_waits_for_its_commit() -> None:
    world = dataclasses.replace(serving(f.service()), resolution=None)
    changed = f.service(
        generation=2,
        source={"git": {"url": "https://git.example.com/shop/checkout.git", "revision": "v2"}},
    )
    decided = decide(changed, world)
    assert reason(decided) == "Resolving"
    assert verdict(decided) == "U T - U T"
    assert decided.writes == ()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Reason.FORBIDDEN_BY_PLATFORM, "F - T U T"),
        (Reason.REVISION_NOT_FOUND, "F - T U T"),
        (Reason.GIT_UNAVAILABLE, "U T - U T"),
    ],
)
@pytest.mark.parametrize("asked_first", [True, False])
def test_the_commit_of_one_source_is_never_built_from_another(
    problem: Reason, expected: str, asked_first: bool
) -> None:
    """However often it is looked at: the status still named the old commit, which was then built."""
    git = {"url": "https://elsewhere.example.com/checkout.git"}
    changed = f.service(generation=2, source={"git": git})
    world = serving(f.service())
    answers = [None] * asked_first + [Resolution(reason=problem, message="no")] * 3 + [None]
    for answer in answers:
        decided = decide(changed, dataclasses.replace(world, resolution=answer))
        assert decided.writes == ()
        if decided.status is not None:
            assert "commit" not in decided.status
            world = dataclasses.replace(world, status=dict(decided.status))
        if answer is not None:
            assert (verdict(decided) if decided.status else expected) == expected
            assert find_condition(world.status, Type.READY)["reason"] == problem


@pytest.mark.parametrize(
    "problem", [Reason.UNSAFE_SOURCE, Reason.GIT_AUTHENTICATION_FAILED, Reason.REVISION_NOT_FOUND]
)
def test_a_repository_that_is_lost_while_it_serves_is_told_and_takes_nothing_away(
    problem: Reason,
) -> None:
    world = serving(f.service())
    gone = Resolution(f.COMMIT, problem, "the server says no")
    decided = decide(f.service(), dataclasses.replace(world, resolution=gone))
    assert decided.writes == ()
    assert verdict(decided)[0] == "T"
    assert decided.status is not None
    assert find_condition(decided.status, Type.SOURCE_RESOLVED)["reason"] == problem
    (warning,) = decided.status["warnings"]
    assert warning["field"] == "spec.source.git"
    assert "New commits are not followed: the server says no." in warning["message"]
    assert [(e.type, e.reason, e.message) for e in decided.events] == [
        ("Warning", problem, "the server says no")
    ]
    again = dataclasses.replace(world, status=dict(decided.status), resolution=gone)
    assert decide(f.service(), again).status is None, "told once"


def test_an_outage_of_git_is_no_loss() -> None:
    away = Resolution(f.COMMIT, Reason.GIT_UNAVAILABLE, "no answer")
    decided = decide(f.service(), dataclasses.replace(serving(f.service()), resolution=away))
    assert decided.status is not None
    assert "warnings" not in decided.status
    assert decided.events == ()


def test_of_a_branch_and_a_tag_of_one_name_it_is_said_which_is_built() -> None:
    git = {"url": "https://git.example.com/shop/checkout.git", "revision": "v7"}
    service = f.service(source={"git": git})
    world = dataclasses.replace(serving(service), resolution=Resolution(f.COMMIT, tag=f.NEWER))
    decided = decide(service, world)
    assert decided.status is not None
    (warning,) = decided.status["warnings"]
    assert warning["field"] == "spec.source.git.revision"
    assert f.COMMIT[:12] in warning["message"]
    assert "refs/heads/v7 or refs/tags/v7" in warning["message"]


def deployments(decided: Plan) -> list[dict[str, Any]]:
    applied = [w.manifest for w in decided.writes if isinstance(w, Apply)]
    return [dict(manifest) for manifest in applied if manifest["kind"] == "Deployment"]


def test_pods_go_where_their_image_runs_and_an_image_of_old_goes_anywhere() -> None:
    service = f.service()
    job = f.job(service, ended="Complete")
    report = {"commit": f.COMMIT, "go": "1.26", "arch": "arm64"}
    ends = [
        f.terminated("fetch", message=json.dumps(report)),
        f.terminated("build", message=f.DIGEST),
    ]
    done = f.pod(job, init=ends, main=[f.terminated("push")])
    decided = decide(service, f.observed(job, done))
    made = deployments(decided)[0]
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    live = f.settled({**made, "metadata": {**made["metadata"], "uid": "d", "generation": 1}})
    status = dict(decided.status or {})
    for others in ((job, done), (job,), ()):  # the Job and its pod go, one after the other
        again = decide(service, f.observed(live, *others, status=status))
        assert not deployments(again)
        status = dict(again.status or status)
    for odd in ("", "a b", "A" * 40):
        old = f.terminated("fetch", message=json.dumps(report | {"arch": odd}))
        decided = decide(
            service, f.observed(job, f.pod(job, init=[old, ends[1]], main=[f.terminated("push")]))
        )
        made = deployments(decided)[0]
        assert "nodeSelector" not in made["spec"]["template"]["spec"]


def test_a_platform_polls_less_often_than_a_service_asks_for() -> None:
    service = f.service(
        source={"git": {"url": "https://git.example.com/a.git"}, "pollIntervalSeconds": 10}
    )
    access = f.SETTINGS.git.model_copy(update={"least_poll_seconds": 60})
    settings = f.SETTINGS.model_copy(update={"git": access})
    decided = plan.decide(service, serving(service), settings, f.NOW)
    assert decided.status is not None
    (warning,) = decided.status["warnings"]
    assert "looked at each 60 s" in warning["message"]
    assert [access.poll_seconds(wanted) for wanted in (0, 10, 300)] == [0, 60, 300]


def test_what_the_platform_allows_again_is_asked_for_anew() -> None:
    """A status that was written while the source was refused names no commit of it."""
    git = {"url": "http://git.example.com/shop/checkout.git"}
    changed = f.service(generation=2, source={"git": git})
    world = dataclasses.replace(serving(f.service()), resolution=None)
    refused = decide(changed, world)
    assert reason(refused) == "ForbiddenByPlatform"
    assert refused.status is not None
    world = dataclasses.replace(world, status=dict(refused.status))
    git_access = f.SETTINGS.git.model_copy(update={"allow_http": True})
    settings = f.SETTINGS.model_copy(update={"git": git_access})
    allowed = plan.decide(changed, world, settings, f.NOW)
    assert reason(allowed) == "Resolving"
    assert allowed.writes == ()


# --- builds ---------------------------------------------------------------------------------------


def test_a_full_platform_queues() -> None:
    decided = decide(f.service(), f.observed(fleet=Fleet(running=8, ahead=2)))
    assert decided.waits_for_slot
    assert kinds(decided) == []
    assert reason(decided) == "BuildQueued"
    assert verdict(decided) == "U T - U F"
    assert decided.status is not None
    assert "build" not in decided.status, "it names no build that was not started"


def test_a_retry_that_waits_for_a_place_is_silent_once_the_failed_job_is_gone() -> None:
    service = f.service()
    job = f.job(service, ended="Failed")
    pod = f.pod(job, init=[], main=[], reason="Evicted", message="node was low on memory")
    told = decide(service, f.observed(job, pod))
    full = f.observed(status=dict(told.status or {}), fleet=Fleet(running=10))
    waits = plan.decide(service, full, f.SETTINGS, f.later(3600))
    assert waits.status is not None
    assert reason(waits) == "BuildQueued"
    assert waits.status["build"]["name"] == job["metadata"]["name"]
    still = dataclasses.replace(full, status=dict(waits.status))
    assert plan.decide(service, still, f.SETTINGS, f.later(7200)).status is None
    free = dataclasses.replace(still, fleet=Fleet())
    starts = plan.decide(service, free, f.SETTINGS, f.later(7200))
    assert starts.status is not None
    assert starts.status["build"]["attempt"] == 2


def test_a_build_whose_job_is_gone_is_over_and_its_name_stays_taken() -> None:
    service = f.service()
    started = decide(service, f.observed())
    assert started.status is not None
    lost = f.observed(status=dict(started.status), fleet=Fleet(running=10))
    waits = decide(service, lost)
    assert waits.status is not None
    assert waits.status["build"]["phase"] == "Failed"
    assert waits.status["build"]["reason"] == "NodeLost"
    again = decide(service, dataclasses.replace(lost, fleet=Fleet()))
    assert again.status is not None
    assert again.status["build"]["attempt"] == 2


def test_the_status_of_a_version_that_named_a_waiting_build_names_it_no_more() -> None:
    service = f.service()
    name = f.job(service)["metadata"]["name"]
    old = {"build": {"name": name, "attempt": 1, "phase": "Queued"}}
    decided = decide(service, f.observed(status=old, fleet=Fleet(running=10)))
    assert decided.status is not None
    assert "build" not in decided.status
    free = decide(service, f.observed(status=old))
    assert free.status is not None
    assert free.status["build"]["name"] == name


def test_a_name_that_another_has_taken_is_not_used() -> None:
    service = f.service()
    taken = f.job(service, attempt=4)
    del taken["metadata"]["ownerReferences"]
    file = {
        "kind": "ConfigMap",
        "metadata": {"name": f.job(service, attempt=6)["metadata"]["name"]},
    }
    decided = decide(service, f.observed(taken, file))
    assert decided.status is not None
    assert decided.status["build"]["attempt"] == 7


def test_a_lost_status_rebuilds_nothing() -> None:
    service = f.service()
    world = serving(service)
    bare = {k: v for k, v in world.children.items() if k[0] not in ("Job", "Pod")}
    decided = decide(service, dataclasses.replace(world, children=bare, status={}))
    assert [k for k in kinds(decided) if "Job" in k] == []
    assert verdict(decided) == "T - - T T"


def test_an_old_commit_is_deployed_again_without_a_build() -> None:
    service = f.service()
    world = serving(service)
    history = [
        {
            "build": names.build(service, inputs_hash(service, f.SETTINGS, f.NEWER), 1),
            "commit": f.NEWER,
            "builtAt": "2026-11-24T10:00:00Z",
            "outcome": "Succeeded",
            "image": f"registry.example.com/shop/checkout@{f.OTHER_DIGEST}",
        },
        *world.status["history"],
    ]
    status = {**world.status, "history": history}
    decided = decide(
        service, dataclasses.replace(world, status=status, resolution=Resolution(sha=f.NEWER))
    )
    assert kinds(decided) == ["~Deployment"]


def test_two_builds_of_one_service_never_run_at_once() -> None:
    service = f.service()
    job = f.job(service)
    decided = decide(service, f.observed(job, resolution=Resolution(sha=f.NEWER)))
    assert kinds(decided) == []
    assert reason(decided) == "Building"


def test_a_rebuild_request_asks_git_first_and_then_builds_equal_inputs() -> None:
    service = f.service(annotations={resource.REBUILD_ANNOTATION: "now"})
    world = serving(f.service())
    asked = decide(service, world)
    assert asked.refresh_source
    assert asked.writes == ()
    fresh = dataclasses.replace(world, resolution=Resolution(sha=f.COMMIT, fresh=True))
    decided = decide(service, fresh)
    job = next(
        w.manifest for w in decided.writes if isinstance(w, Create) and w.manifest["kind"] == "Job"
    )
    assert job["metadata"]["name"].endswith("-2")
    assert decided.status is not None
    assert decided.status["lastHandledRebuildAt"] == "now"
    assert decided.status["build"]["trigger"] == ["RebuildRequested"]


def test_a_missing_secret_is_told_after_15_seconds() -> None:
    service = f.service(
        image={"repository": "registry.example.com/a", "pushSecretRef": {"name": "push"}}
    )
    job = f.job(service)
    pod = f.pod(job, init=[{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}])
    early = decide(service, f.observed(job, pod), seconds=5)
    assert early.requeue_after == 10
    asked = decide(service, f.observed(job, pod), seconds=16)
    assert len(asked.lookups) == 2
    event = {
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed: secret "push" not found',
    }
    told = decide(service, f.observed(job, pod, lookups={asked.lookups[1]: (event,)}), seconds=16)
    assert reason(told) == "SecretNotFound"
    assert verdict(told) == "F - T F F"
    mended = f.pod(job, init=[{"name": "fetch", "state": {"running": {}}}])
    assert (
        reason(
            decide(
                service, f.observed(job, mended, lookups={asked.lookups[1]: (event,)}), seconds=30
            )
        )
        == "Building"
    )


@pytest.mark.parametrize(
    ("event", "words", "expected"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "push" : references non-existent secret key: .dockerconfigjson',
            ("SecretNotFound", "kubectl create secret docker-registry push"),
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "push" : secret "older" not found',
            ("SecretNotFound", "Secret shop/older (image.pushSecretRef) does not exist"),
        ),
        (
            "FailedCreate",
            'Error creating: pods "a" is forbidden: failed quota: compute: must specify limits.cpu for: fetch,push',
            ("ClusterRefused", "must specify limits.cpu for: fetch,push"),
        ),
        (
            "FailedCreate",
            'Error creating: pods "a" is forbidden: exceeded quota: compute, requested: limits.cpu=2',
            ("ClusterRefused", "exceeded quota: compute"),
        ),
        (
            "FailedCreate",
            "Error creating: pods is forbidden: memory max limit to request ratio per Container is 4",
            ("ClusterRefused", "limit to request ratio"),
        ),
        (
            "FailedCreate",
            'Error creating: admission webhook "p.example.com" denied the request: no root',
            ("ClusterRefused", "denied the request: no root"),
        ),
    ],
)
def test_what_a_namespace_refuses_is_told_within_a_minute(
    event: str, words: str, expected: tuple[str, str]
) -> None:
    service = f.service(
        image={"repository": "registry.example.com/a", "pushSecretRef": {"name": "push"}}
    )
    job = f.job(service)
    pod = f.pod(job, init=[{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}])
    asked = decide(service, f.observed(job, pod), seconds=16)
    found = ({"reason": event, "message": words},)
    told = decide(service, f.observed(job, pod, lookups={asked.lookups[0]: found}), seconds=16)
    assert reason(told) == expected[0]
    assert told.status is not None
    assert expected[1] in find_condition(told.status, Type.READY)["message"]
    assert verdict(told) == "F - T F F"


WITH_CLAIM = f.service(build={"cache": {"claimName": "go-caches"}})
"""A service whose builds keep their caches."""


def test_a_claim_that_another_node_has_is_told() -> None:
    service = WITH_CLAIM
    job = f.job(service)
    pod = f.pod(job, init=[{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}])
    asked = decide(service, f.observed(job, pod), seconds=16)
    words = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) b'
    found = ({"reason": "FailedAttachVolume", "message": words},)
    told = decide(service, f.observed(job, pod, lookups={asked.lookups[1]: found}), seconds=16)
    assert told.status is not None
    message = find_condition(told.status, Type.READY)["message"]
    assert words in message
    assert "use one that is ReadWriteMany" in message
    assert "PersistentVolumeClaim shop/go-caches" in message


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "PersistentVolumeClaim shop/go-caches (build.cache) has no volume. See: kubectl describe pvc go-caches -n shop",
        ),
        (
            'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded',
            "PersistentVolumeClaim shop/go-caches (build.cache) gets no volume.",
        ),
        (
            "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
            "is on nodes that do not take the pod. See: kubectl describe pvc go-caches -n shop",
        ),
        (
            "0/3 nodes are available: 3 Insufficient cpu.",
            "Lower build.resources.requests, or have nodes added",
        ),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {a: }.", "taint {a: }."),
    ],
)  # fmt: skip
def test_a_build_that_no_node_takes_is_told_with_its_claim_and_what_to_do(
    words: str, step: str
) -> None:
    job = f.job(WITH_CLAIM)
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod = f.pod(job, init=[], conditions=[{**unschedulable, "message": words}])
    told = decide(WITH_CLAIM, f.observed(job, pod), seconds=16)
    message = find_condition(told.status or {}, Type.READY)["message"]
    assert words.rstrip(".") in message
    assert step in message
    bare = decide(f.service(), f.observed(job, pod), seconds=16)
    assert (
        "PersistentVolumeClaim shop/"
        not in find_condition(bare.status or {}, Type.READY)["message"]
    )


def test_a_pod_that_waited_for_its_node_is_asked_about_once_it_has_one() -> None:
    """What a kubelet cannot mount it tells only then."""
    service = f.service()
    job = f.job(service)
    waits = [{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}]
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": f.stamp(f.later(600))}
    pod = f.pod(job, init=waits, conditions=[placed])
    nowhere = f.pod(job, init=[], conditions=[{**placed, "status": "False"}])
    before: dict[Lookup, tuple[dict[str, Any], ...]] = {}
    for seconds in (16, 61):
        before |= dict.fromkeys(decide(service, f.observed(job, nowhere), seconds).lookups, ())
    assert not decide(service, f.observed(job, pod, lookups=before), seconds=610).lookups
    asked = decide(service, f.observed(job, pod, lookups=before), seconds=616)
    assert asked.lookups
    assert asked.gives_way, "its place is not taken back for that"
    words = 'MountVolume.SetUp failed for volume "push" : secret "registry" not found'
    found = {lookup: ({"reason": "FailedMount", "message": words},) for lookup in asked.lookups}
    told = decide(service, f.observed(job, pod, lookups=before | found), seconds=616)
    assert reason(told) == "SecretNotFound"
    at_once = {**placed, "lastTransitionTime": f.stamp(f.later(1))}
    soon = f.pod(job, init=waits, conditions=[at_once])
    occasions = [
        look.occasion for look in decide(service, f.observed(job, soon), seconds=16).lookups
    ]
    assert set(occasions) == {"15"}


@pytest.mark.parametrize(
    "more", [{}, {"suspend": True}, {"image": {"repository": "elsewhere.example.com/a"}}]
)
def test_a_build_that_cannot_start_gives_way_whatever_else_is_said_of_its_service(
    more: dict[str, Any],
) -> None:
    """A paused service's build held its place until its deadline."""
    registries = f.SETTINGS.registries.model_copy(update={"allowed": ("registry.example.com",)})
    settings = f.SETTINGS.model_copy(update={"registries": registries})
    job, service = f.job(f.service()), f.service(generation=2, **more)

    def at(seconds: float, **pod: Any) -> Plan:
        return plan.decide(service, f.observed(job, f.pod(job, **pod)), settings, f.later(seconds))

    waits = [{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}]
    soon = at(20, init=waits)
    assert not soon.gives_way
    assert soon.requeue_after is not None
    assert soon.requeue_after <= 40
    assert at(60, init=waits).gives_way
    between = [f.terminated("fetch", 0, f.FETCHED % f.COMMIT), {**waits[0], "name": "build"}]
    assert not at(90, init=between).gives_way, "it goes on in a moment"
    stuck = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    assert at(90, init=[between[0], {"name": "build", "state": stuck}]).gives_way
    assert not at(90, init=[{"name": "fetch", "state": {"running": {}}}]).gives_way


def made_jobs(decided: Plan) -> list[dict[str, Any]]:
    created = [w.manifest for w in decided.writes if isinstance(w, Create)]
    return [dict(manifest) for manifest in created if manifest["kind"] == "Job"]


@pytest.mark.parametrize(
    "corrected",
    [
        {"image": {"repository": "registry.example.com/shop/checkout", "pushSecretRef": {"name": "right"}}},
        {"build": {"resources": {"requests": {"cpu": "1"}}}},
        {"build": {"timeoutSeconds": 300}},
        {"build": {"cache": {"claimName": "right"}}},
    ],
)  # fmt: skip
def test_a_build_that_never_began_is_made_anew_when_its_spec_is_corrected(
    corrected: dict[str, Any],
) -> None:
    started = decide(f.service(), f.observed())
    (job,) = made_jobs(started)
    job = {
        **job,
        "metadata": {**job["metadata"], "uid": "job-uid", "creationTimestamp": f.later(0)},
    }
    status = dict(started.status or {})
    pending = [{"name": "fetch", "state": {"waiting": {"reason": "PodInitializing"}}}]
    service = f.service(generation=2, **corrected)
    waits = f.observed(job, f.pod(job, init=pending), status=status)
    if "build" not in corrected or "cache" not in corrected["build"]:
        assert names.parse_build(service, job["metadata"]["name"]) is not None
    again = decide(service, waits, seconds=30)
    deleted = [w for w in again.writes if isinstance(w, Delete)]
    assert [(w.kind, w.name, w.uid) for w in deleted] == [
        ("Job", job["metadata"]["name"], "job-uid")
    ]
    assert again.status is not None
    assert "never began" in find_condition(again.status, Type.READY)["message"]
    leaving = {**job, "metadata": {**job["metadata"], "deletionTimestamp": f.later(30)}}
    still = f.observed(leaving, f.pod(job, init=pending), status=dict(again.status))
    assert decide(service, still, seconds=31).writes == ()
    gone = f.observed(status=dict(again.status))
    anew = decide(service, gone, seconds=32)
    (made,) = made_jobs(anew)
    assert made["metadata"]["name"] != job["metadata"]["name"]
    begun = f.pod(job, init=[{"name": "fetch", "state": {"running": {}}}])
    assert not decide(service, f.observed(job, begun, status=status), seconds=30).writes
    scaled = f.service(generation=2, replicas=3)
    assert not decide(scaled, waits, seconds=30).writes, "what no build shows makes none anew"


def test_a_build_that_never_began_is_made_anew_when_the_platform_is_corrected() -> None:
    """A quota refused its pod; the setting that the quota asks for leaves the generation as it is."""
    service = f.service()
    started = decide(service, f.observed())
    (job,) = made_jobs(started)
    more = {"uid": "job-uid", "creationTimestamp": f.stamp(f.NOW)}
    job = {**job, "metadata": {**job["metadata"], **more}}
    world = f.observed(job, status=dict(started.status or {}))
    limits = settings.Compute(limits={"cpu": "1"})
    builds = f.SETTINGS.builds.model_copy(update={"resources": limits})
    corrected = f.SETTINGS.model_copy(update={"builds": builds})

    def writes(seconds: float, observed: Observed, platform: settings.Settings) -> list[str]:
        return kinds(plan.decide(service, observed, platform, f.later(seconds)))

    assert writes(61, world, f.SETTINGS) == []
    assert writes(30, world, corrected) == [], "an upgrade makes no build anew that is on its way"
    assert writes(61, world, corrected) == ["-Job"]
    said = plan.decide(service, world, corrected, f.later(61)).status
    assert "settings were corrected" in find_condition(said or {}, Type.READY)["message"]
    begun = f.pod(job, init=[{"name": "fetch", "state": {"running": {}}}])
    running = f.observed(job, begun, status=dict(started.status or {}))
    assert writes(61, running, corrected) == []


def test_a_builder_image_that_the_node_cannot_pull_is_told_in_words_that_stay() -> None:
    service = f.service(build={"builderImage": "golang:1.99"})
    job = f.job(service)
    world: Any = None
    for why, message in (
        ("ErrImagePull", "failed to resolve docker.io/library/golang:1.99: not found"),
        ("ImagePullBackOff", 'Back-off pulling "golang:1.99": ErrImagePull: … not found'),
    ):
        waiting = {"waiting": {"reason": why, "message": message}}
        container = {"name": "toolchain", "image": "golang:1.99", "state": waiting}
        world = f.observed(job, f.pod(job, init=[container]), status=world.status if world else {})
        told = decide(service, world, seconds=16)
        if why == "ErrImagePull":
            assert verdict(told) == "F - T F F"
            assert reason(told) == "BaseImageNotFound"
            assert told.status is not None
            assert "cannot pull golang:1.99: look at build.builderImage" in str(told.status)
            world = dataclasses.replace(world, status=dict(told.status))
        else:
            assert told.status is None
    away = {"waiting": {"reason": "ErrImagePull", "message": "dial tcp: connection refused"}}
    container = {"name": "toolchain", "image": "golang:1.27", "state": away}
    waits = decide(service, f.observed(job, f.pod(job, init=[container])), seconds=16)
    assert reason(waits) == "Building"


def test_a_missing_claim_is_told_and_the_build_goes_on_once_it_is_there() -> None:
    service = f.service(build={"cache": {"claimName": "go-caches"}})
    job = f.job(service)
    pod = f.pod(job)
    pod["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": '0/3 nodes are available: persistentvolumeclaim "go-caches" not found.',
        }
    ]
    assert reason(decide(service, f.observed(job, pod), seconds=5)) == "Building"
    told = decide(service, f.observed(job, pod), seconds=16)
    assert (reason(told), verdict(told)) == ("ClaimNotFound", "F - T F F")
    assert "PersistentVolumeClaim shop/go-caches (build.cache.claimName)" in str(told.status)
    going = f.pod(job, init=[{"name": "fetch", "state": {"running": {}}}])
    assert reason(decide(service, f.observed(job, going), seconds=30)) == "Building"


def test_a_claim_is_made_with_a_build_and_changed_but_never_deleted() -> None:
    def claims(decided: Plan) -> list[str]:
        return [k for k in kinds(decided) if k.endswith("PersistentVolumeClaim")]

    wanted = f.service(build={"cache": {"size": "5Gi"}})
    first = decide(wanted, f.observed())
    assert kinds(first)[0] == "~PersistentVolumeClaim", "before the Job that mounts it"
    assert kinds(first)[-1] == "+Job"
    made = persistent_volume_claim.cache_claim(wanted)
    assert made is not None
    claim = f.live(made)
    assert claims(decide(wanted, f.observed(claim))) == []
    assert claims(decide(wanted, serving(wanted))) == [], "nothing is built: none is needed"
    larger = f.service(build={"cache": {"size": "9Gi"}})
    assert claims(decide(larger, serving(larger, claim))) == ["~PersistentVolumeClaim"]
    assert claims(decide(f.service(), serving(f.service(), claim))) == []
    waits = f.observed(f.job(wanted), f.pod(f.job(wanted)))
    assert claims(decide(wanted, waits)) == ["~PersistentVolumeClaim"], "somebody has deleted it"


def test_old_builds_are_removed_only_after_they_are_recorded() -> None:
    service = f.service(build={"history": {"succeeded": 1, "failed": 1}})
    old = f.job(
        service, commit="3" * 40, ended="Complete", finished=f.later(-100), created=f.later(-200)
    )
    world = serving(service, old, f.pod(old))
    unrecorded = dataclasses.replace(
        world, status={k: v for k, v in world.status.items() if k != "history"}
    )
    assert "-Job" not in kinds(decide(service, unrecorded))
    recorded = decide(service, world)
    assert kinds(recorded) == ["-Job"]


# --- workload -------------------------------------------------------------------------------------


ENDS = Lookup(
    "Pod",
    "shop",
    label_selector="goservice.dev/service=checkout,app.kubernetes.io/component=build",
)


def asks_for_the_end(job: dict[str, Any]) -> Lookup:
    found = job["metadata"]
    return dataclasses.replace(ENDS, occasion=f"end of {found['name']}", newest_of=(found["uid"],))


def test_a_build_whose_end_no_pod_has_told_is_asked_for_before_it_is_called_lost() -> None:
    service = f.service()
    job, pod = built(service)
    running = f.pod(job, init=[{"name": "fetch", "state": {"running": {}}}])
    for seen in ((job,), (job, running)):
        decided = decide(service, f.observed(*seen))
        assert decided.lookups == (asks_for_the_end(job),)
        assert reason(decided) == "Building"
        assert kinds(decided) == []
        answered = f.observed(*seen, lookups={asks_for_the_end(job): (pod,)})
        assert "~Deployment" in kinds(decide(service, answered))


def test_a_build_whose_pod_is_gone_is_lost_and_done_again() -> None:
    service = f.service()
    job = f.job(service, ended="Complete")
    decided = decide(service, f.observed(job, lookups={asks_for_the_end(job): ()}), seconds=61)
    assert reason(decided) == "NodeLost"
    decided = decide(service, f.observed(job, lookups={asks_for_the_end(job): ()}), seconds=600)
    assert kinds(decided) == ["~ServiceAccount", "+ConfigMap", "+Job"]


def test_an_ended_build_is_judged_once() -> None:
    """Its last words are read again in each pass: what they mean is known."""
    service = f.service()
    jobs = [f.job(service, attempt=number, ended="Failed") for number in range(1, 21)]
    for number, job in enumerate(jobs):
        job["metadata"]["uid"] = f"job {number}"
    pods = [f.broken_pod(job, f"{number} x.go:1:1: bad") for number, job in enumerate(jobs)]
    for job, pod in zip(jobs, pods, strict=True):
        pod["metadata"]["name"] = f"pod of {job['metadata']['name']}"
    signs.first_match.cache_clear()
    for _ in range(5):
        decide(service, f.observed(*jobs, *pods))
    found = signs.first_match.cache_info()
    assert (found.misses, found.hits) == (20, 80)


@pytest.mark.parametrize("tries", ["1", "5"])
def test_a_lost_build_is_told_once(tries: str) -> None:
    """What the status says of it is taken over from then on, without adding to it."""
    service = f.service()
    job = f.job(service, ended="Failed", notes={names.TRIES: tries})
    lookups: dict[Lookup, Any] = {asks_for_the_end(job): ()}
    first = decide(service, f.observed(job, lookups=lookups), seconds=61)
    assert first.status is not None
    again = decide(service, f.observed(job, status=dict(first.status)), seconds=65)
    assert again.status is None


def test_a_build_whose_end_only_the_deployment_remembers_is_not_shown_as_running() -> None:
    """The status write of the pass that saw the end was lost, and the pod is gone since."""
    service = f.service()
    started = decide(service, f.observed(f.job(service))).status
    job, pod = built(service)
    world = [job, *applied(decide(service, f.observed(job, pod, status=dict(started or {}))))]
    later = decide(service, f.observed(*world, status=dict(started or {})), seconds=90).status
    assert later is not None
    assert later["build"]["phase"] == "Succeeded"
    assert decide(service, f.observed(*world, status=dict(later)), seconds=95).status is None


def test_a_recorded_build_needs_no_pod() -> None:
    service = f.service()
    job, pod = built(service)
    told = decide(service, f.observed(job, pod)).status
    decided = decide(service, f.observed(job, status=dict(told or {})))
    assert decided.lookups == ()
    assert "~Deployment" in kinds(decided)


def test_an_image_that_serves_was_built_whatever_the_history_tells_of_its_build() -> None:
    """The history said NodeLost of it: two statuses took turns for ever."""
    service = f.service()
    job, pod = built(service)
    world = [job, *applied(decide(service, f.observed(job, pod)))]
    newer = f.job(service, commit="2" * 40, created=f.later(10))
    for name in (job["metadata"]["name"], newer["metadata"]["name"]):
        record = {"build": job["metadata"]["name"], "outcome": "NodeLost", "commit": f.COMMIT}
        told = {"observedGeneration": 1, "build": {"name": name}, "history": [record]}
        decided = decide(service, f.observed(*world, newer, status=told), seconds=90)
        assert decided.status is not None
        assert decided.status["build"]["name"] == job["metadata"]["name"]
        assert decided.status["build"]["phase"] == "Succeeded"


def test_a_record_without_an_outcome_tells_nothing() -> None:
    """Told of the build that the status names, it made two statuses take turns for ever."""
    service = f.service(generation=2)
    job = f.job(f.service(), ended="Failed", finished=f.later(80))
    other = f.job(f.service(), commit="2" * 40, created=f.later(10))
    told = []
    for one in (job, other):
        record = {"build": job["metadata"]["name"], "outcome": ""}
        status = {"observedGeneration": 2, "build": {"name": one["metadata"]["name"]}}
        lookups: dict[Lookup, Any] = {asks_for_the_end(job): ()}
        seen = f.observed(job, other, status={**status, "history": [record]}, lookups=lookups)
        told.append(reason(decide(service, seen, seconds=90)))
    assert told == ["NodeLost", "NodeLost"]


@pytest.mark.parametrize("number", ["x", "9", ""])
def test_which_build_a_job_is_its_name_tells_and_no_annotation(number: str) -> None:
    service = f.service()
    job = f.job(service, ended="Failed", attempt=3, notes={names.TRIES: "5"})
    pod = f.broken_pod(job)
    first = decide(service, f.observed(job, pod))
    notes = {**job["metadata"]["annotations"], names.ATTEMPT: number, names.INPUTS: "aaaaaaaaaa"}
    job = {**job, "metadata": {**job["metadata"], "annotations": notes}}
    assert decide(service, f.observed(job, pod)) == first


def test_a_job_of_another_name_is_none_of_its_builds() -> None:
    service = f.service()
    job, pod = built(service)
    job = {**job, "metadata": {**job["metadata"], "name": "checkout-build-mine"}}
    assert "+Job" in kinds(decide(service, f.observed(job, pod)))


def test_files_without_a_job_stay_until_the_commit_is_known_again() -> None:
    """An operator that died between the two must not remove what it makes again."""
    service = f.service()
    files = f.live(
        config_map.build_files(
            service, f.SETTINGS, f.COMMIT, "0123456789", "checkout-build-0123456789-1"
        )
    )
    assert kinds(decide(service, f.observed(files, resolution=None))) == []
    away = Resolution("", Reason.GIT_UNAVAILABLE, "away")
    assert kinds(decide(service, f.observed(files, resolution=away))) == []
    assert "-ConfigMap" in kinds(decide(service, f.observed(files)))


def test_pinned_digest_needs_no_source() -> None:
    service = f.service(
        image={"repository": "registry.example.com/a", "digest": f.OTHER_DIGEST}, source=None
    )
    decided = decide(service, f.observed(resolution=None))
    assert kinds(decided) == ["~ServiceAccount", "~Deployment", "~Service"]
    assert verdict(decided) == "U T - - F"
    assert not decided.watch_source
    done = decide(
        service, f.observed(*applied(decided), status=dict(decided.status or {}), resolution=None)
    )
    assert verdict(done) == "T - - - T"


def test_runtime_fields_apply_while_a_build_has_failed() -> None:
    world = serving(f.service())
    changed = f.service(generation=2, env=[{"name": "A", "value": "b"}], user={"uid": 4242})
    bad = f.job(changed, ended="Failed", created=f.later(100))
    pod = f.broken_pod(bad)
    children = {
        **world.children,
        ("Job", bad["metadata"]["name"]): bad,
        ("Pod", pod["metadata"]["name"]): pod,
    }
    decided = decide(changed, dataclasses.replace(world, children=children))
    deployment = next(
        w.manifest
        for w in decided.writes
        if isinstance(w, Apply) and w.manifest["kind"] == "Deployment"
    )
    pod_spec = deployment["spec"]["template"]["spec"]
    assert {"name": "A", "value": "b"} in pod_spec["containers"][0]["env"]
    assert pod_spec["containers"][0]["image"].endswith(f.DIGEST)
    assert pod_spec["securityContext"]["runAsUser"] == 10001


def test_autoscaling_hands_replicas_over() -> None:
    world = serving(f.service(replicas=3))
    on = f.service(generation=2, replicas=3, autoscaling={"minReplicas": 2, "maxReplicas": 5})
    decided = decide(on, world)
    assert kinds(decided) == ["~Deployment'", "~Deployment", "~HorizontalPodAutoscaler"]
    handover, main = (w.manifest for w in decided.writes[:2] if isinstance(w, Apply))
    assert handover["spec"] == {"replicas": 3}
    assert "replicas" not in main["spec"]
    off = f.service(generation=3, replicas=3)
    scaled = {**world.children}
    scaled["Deployment", "checkout"] = f.settled(main, replicas=5)
    for write in decided.writes[2:]:
        assert isinstance(write, Apply)
        scaled[write.manifest["kind"], "checkout"] = f.live(write.manifest)
    back = decide(off, dataclasses.replace(world, children=scaled))
    assert kinds(back) == ["-HorizontalPodAutoscaler", "~Deployment"]


def test_a_new_operator_version_restarts_nothing() -> None:
    service = f.service()
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])
    metadata = deployment["metadata"]
    deployment["metadata"] = {
        **metadata,
        "annotations": {**metadata["annotations"], names.RENDERED: "otherwise"},
    }
    template = deployment["spec"]["template"]
    deployment["spec"] = {
        **deployment["spec"],
        "template": {**template, "spec": {**template["spec"], "enableServiceLinks": True}},
    }
    decided = decide(
        service,
        dataclasses.replace(
            world, children={**world.children, ("Deployment", "checkout"): deployment}
        ),
    )
    assert decided.writes == ()


def test_a_share_of_the_memory_limit_that_changes_reaches_the_pods() -> None:
    world = serving(f.service())
    decided = decide(f.service(generation=2, go={"memoryLimitPercent": 50}), world)
    (deployment,) = (m for m in applied(decided) if m["kind"] == "Deployment")
    env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {e["name"]: e["value"] for e in env}["GOMEMLIMIT"] == str(64 * 2**20)


def test_drift_is_repaired() -> None:
    service = f.service()
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])
    deployment["spec"] = {**deployment["spec"], "replicas": 7}
    decided = decide(
        service,
        dataclasses.replace(
            world, children={**world.children, ("Deployment", "checkout"): deployment}
        ),
    )
    assert kinds(decided) == ["~Deployment"]


def test_a_worker_loses_its_service() -> None:
    world = serving(f.service())
    decided = decide(f.service(generation=2, ports=[]), world)
    assert kinds(decided) == ["~Deployment", "-Service"]


def test_restart_request_is_echoed_and_taking_it_away_restarts_nothing() -> None:
    world = serving(f.service())
    asked = f.service(annotations={resource.RESTART_ANNOTATION: "once"})
    decided = decide(asked, world)
    assert kinds(decided) == ["~Deployment"]
    assert decided.status is not None
    assert decided.status["lastHandledRestartAt"] == "once"
    children = {**world.children, ("Deployment", "checkout"): applied(decided)[0]}
    gone = decide(f.service(), dataclasses.replace(world, children=children))
    assert gone.writes == ()


def test_counts_alone_are_not_written_until_they_arrive() -> None:
    service = f.service(replicas=3)
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])
    deployment["status"] = {**deployment["status"], "readyReplicas": 2}
    some = dataclasses.replace(
        world, children={**world.children, ("Deployment", "checkout"): deployment}
    )
    assert decide(service, some).status is None


def test_one_ready_pod_of_one_is_on_its_way_while_two_are_wanted() -> None:
    service = f.service(replicas=2)
    world = serving(service)
    deployment = dict(world.children["Deployment", "checkout"])

    def status_with(count: int) -> Any:
        counts = {"replicas": count, "readyReplicas": count}
        there = {**deployment, "status": {**deployment["status"], **counts}}
        children = {**world.children, ("Deployment", "checkout"): there}
        status = {**world.status, "replicas": 0, "readyReplicas": 0}
        return decide(service, dataclasses.replace(world, status=status, children=children)).status

    assert status_with(1) is None
    assert status_with(2)["readyReplicas"] == 2


def test_a_deployment_of_another_uid_is_not_ours() -> None:
    service = f.service()
    stranger = dataclasses.replace(service, uid="another")
    decided = decide(stranger, dataclasses.replace(serving(service), status={}))
    assert "+Job" in kinds(decided)


def test_questions_are_data() -> None:
    assert Lookup("Pod", "a") == Lookup("Pod", "a")


@pytest.mark.parametrize("changes", [{"suspend": True}, {"image": {"repository": "nowhere/a"}}])
def test_a_status_of_a_newer_version_stops_nothing(changes: dict[str, Any]) -> None:
    service = f.service(**changes)
    registries = f.SETTINGS.registries.model_copy(update={"allowed": ("registry.example.com/",)})
    platform = f.SETTINGS.model_copy(update={"registries": registries})
    future = {"type": "Built", "status": "False", "reason": "FromTheFuture", "message": "?"}
    decided = plan.decide(service, f.observed(status={"conditions": [future]}), platform, f.NOW)
    assert decided.status is not None
    assert not find_condition(decided.status, Type.BUILT)


def test_a_failure_of_a_newer_version_is_a_failed_build() -> None:
    service = f.service()
    first = decide(service, f.observed())
    assert first.status is not None
    name = first.status["build"]["name"]
    recorded = {"build": name, "outcome": "FromTheFuture", "builtAt": f.stamp(f.NOW)}
    again = decide(service, f.observed(status={**first.status, "history": [recorded]}))
    assert reason(again) == "BuildFailed"
    assert again.writes == ()


@pytest.mark.parametrize("tries", ["1", "5"])
def test_a_failure_is_told_in_the_same_words_once_its_job_is_gone(tries: str) -> None:
    service = f.service()
    job = f.job(service, ended="Failed", notes={names.TRIES: tries})
    files = config_map.build_files(service, f.SETTINGS, f.COMMIT, "x", job["metadata"]["name"])
    pod = f.pod(job, init=[], main=[], reason="Evicted", message="node was low on memory")
    told = decide(service, f.observed(job, pod, files))
    assert reason(told) == ("Evicted" if tries == "1" else "RetriesExhausted")
    gone = decide(service, f.observed(status=dict(told.status or {})))
    assert gone.status is None
    assert gone.writes == ()
