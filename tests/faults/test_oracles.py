"""Each oracle speaks against what it is there for; an oracle that cannot fail proves nothing."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from goservice.objects.deployment import deployment as deployment_object
from goservice.objects.pod_template import Deployed
from testbed.faults import Fault, Point, Strike
from testbed.inmemory.world import World
from tests.faults import oracles, runs
from tests.faults.actors import Actors
from tests.faults.virtual import StuckError, VirtualLoop
from tests.support import factories

NEVER = Strike(Point("get", "Job", "none", 1), Fault.RESET)
"""A strike that no run reaches."""
SHOWN_AS_RUNNING = {"build": {"name": "b", "phase": "Running"}, "history": [{"build": "b"}]}
"""A status that calls a finished build a running one."""


@pytest.mark.parametrize(
    ("oracle", "change"),
    [
        (oracles.nothing_was_broken_on_the_way, {"violations": ("two builds",)}),
        (oracles.it_converged_in_bounded_time, {"late": "not within 1 s"}),
        (oracles.the_end_state_is_the_same, {"end": {}}),
        (oracles.creations_and_deletions_are_the_same, {"counts": Counter()}),
        (oracles.owners_are_current_at_the_end, {"orphans": ("Job a",)}),
        (oracles.then_nothing_is_written, {"writes_after": (("apply", "Job", "a"),)}),
        (
            oracles.a_finished_build_is_not_shown_as_running,
            {"end": {"GoService/a": {"status": SHOWN_AS_RUNNING}}},
        ),
        (oracles.no_defect_is_logged, {"defects": ("Traceback",)}),
        (oracles.every_strike_fired, {"strikes": (NEVER,)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_run_that_went_wrong_is_told(oracle: Any, change: dict[str, Any]) -> None:
    run = runs.reference("create")
    assert oracle(run, run) == ""
    assert oracle in oracles.ORACLES
    assert oracle(replace(run, **change), run) != ""


def job(name: str, uid: str = "1") -> dict[str, Any]:
    made = factories.job(factories.service())
    made["metadata"] |= {"name": name, "ownerReferences": [{"uid": uid, "controller": True}]}
    return made


def deployment(replicas: int, image: str = "a@sha256:none") -> dict[str, Any]:
    running = Deployed(image, 10001, "UTC", "")
    made = deployment_object(factories.service(replicas=replicas), factories.SETTINGS, running, {})
    return {**made, "spec": {**made["spec"], "replicas": replicas}}


def seen(*acts: Any) -> list[str]:
    """What the recorder says of acts of the operator."""
    loop = VirtualLoop()
    world = World()
    world.defer = lambda collect: None
    actors = Actors(loop, world, lambda: "")
    owner = factories.body()
    recorder = oracles.Recorder(world, actors)
    with actors.writing("user"):
        world.add(owner)
    for act in acts:
        act(world)
    loop.close()
    return [violation.partition(":")[0] for violation in recorder.violations]


def add(manifest: dict[str, Any]) -> Any:
    return lambda world: world.add(manifest)


def test_the_recorder_tells_every_broken_rule() -> None:
    again = [add(job("a")), lambda w: w.remove("Job", "shop", "a"), add(job("a"))]
    assert "one_job_per_inputs_and_attempt" in seen(*again)
    assert "never_two_running_builds" in seen(add(job("a")), add(job("b")))
    assert "never_two_running_builds" not in seen(add(job("a")), add(job("b", "2")))
    assert "every_image_comes_from_a_job_or_the_spec" in seen(add(deployment(2)))
    less = [
        add(deployment(5)),
        lambda w: w.edit("Deployment", "shop", "checkout", lambda d: d["spec"].update(replicas=3)),
    ]
    assert "the_operator_scales_down_only_to_what_is_asked" in seen(*less)
    lost = [add(deployment(5)), lambda w: w.remove("Deployment", "shop", "checkout")]
    assert "the_operator_never_deletes_what_serves" in seen(*lost)
    named = {"build": {"name": "b", "phase": "Queued"}}
    told = seen(lambda w: w.set_status("GoService", "shop", "checkout", named))
    assert "the_status_names_only_builds_that_were_started" in told
    assert "owners_are_current" in seen(add(job("a", "not the uid of the service")))


def test_the_clock_jumps_and_a_program_that_waits_for_nothing_is_told() -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.sleep(1e6))
        assert runner.get_loop().time() >= 1e6
    loop = VirtualLoop()
    with pytest.raises(StuckError):
        loop.run_until_complete(loop.create_future())
    loop.close()
