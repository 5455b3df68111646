"""Others who undo what the operator does, at once and for ever: that costs a bounded number of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from goservice import names
from goservice.api import resource
from goservice.loop.queue import SENDING_AT_ONCE, SENDING_EACH
from goservice.manifest import Manifest
from testbed.faults import Script
from tests.faults.rig import KEY, Rig
from tests.faults.runs import prepared
from tests.faults.scenarios import SCENARIOS
from tests.faults.virtual import VirtualLoop

HOUR = 3600.0
"""Seconds that a fight is watched for."""
SOON = 0.05
"""Seconds in which a rival answers."""
MOST_PASSES = SENDING_AT_ONCE + HOUR / SENDING_EACH
"""Passes of one service that send something in the first hour of a fight."""


def delete(kind: str) -> Callable[[Rig], object]:
    """Take an object away whenever it is there."""
    return lambda rig: rig.world.remove(kind, *KEY)


def edit(kind: str, change: Callable[[Manifest], object]) -> Callable[[Rig], object]:
    """Write a field of an object."""
    return lambda rig: rig.world.edit(kind, *KEY, change, "rival")


def status(rig: Rig) -> None:
    """Write another status than the operator's."""
    live = rig.service()
    rig.world.set_status(resource.KIND, *KEY, live["status"] | {"replicas": 77, "url": "http://x"})


def unwanted(rig: Rig) -> None:
    """Make what the operator takes away."""
    owner = [{**rig.deployment()["metadata"]["ownerReferences"][0]}]
    labels = rig.deployment()["metadata"]["labels"]
    if rig.world.find("HorizontalPodAutoscaler", *KEY) is None:
        rig.world.add(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {
                    "namespace": KEY[0], "name": KEY[1], "labels": labels, "ownerReferences": owner
                },
                "spec": {},
            }
        )  # fmt: skip


RIVALS: dict[str, tuple[str, Callable[[Rig], object]]] = {
    "a Service that is deleted": ("Service", delete("Service")),
    "a ServiceAccount that is deleted": ("ServiceAccount", delete("ServiceAccount")),
    "a Deployment that is deleted": ("Deployment", delete("Deployment")),
    "a label of the Service": (
        "Service", edit("Service", lambda live: live["metadata"]["labels"].update({names.COMPONENT: "x"})),
    ),
    "a field of the Service": (
        "Service", edit("Service", lambda live: live["spec"].update(selector={"a": "b"})),
    ),
    "the status": (resource.KIND, status),
    "an autoscaler that nobody asked for": ("HorizontalPodAutoscaler", unwanted),
    "the spec": (
        resource.KIND,
        edit(resource.KIND, lambda live: live["spec"].update(replicas=live["spec"].get("replicas", 1) % 5 + 1)),
    ),
}  # fmt: skip
"""Each with the kind after whose every write by the operator it acts."""


async def fight(kind: str, act: Callable[[Rig], object]) -> tuple[int, int]:
    """Requests that write, and passes' statuses and objects of the kind, within an hour."""
    start = prepared(SCENARIOS["create"].story)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    rig = Rig(loop, start, Script({}), HOUR)
    await rig.until("serves", rig.serves)
    acts = 0

    def again() -> None:
        nonlocal acts
        acts += 1
        if kind == "HorizontalPodAutoscaler" or rig.world.find(kind, *KEY):
            with rig.actors.writing("rival"):
                act(rig)

    def seen(_: str, manifest: Manifest) -> None:
        if rig.actors.writer != "rival" and manifest["kind"] == kind:
            loop.call_later(SOON, again)

    rig.world.on_change(seen)
    again()
    sent = len(rig.world.writes)
    await asyncio.sleep(HOUR)
    found = len(rig.world.writes) - sent
    await rig.close()
    return found, acts


@pytest.mark.parametrize("name", RIVALS)
def test_a_fight_costs_a_bounded_number_of_requests(name: str) -> None:
    kind, act = RIVALS[name]
    start = prepared(SCENARIOS["create"].story)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start.seconds)) as runner:
        sent, acts = runner.run(fight(kind, act))
    print(f"{name}: {sent} writes, {acts} acts of the rival")
    assert acts > 3, "there is a fight"
    assert sent < 3 * MOST_PASSES
