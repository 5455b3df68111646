"""The stories that faults strike: what the user does, and what must have come of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from goservice import names
from goservice.api.conditions import Type
from goservice.manifest import Manifest, find_condition
from goservice.objects import children
from goservice.objects.children import Upkeep
from tests.faults.rig import KEY, Rig
from tests.support import factories

Story = Callable[[Rig], Awaitable[None]]
"""What the user does, and what must come true after each step."""


@dataclass(frozen=True)
class Scenario:
    """A story, after another one that went without faults."""

    name: str
    """The function's, in words."""
    story: Story
    """What the user does."""
    after: Story | None = None
    """The story that has gone before; None: nothing is there."""
    races: bool = False
    """Whether the story races the garbage collector and the watches that show it: which of the
    old objects are taken over, and which attempt a build is, then depends on who comes first."""


SCENARIOS: dict[str, Scenario] = {}
"""By name; filled by `scenario`."""


def scenario(after: Story | None = None, *, races: bool = False) -> Callable[[Story], Story]:
    """Add a story to the list."""

    def add(story: Story) -> Story:
        name = story.__name__.replace("_", " ")
        SCENARIOS[name] = Scenario(name, story, after, races)
        return story

    return add


@scenario()
async def create(rig: Rig) -> None:
    rig.submit(replicas=2)
    await rig.until("it serves", rig.serves)


@scenario(races=True)  # the two of them: who is first decides the uids
async def create_while_another_build_fills_the_platform(rig: Rig) -> None:
    rig.submit("other")
    await rig.until("the other one is built", rig.building)
    rig.submit(replicas=2)
    await rig.until("it serves", rig.serves)
    await rig.until("the other one serves", lambda: _ready(rig.service("other")) == "True")


def _ready(service: Manifest) -> str:
    return str(find_condition(service.get("status", {}), Type.READY).get("status"))


@scenario(after=create)
async def new_commit(rig: Rig) -> None:
    rig.edit(build={"cache": {"size": "1Gi"}})
    rig.commit = factories.NEWER
    await rig.until("the new commit serves", rig.serves)


@scenario(after=create)
async def config_change_only(rig: Rig) -> None:
    rig.edit(env=[{"name": "A", "value": "b"}], replicas=3)
    await rig.until("it serves", rig.serves)


async def _autoscaled(rig: Rig) -> None:
    rig.actors.scale_to = 4
    rig.edit(autoscaling={"minReplicas": 2, "maxReplicas": 5})
    await rig.until("the autoscaler has scaled", lambda: _replicas(rig) == 4 and rig.serves())
    await rig.until("it is counted", lambda: _counted(rig) == 4)


def _replicas(rig: Rig) -> int:
    return int(rig.deployment().get("spec", {}).get("replicas", 0))


def _counted(rig: Rig) -> int:
    return int(rig.service().get("status", {}).get("readyReplicas", 0))


@scenario(after=create)
async def autoscaling_on(rig: Rig) -> None:
    await _autoscaled(rig)


async def _served_and_autoscaled(rig: Rig) -> None:
    await create(rig)
    await _autoscaled(rig)


@scenario(after=_served_and_autoscaled)
async def autoscaling_off(rig: Rig) -> None:
    rig.edit(autoscaling=None)
    gone = lambda: rig.world.find("HorizontalPodAutoscaler", *KEY) is None  # noqa: E731
    await rig.until("no autoscaler", gone)
    await rig.until("two pods again", lambda: _replicas(rig) == 2 == _counted(rig) and rig.serves())


@scenario(after=create)
async def build_fails_then_is_fixed(rig: Rig) -> None:
    rig.actors.broken.add(factories.NEWER)
    rig.commit = factories.NEWER
    await rig.until("the failure is in the status", lambda: rig.says("CompileFailed"))
    rig.commit = "3" * 40
    await rig.until("the fix serves", rig.serves)


async def _two_commits(rig: Rig) -> None:
    await create(rig)
    await new_commit(rig)


@scenario(after=_two_commits)
async def rollback_by_digest(rig: Rig) -> None:
    first = rig.service()["status"]["history"][-1]["image"]
    image = rig.service()["spec"]["image"]
    rig.edit(image={**image, "digest": first.partition("@")[2]})
    pinned = lambda: rig.says("Serving") and rig.service()["status"]["servingImage"] == first  # noqa: E731
    await rig.until("the first image serves again", pinned)


@scenario(after=create)
async def suspend_and_resume(rig: Rig) -> None:
    rig.edit(suspend=True)
    suspended = lambda: _reason(rig) == "Suspended"  # noqa: E731
    await rig.until("it is suspended", suspended)
    rig.commit = factories.NEWER
    rig.edit(suspend=None, env=[{"name": "A", "value": "b"}])
    await rig.until("the new commit serves", rig.serves)


def _reason(rig: Rig) -> str:
    conditions = rig.service().get("status", {}).get("conditions", ())
    return str(next((c["reason"] for c in conditions if c["type"] == "Ready"), ""))


@scenario()
async def delete_while_building(rig: Rig) -> None:
    rig.submit(replicas=2)
    await rig.until("it builds", rig.building)
    rig.delete()
    await rig.until("nothing is left", lambda: _nothing(rig))


def _nothing(rig: Rig) -> bool:
    return not any(rig.world.all(kind) for kind in children.CHILD_KINDS)


@scenario(after=create, races=True)
async def delete_and_recreate(rig: Rig) -> None:
    rig.delete()
    await rig.until("nothing is left", lambda: _nothing(rig))
    rig.submit(replicas=2)
    await rig.until("it serves", rig.serves)


@scenario(after=create, races=True)
async def delete_and_recreate_at_once(rig: Rig) -> None:
    rig.delete()
    rig.submit(replicas=2)
    await rig.until("it serves", rig.serves)


def _as_the_version_before(rig: Rig) -> None:
    """Every object as an operator would have written it that rendered a little less."""

    def older(live: dict[str, Any]) -> None:
        notes = live["metadata"].get("annotations", {})
        for key in (names.APPLIED, names.RENDERED):
            if key in notes:
                notes[key] = "0000000000"
        for key in (names.SPEC_HASH, names.SETTINGS_HASH, names.GENERATION):
            notes.pop(key, None)
        live["metadata"]["labels"].pop("app.kubernetes.io/part-of", None)
        if live["kind"] == "Deployment":
            live["spec"]["template"]["spec"].pop("topologySpreadConstraints")
            live["spec"].pop("revisionHistoryLimit")

    written = {child.kind.kind for child in children.CHILDREN if child.upkeep is not Upkeep.WATCHED}
    for kind in sorted(written):
        for manifest in rig.world.all(kind):
            name = manifest["metadata"]["name"]
            with rig.actors.writing("the version before"):
                rig.world.edit(kind, KEY[0], name, older, manager=names.OPERATOR)


async def _served_by_the_version_before(rig: Rig) -> None:
    await create(rig)
    rig.kill()
    _as_the_version_before(rig)


@scenario(after=_served_by_the_version_before)
async def operator_upgrade(rig: Rig) -> None:
    part_of = "app.kubernetes.io/part-of"
    await rig.until(
        "the new version has its way",
        lambda: part_of in rig.deployment()["metadata"]["labels"],
    )
    template = rig.deployment()["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in template, "an upgrade restarted the pods"
    rig.commit = factories.NEWER
    await rig.until("the next commit serves", rig.serves)
    assert "topologySpreadConstraints" in rig.deployment()["spec"]["template"]["spec"]
