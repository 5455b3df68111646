"""Whole lifecycles on the in-memory cluster: what is sent, and what a crash or fault changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from goservice import errors, names
from goservice.api import resource
from goservice.api.conditions import Type
from goservice.decide import attempts, pending_build
from goservice.decide.observed import Lookup
from goservice.errors import GitUnavailable
from goservice.loop import lookups
from goservice.manifest import find_condition
from goservice.metrics import Metrics
from goservice.objects import children
from goservice.settings import Settings
from testbed.inmemory import world
from tests.support import factories as f
from tests.support.lab import KEY, Lab


async def test_a_cold_create_sends_exactly_this() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    assert lab.ready() == ("True", "Serving")
    assert Counter((verb, kind) for verb, kind, _ in lab.world.writes) == {
        ("create", "ConfigMap"): 1,
        ("create", "Job"): 1,
        ("apply", "ServiceAccount"): 2,
        ("apply", "Deployment"): 1,
        ("apply", "Service"): 1,
        ("apply_status", "GoService"): 3,
        ("create", "Event"): 3,
    }
    assert lab.world.requests["get", "GoService"] == 1


async def test_idle_passes_and_a_restart_write_nothing() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    before = len(lab.world.writes)
    for hours in range(3):
        lab.now += timedelta(hours=hours)
        await lab.operator.reconcile(KEY)
    lab.start()
    await lab.operator.reconcile(KEY)
    assert lab.world.writes[before:] == []


async def test_a_restart_in_the_middle_of_a_build_builds_nothing_twice() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.start()
    await lab.settle()
    lab.finish_build()
    lab.start()
    await lab.serve()
    assert len(lab.world.all("Job")) == 1
    assert lab.ready() == ("True", "Serving")


async def test_a_new_commit_rolls_out() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    await lab.settle()
    assert lab.ready() == ("Unknown", "Building")
    lab.finish_build(f.OTHER_DIGEST)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    assert lab.status()["servingImage"].endswith(f.OTHER_DIGEST)
    assert [h["commit"] for h in lab.status()["history"]] == [f.NEWER, f.COMMIT]


async def test_a_rebuild_request_builds_equal_inputs_once() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.world.edit(
        "GoService",
        *KEY,
        lambda g: (
            g["metadata"].setdefault("annotations", {}).update({resource.REBUILD_ANNOTATION: "now"})
        ),
    )
    await lab.settle()
    lab.git.moment += 1
    await lab.serve()
    await lab.serve()
    assert len(lab.world.all("Job")) == 2
    assert lab.status()["lastHandledRebuildAt"] == "now"
    assert lab.ready() == ("True", "Serving")


async def test_a_git_outage_is_written_once() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    before = len(lab.world.writes)
    lab.git.error = GitUnavailable("away")
    await lab.settle()
    await lab.settle()
    assert [w[:2] for w in lab.world.writes[before:]] == [("apply_status", "GoService")]
    assert lab.ready() == ("True", "Serving")


def one_place() -> Settings:
    """Settings that let one build run at a time."""
    builds = f.SETTINGS.builds.model_copy(update={"max_concurrent": 1})
    return f.SETTINGS.model_copy(update={"builds": builds})


OTHER, THIRD = ("shop", "other"), ("shop", "third")


async def test_the_cap_holds_across_services() -> None:
    lab = Lab(one_place())
    lab.submit()
    lab.submit("other")
    await lab.settle()
    await lab.settle(OTHER)
    assert len(lab.world.all("Job")) == 1
    assert lab.operator.next_waiting() == [], "nobody is woken in vain"
    lab.finish_build()
    assert lab.operator.next_waiting() == [OTHER]
    await lab.settle(OTHER)
    assert len(lab.world.all("Job")) == 2


@pytest.mark.parametrize("way", ["invalid", "deleted", "suspended", "pinned"])
async def test_who_leaves_the_queue_makes_room_and_wakes_the_next(way: str) -> None:
    lab = Lab(one_place())
    lab.submit()
    lab.submit("other")
    lab.submit("third")
    for key in (KEY, OTHER, THIRD):
        await lab.settle(key)
    if way == "deleted":
        lab.world.remove("GoService", *OTHER)
    else:
        ways: dict[str, dict[str, Any]] = {
            "invalid": {"timeZone": "Mars/Olympus"},
            "suspended": {"suspend": True},
            "pinned": {
                "image": {"repository": "registry.example.com/shop/checkout", "digest": f.DIGEST}
            },
        }
        lab.world.edit("GoService", *OTHER, lambda g: g["spec"].update(ways[way]))
    lab.finish_build()
    lab.woken.clear()
    await lab.settle(OTHER)
    assert lab.woken == [THIRD]
    await lab.settle(THIRD)
    assert [j["metadata"]["labels"][names.SERVICE] for j in lab.world.all("Job")] == [
        "checkout",
        "third",
    ]


async def test_a_build_that_cannot_be_started_gives_its_place_to_who_waits() -> None:
    """While its Job was being made the others queued, and no Job ever ends to wake them."""
    lab = Lab(one_place())
    lab.submit()
    lab.submit("other")

    def refuse(request: world.Request) -> None:
        if request.kind == "Job" and request.name.startswith("checkout"):
            raise errors.Forbidden("exceeded quota", status=403)

    lab.world.before = refuse
    # The other one looks while the first one's requests are under way.
    ended = await asyncio.gather(
        lab.operator.reconcile(KEY), lab.operator.reconcile(OTHER), return_exceptions=True
    )
    assert isinstance(ended[0], errors.Forbidden)
    assert lab.operator.next_waiting() == [OTHER]
    assert lab.woken == [OTHER]
    await lab.settle()
    await lab.settle(OTHER)
    assert [j["metadata"]["labels"][names.SERVICE] for j in lab.world.all("Job")] == ["other"]


async def test_a_build_that_cannot_start_gives_its_place_away_and_takes_it_again() -> None:
    lab = Lab(one_place())
    lab.submit()
    lab.submit("other")
    await lab.settle()
    await lab.settle(OTHER)
    lab.now += timedelta(seconds=61)
    await lab.settle()
    assert lab.woken == [OTHER], "its pod is not there for a minute"
    lab.start()
    await lab.settle(OTHER)
    assert len(lab.world.all("Job")) == 1, "a new process knows nothing of it yet"
    await lab.settle()
    await lab.settle(OTHER)
    assert len(lab.world.all("Job")) == 2
    lab.submit("third")
    await lab.settle(THIRD)
    assert lab.ready(THIRD) == ("Unknown", "BuildQueued")


async def test_of_a_service_that_is_refused_nobody_is_asked() -> None:
    access = f.SETTINGS.git.model_copy(update={"allowed_hosts": ("git.example.org",)})
    lab = Lab(f.SETTINGS.model_copy(update={"git": access}))
    lab.submit()
    await lab.settle()
    assert lab.ready() == ("False", "ForbiddenByPlatform")
    assert lab.git.wanted == set()


async def test_a_crowd_of_pods_that_name_a_build_is_no_hot_loop() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    (job,) = lab.world.all("Job")
    for number in range(12):
        pod = f.pod(job, init=[{"name": "fetch", "state": {"waiting": {"reason": "ErrImagePull"}}}])
        pod["metadata"] = {
            **pod["metadata"], "name": f"forged-{number}", "labels": job["metadata"]["labels"],
        }  # fmt: skip
        for server_owned in ("uid", "creationTimestamp"):
            pod["metadata"].pop(server_owned, None)
        lab.world.add(pod)
    for seconds in (16, 61):
        lab.now += timedelta(seconds=seconds)
        waits = [await lab.operator.reconcile(KEY) for _ in range(4)]
        assert 0.0 not in waits[1:], "asked once, then it waits"


async def test_a_build_s_end_is_found_among_a_thousand_pods_and_one_is_kept() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()
    [pod] = lab.world.all("Pod")
    lab.cache.drop("Pod", pod)
    for number in range(1000):
        lab.world.add(
            {
                **pod,
                "metadata": {
                    "namespace": "shop",
                    "name": f"p{number}",
                    "labels": pod["metadata"]["labels"],
                },
                "spec": {"x": "y" * 1000},
            }
        )
    lab.cache.listing("Pod").end()
    assert await lab.operator.reconcile(KEY) == 0.0
    [found] = lab.operator._memory[KEY].lookups.values()
    assert [one["metadata"]["name"] for one in found] == [pod["metadata"]["name"]]
    await lab.settle()
    assert lab.ready() == ("Unknown", "RollingOut")


def test_all_questions_of_one_pass_are_remembered() -> None:
    """Else the answer to one pushes another out, and both are asked for ever."""
    of_a_build = (1 + attempts.MOST_PODS) * len(pending_build.LOOKS)
    assert of_a_build + len(("ends", "pods", "events")) <= lookups.REMEMBERED


def test_an_older_look_at_the_same_pods_is_let_go() -> None:
    kept: dict[Lookup, tuple[Any, ...]] = {}
    pods = [Lookup("Pod", "shop", label_selector="a=b", occasion=str(n)) for n in range(5)]
    for one in (
        *pods,
        Lookup("Event", "shop", occasion="1"),
        Lookup("Event", "shop", occasion="2"),
    ):
        lookups.remember(kept, one, ())
    assert [one.occasion for one in kept] == ["4", "1", "2"]


async def test_forged_jobs_hold_no_place() -> None:
    lab = Lab(one_place())
    for number, owner in enumerate(([], [{"uid": "forged", "controller": True}])):
        forged = f.job(f.service(), attempt=number + 7)
        forged["metadata"] |= {"ownerReferences": owner, "namespace": "shop"}
        forged["metadata"].pop("uid")
        forged["spec"]["suspend"] = True
        lab.world.add(forged)
    lab.submit("other")
    await lab.settle(OTHER)
    assert lab.ready(OTHER) == ("Unknown", "Building")


async def test_a_foreign_object_is_reported_and_left_alone() -> None:
    lab = Lab()
    lab.submit()
    lab.world.add(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"selector": {"a": "b"}},
        }
    )
    await lab.settle()
    lab.finish_build()
    with pytest.raises(errors.Conflict):
        await lab.operator.reconcile(KEY)
    await lab.settle()
    assert lab.ready() == ("False", "NotOwned")
    assert lab.world.all("Service")[0]["spec"] == {"selector": {"a": "b"}}
    lab.world.remove("Service", *KEY)
    lab.now += timedelta(seconds=61)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")


@pytest.mark.parametrize("kind", ["ConfigMap", "Job"])
async def test_a_foreign_object_where_a_build_belongs_is_reported_and_left_alone(kind: str) -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    (made,) = lab.world.all(kind)
    lab.world.remove("GoService", *KEY)
    taken = {**made, "metadata": {"name": made["metadata"]["name"], "namespace": "shop"}}
    lab.world.add(taken)
    lab.submit()
    with pytest.raises(errors.Conflict):
        await lab.operator.reconcile(KEY)
    await lab.settle()
    assert lab.ready() == ("False", "NotOwned")
    assert f"{kind} shop/{made['metadata']['name']} exists" in lab.message()
    assert "ownerReferences" not in lab.world.all(kind)[0]["metadata"]
    lab.world.remove(kind, "shop", made["metadata"]["name"])
    lab.now += timedelta(seconds=61)
    await lab.serve()
    assert lab.ready() == ("True", "Serving")


async def test_an_answer_is_looked_at_at_once() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()
    pod = lab.world.all("Pod")[0]
    lab.cache.drop("Pod", pod)
    assert await lab.operator.reconcile(KEY) == 0.0
    await lab.settle()
    assert lab.ready() == ("Unknown", "RollingOut")


async def test_a_copy_with_our_labels_is_left_alone() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    copied = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "checkout",
            "namespace": "shop",
            "labels": {names.MANAGED_BY: names.OPERATOR, names.SERVICE: "checkout"},
        },
        "spec": {"selector": {"a": "b"}},
    }
    lab.world.add(copied)
    lab.finish_build()
    with pytest.raises(errors.Conflict):
        await lab.operator.reconcile(KEY)
    assert lab.world.all("Service")[0]["spec"] == {"selector": {"a": "b"}}


async def test_a_clean_creation_reads_one_object_by_name() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    assert {k: n for k, n in lab.world.requests.items() if k[0] == "get"} == {
        ("get", "GoService"): 1
    }


async def test_a_child_of_ours_that_no_watch_shows_is_found_and_kept() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.cache.listing("Service").end()
    before = lab.world.all("Service")
    await lab.settle()
    assert lab.world.all("Service") == before
    assert lab.cache.get("Service", KEY) is not None


async def test_deleted_services_leave_nothing_and_are_forgotten() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    before = len(lab.world.writes)
    lab.world.remove("GoService", *KEY)
    assert await lab.operator.reconcile(KEY) is None
    assert lab.world.writes[before:] == []
    assert not lab.git.wanted
    for kind in children.CHILD_KINDS:
        assert lab.world.all(kind) == []


async def test_a_ghost_brings_nothing_back() -> None:
    lab = Lab()
    lab.submit()
    lab.world.on_change(lambda *_: None)
    stale = lab.world.all("GoService")[0]
    lab.world.remove("GoService", *KEY)
    lab.submit()
    stale["metadata"]["uid"] = "ghost"
    stale["metadata"]["resourceVersion"] = "9999"
    lab.cache.put("GoService", stale)
    assert await lab.operator.reconcile(KEY) == 0.0
    assert lab.world.all("Job") == []
    await lab.settle()
    live = lab.world.all("GoService")[0]["metadata"]["uid"]
    assert [j["metadata"]["ownerReferences"][0]["uid"] for j in lab.world.all("Job")] == [live]


async def test_children_of_a_service_whose_deletion_no_watch_told_are_not_made_anew() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.silent.add("GoService")
    lab.world.remove("GoService", *KEY)
    before = len(lab.world.writes)
    for _ in range(3):
        with pytest.raises(errors.NotFound):
            await lab.operator.reconcile(KEY)
    assert lab.world.writes[before:] == []


async def test_an_invalid_resource_harms_nothing() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.world.edit("GoService", *KEY, lambda g: g["spec"].update(timeZone="Mars/Olympus"))
    before = len(lab.world.writes)
    await lab.settle()
    assert lab.ready() == ("False", "InvalidSpec")
    assert {w[1] for w in lab.world.writes[before:]} == {"GoService", "Event"}


async def test_a_refusal_is_told_and_tried_again() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()

    def refuse(request: world.Request) -> None:
        if request.kind == "Deployment" and request.verb == "apply":
            raise errors.Invalid("spec.replicas: admission webhook says no", status=422)

    lab.world.before = refuse
    with pytest.raises(errors.Invalid):
        await lab.operator.reconcile(KEY)
    await lab.settle()
    assert lab.ready() == ("False", "ClusterRefused")
    assert "webhook says no" in find_condition(lab.status(), Type.READY)["message"]
    # Nothing has changed but the webhook's mind: it is tried again by itself, and told only once.
    lab.now += timedelta(seconds=61)
    with pytest.raises(errors.Invalid):
        await lab.operator.reconcile(KEY)
    before = len(lab.world.writes)
    assert await lab.operator.reconcile(KEY) == 60.0
    assert lab.world.writes[before:] == []
    lab.world.before = None
    lab.now += timedelta(seconds=61)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")


async def test_a_token_that_is_no_longer_known_is_no_refusal_of_an_object() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()

    def refuse(request: world.Request) -> None:
        raise errors.Unauthorized("Unauthorized", status=401)

    lab.world.before = refuse
    with pytest.raises(errors.Unauthorized):
        await lab.operator.reconcile(KEY)
    lab.world.before = None
    await lab.settle()
    assert lab.ready() == ("Unknown", "RollingOut"), "at once, and nothing is told of it"


async def test_a_refusal_of_a_deleted_service_does_not_hold_its_namesake() -> None:
    lab = Lab()
    lab.submit()

    def refuse(request: world.Request) -> None:
        if request.kind == "Job":
            raise errors.Forbidden("exceeded quota", status=403)

    lab.world.before = refuse
    with pytest.raises(errors.Forbidden):
        await lab.operator.reconcile(KEY)
    lab.world.before = None
    lab.world.remove("GoService", *KEY)
    lab.submit()
    await lab.serve()
    assert lab.ready() == ("True", "Serving")


@pytest.mark.parametrize("after", [False, True])
async def test_every_write_may_be_killed(after: bool) -> None:
    """The operator dies before or after each write of a lifecycle; the end is the same."""
    undisturbed = Lab()
    undisturbed.submit()
    await undisturbed.serve()
    points = len([w for w in undisturbed.world.writes if w[1] != "Event"])
    reached = 0
    for point in range(points):
        lab = Lab()
        lab.submit()
        left = [point]

        def strike(request: world.Request, left: list[int] = left) -> None:
            if request.verb in ("get", "list") or request.kind == "Event":
                return
            if left[0] == 0:
                left[0] = -1
                raise errors.Unavailable("killed")
            left[0] -= 1

        if after:
            lab.world.after = strike
        else:
            lab.world.before = strike
        for _ in range(3):
            try:
                await lab.serve()
            except errors.Unavailable:
                reached += 1
                lab.start()
        assert lab.ready() == ("True", "Serving"), point
        assert len(lab.world.all("Job")) == 1, point
    print(f"crash points {reached}/{points}")
    assert reached == points


# --- counting builds ------------------------------------------------------------------------------


async def test_an_ended_build_is_counted_once_and_a_restart_counts_nothing_again() -> None:
    lab = Lab()
    lab.world.clock = lambda: f.stamp(lab.now)
    lab.submit()
    await lab.settle()
    assert lab.counted() == {"sum": 0, "count": 0}
    lab.now += timedelta(seconds=90)
    lab.finish_build()
    await lab.settle()
    once = {"Succeeded Succeeded": 1, "sum": 90, "count": 1}
    assert lab.counted() == once
    lab.roll_out()
    await lab.settle()
    assert lab.counted() == once
    lab.metrics = Metrics()
    lab.start()
    await lab.settle()
    assert lab.counted() == {"sum": 0, "count": 0}, "a new process knows it from the status"


async def test_a_build_that_ends_while_the_operator_is_away_is_counted_after_it() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()
    lab.start()
    await lab.settle()
    assert lab.counted()["Succeeded Succeeded"] == 1


@pytest.mark.parametrize("answered", [False, True])
async def test_a_status_that_is_written_twice_counts_its_build_once(answered: bool) -> None:
    """The write failed, or only its answer was lost."""
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build()

    def strike(request: world.Request) -> None:
        if request.verb == "apply_status":
            raise errors.Unavailable("lost")

    if answered:
        lab.world.after = strike
    else:
        lab.world.before = strike
    with pytest.raises(errors.Unavailable):
        await lab.operator.reconcile(KEY)
    lab.world.before = lab.world.after = None
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    assert lab.counted()["Succeeded Succeeded"] == 1


async def test_a_status_that_somebody_empties_counts_nothing_again() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.world.set_status("GoService", *KEY, {})
    await lab.settle()
    assert lab.status()["history"]
    assert lab.counted()["Succeeded Succeeded"] == 1


async def test_a_failed_build_is_counted_by_its_reason() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    [job] = lab.world.all("Job")
    at = f.stamp(lab.now)
    failed = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]
    lab.world.set_status(
        "Job",
        "shop",
        job["metadata"]["name"],
        {"conditions": [failed[0] | {"lastTransitionTime": at}]},
    )
    await lab.settle()
    [recorded] = lab.status()["history"]
    assert recorded["outcome"] != "Succeeded"
    assert lab.counted()[f"Failed {recorded['outcome']}"] == 1


async def test_what_another_manager_wrote_into_the_status_is_written_over_once() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.world.set_status(
        "GoService", *KEY, {**lab.status(), "warnings": [{"field": "a"}], "odd": 1}
    )
    await lab.operator.reconcile(KEY)
    before = len(lab.world.writes)
    for _ in range(3):
        lab.now += timedelta(hours=1)
        await lab.operator.reconcile(KEY)
    assert lab.world.writes[before:] == []
