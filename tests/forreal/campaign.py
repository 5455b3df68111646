"""Every write of every story, struck by every kind of fault, on real operators; and the verdicts.

A killed operator takes all that it works on with it, so that kills are told one life at a time, on
several lanes side by side. An answer that is lost or is an error concerns one request: all of those
lives share one operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import http
from controlplane import ControlPlane
from faults import oracles
from faults.plan import KILLS, Fault, Point, Strike
from forreal.heads import Heads
from forreal.lanes import Lane
from forreal.lives import BROKEN, STORIES, Life, Stage, Telling
from forreal.node import Node
from forreal.witness import Witness

ERRORS = (Fault.CONFLICT, Fault.FORBIDDEN, Fault.TOO_MANY, Fault.INTERNAL, Fault.UNAVAILABLE)
KILL_LANES = 8
ALL = os.environ.get("FAULTS") == "all"

Plan = tuple[Fault, ...]
Points = dict[str, tuple[Point, ...]]


@dataclass
class Outcome:
    """What the campaign found."""

    reference: dict[str, Telling] = field(default_factory=dict)
    done: dict[str, list[tuple[Telling, list[str]]]] = field(default_factory=dict)
    """By part (kills, lost replies, errors): each telling, and what is said against it."""
    deaths: list[str] = field(default_factory=list)
    """Ends of an operator that no kill explains, and kills that ended none."""
    later: list[str] = field(default_factory=list)
    """Writes for a life that had converged."""

    def figures(self, part: str) -> tuple[int, int]:
        """How many strikes held, of how many."""
        told = [(telling, against) for telling, against in self.done[part] if telling.strikes]
        return sum(not against for _, against in told), len(told)

    def complaints(self, part: str) -> list[str]:
        """What is said against the tellings of a part."""
        return [f"{t}: {'; '.join(a)[:1500]}" for t, a in self.done[part] if a]

    def slowest(self) -> float:
        """The longest time from a fault to the last write, where no refusal is waited for."""
        return max(
            telling.seconds
            for told in self.done.values()
            for telling, _ in told
            if Fault.FORBIDDEN not in [s.fault for s in telling.strikes]
        )


def against(telling: Telling, reference: Telling) -> list[str]:
    """What the oracles say against a telling."""
    found = list(telling.violations)
    if telling.late:
        found.append(telling.late)
    if telling.fired != telling.strikes:
        found.append("the strike did not fire")
    if telling.counts != reference.counts:
        odd = [c for c in telling.counts if c not in reference.counts]
        missing = [c for c in reference.counts if c not in telling.counts]
        found.append(f"made and removed: {odd}, not {missing}")
    found += oracles.differences(telling.end, reference.end)
    return found


def strikes(points: Points, faults: Iterable[tuple[int, int, Fault]]) -> dict[str, Strike]:
    """The strikes of one life: of each story (by number) the point with a number, if there is one."""
    result = {}
    for story, number, fault in faults:
        name = list(points)[story]
        if number < len(points[name]):
            result[name] = Strike(points[name][number], fault)
    return result


def plans(points: Points, rotated: tuple[Fault, ...], every: bool) -> Iterator[dict[str, Strike]]:
    """Lives that strike each point of each story once; with every fault, or each with the next."""
    longest = max(map(len, points.values()))
    for number, turn in itertools.product(range(longest), range(len(rotated) if every else 1)):
        yield strikes(
            points,
            # Never the same fault in all stories of a life: one of them is slow to be forgiven.
            [(s, number, rotated[(number + s + turn) % len(rotated)]) for s in range(len(points))],
        )


class Campaign:
    """Tells everything on one control plane."""

    def __init__(self, plane: ControlPlane, stage: Stage, group: asyncio.TaskGroup) -> None:
        self.outcome = Outcome()
        self._plane = plane
        self._stage = stage
        self._group = group
        self._lanes: list[Lane] = []
        self._numbers = itertools.count()
        self._settled: list[tuple[Life, int]] = []

    async def tell(self) -> Outcome:
        """Everything."""
        shared = await self._lane("shared")
        first = await self._live(shared, {}, "undisturbed")
        self.outcome.reference = {telling.story: telling for telling in first}
        points = {telling.story: telling.points for telling in first}
        kills = [plan for kill in KILLS for plan in plans(points, (kill,), False)]
        queue = iter(kills)
        async with asyncio.TaskGroup() as group:
            for number in range(KILL_LANES):
                group.create_task(self._one_by_one(f"kills-{number}", queue))
            for plan in plans(points, (Fault.LOST,), False):
                group.create_task(self._live(shared, plan, "lost replies"))
            for plan in plans(points, ERRORS, ALL):
                group.create_task(self._live(shared, plan, "errors"))
        self._close()
        return self.outcome

    async def _lane(self, name: str) -> Lane:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self._stage.client.send("POST", "/api/v1/namespaces", namespace)
        lane = Lane(self._plane, name)
        self._lanes.append(lane)
        self._group.create_task(lane.keep())
        return lane

    async def _one_by_one(self, name: str, queue: Iterator[dict[str, Strike]]) -> None:
        lane = await self._lane(name)
        for plan in queue:
            await self._live(lane, plan, "kills")

    async def _live(self, lane: Lane, plan: dict[str, Strike], part: str) -> list[Telling]:
        """One life: every story, each with its strike if it has one."""
        life = Life(self._stage, lane, f"service{next(self._numbers):03d}")
        told = []
        for story in STORIES:
            name = story.__name__.replace("_", " ")
            telling = await life.tell(story, *([plan[name]] if name in plan else []))
            told.append(telling)
            reference = self.outcome.reference.get(name, telling)
            complaints = against(telling, reference)
            self.outcome.done.setdefault(part, []).append((telling, complaints))
            if telling.late:
                break
        self._settled.append((life, len(lane.life(life.name).writes)))
        return told

    def _close(self) -> None:
        for life, count in self._settled:
            more = life.lane.life(life.name).writes[count:]
            self.outcome.later += [f"{life.name}: {asked}" for _, asked in more]
        for lane in self._lanes:
            if lane.exits != [-9] * lane.kills:
                self.outcome.deaths.append(
                    f"{lane.name}: {lane.kills} kills, and it ended with {lane.exits}"
                )

    def end(self) -> None:
        """End every operator."""
        for lane in self._lanes:
            lane.close()


@contextlib.asynccontextmanager
async def staged(plane: ControlPlane) -> AsyncIterator[tuple[Stage, asyncio.TaskGroup]]:
    """Witness, node and git server, at work."""
    async with http.connected(plane.kubeconfig, "for-real") as client, asyncio.TaskGroup() as group:
        witness = Witness(client)
        node = Node(client, witness)
        node.broken.add(BROKEN)
        heads = Heads()
        await heads.open()
        tasks = [group.create_task(witness.follow()), group.create_task(node.play())]
        yield Stage(client, witness, node, heads), group
        for task in tasks:
            task.cancel()
        await heads.close()


def told() -> Outcome:
    """The whole campaign, on a control plane of its own."""

    async def run(plane: ControlPlane) -> Outcome:
        async with staged(plane) as (stage, group):
            campaign = Campaign(plane, stage, group)
            try:
                return await campaign.tell()
            finally:
                campaign.end()
                for task in list(group._tasks):  # type: ignore[attr-defined]
                    task.cancel()

    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        plane = ControlPlane(Path(name), audit=({"level": "None"},))
        try:
            plane.start()
            plane.install()
            return asyncio.run(run(plane))
        finally:
            plane.stop()
