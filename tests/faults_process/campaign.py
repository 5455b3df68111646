"""Every write of every story, struck by every kind of fault, on real operators; and the verdicts.

A killed operator takes all that it works on with it, so that kills come one service at a time, on
several lanes side by side. An answer that is lost or is an error concerns one request: all of those
services share one operator.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from goservice.cluster.kinds import WATCHED
from testbed.apiserver.controlplane import ControlPlane
from testbed.faults import KILLS, Fault, Point, Script, Strike
from tests.faults import oracles
from tests.faults_process.lanes import Lane
from tests.faults_process.stage import Stage, staged
from tests.faults_process.stories import BROKEN, STORIES, Run, Service, create

ERRORS = (
    Fault.CONFLICT,
    Fault.UNAUTHORIZED,
    Fault.FORBIDDEN,
    Fault.TOO_MANY,
    Fault.INTERNAL,
    Fault.UNAVAILABLE,
)
"""What a write is answered with."""
LISTS = (
    Fault.GONE,
    Fault.INTERNAL,
    Fault.UNAVAILABLE,
    Fault.TOO_MANY,
    Fault.UNAUTHORIZED,
    Fault.RESET,
)
"""What a list of kopf's is answered with."""
WATCHES = (*LISTS, Fault.CUT, Fault.STREAM_GONE, Fault.STREAM_INTERNAL)
"""What a watch of kopf's is answered with, or what happens within it."""
ROUNDS = [("list", fault) for fault in LISTS] + [("watch", fault) for fault in WATCHES]
"""What strikes kopf's requests as an operator starts: one kind of fault all of its lists or watches."""
DEADLY = {("list", Fault.GONE), ("watch", Fault.GONE), ("watch", Fault.STREAM_INTERNAL)}
"""What kopf does not bear (1.45.2): the process ends, and is started again."""
KILL_LANES = 6
"""Operators that are killed, side by side."""
KOPF_LANES = 2
"""Operators that are started again and again, beside."""
ALL = os.environ.get("FAULTS") == "all"
"""Whether every write is answered with every error, not with the next one."""

Points = dict[str, tuple[Point, ...]]
"""Points of the undisturbed run, by story."""


@dataclass
class Outcome:
    """What the campaign found."""

    reference: dict[str, Run] = field(default_factory=dict)
    """The undisturbed runs, by story."""
    done: dict[str, list[tuple[Run, list[str]]]] = field(default_factory=dict)
    """By part (kills, lost replies, errors): each run, and what is said against it."""
    deaths: list[str] = field(default_factory=list)
    """Ends of an operator that nothing explains, and kills that ended none."""
    later: list[str] = field(default_factory=list)
    """Writes for a service that had converged."""
    alarms: list[str] = field(default_factory=list)
    """What operators answered to liveness probes when they were not well."""

    def figures(self, part: str) -> tuple[int, int]:
        """How many strikes held, of how many."""
        runs = [(len(run.strikes), not against) for run, against in self.done[part]]
        return sum(count for count, held in runs if held), sum(count for count, _ in runs)

    def complaints(self, part: str) -> list[str]:
        """What is said against the runs of a part."""
        return [f"{t}: {'; '.join(a)[:1500]}" for t, a in self.done[part] if a]

    def slowest(self) -> float:
        """The longest time from a fault to the last write, where no refusal is waited for."""
        return max(
            run.seconds
            for runs in self.done.values()
            for run, _ in runs
            if Fault.FORBIDDEN not in [s.fault for s in run.strikes]
        )


def against(run: Run, reference: Run) -> list[str]:
    """What the oracles say against a run."""
    found = list(run.violations)
    if run.late:
        found.append(run.late)
    if missing := set(run.strikes) - set(run.fired):
        found.append(f"never struck: {', '.join(map(str, missing))}")
    if run.counts != reference.counts:
        odd = [c for c in run.counts if c not in reference.counts]
        lacking = [c for c in reference.counts if c not in run.counts]
        found.append(f"made and removed: {odd}, not {lacking}")
    found += oracles.differences(run.end, reference.end)
    return found


def last_words(lane: Lane) -> str:
    """What the lane's operators wrote that is not plain news: the next one writes to the same file."""
    lines = lane.operator.log.read_text().splitlines()
    return "\n".join([line for line in lines if '"level": "INFO"' not in line][-30:])


def plans(
    points: Points, faults: tuple[Fault, ...], *, every: bool = False
) -> Iterator[dict[str, Strike]]:
    """Services, by story what strikes it: each point once, by the next fault or by every one."""
    longest = max(map(len, points.values()))
    for number, turn in itertools.product(range(longest), range(len(faults) if every else 1)):
        # Never the same fault in all stories of a service: one of them is slow to be forgiven.
        yield {
            name: Strike(its[number], faults[(number + story + turn) % len(faults)])
            for story, (name, its) in enumerate(points.items())
            if number < len(its)
        }


class Campaign:
    """Runs everything on one control plane."""

    def __init__(self, plane: ControlPlane, stage: Stage) -> None:
        self.outcome = Outcome()
        self._plane = plane
        self._stage = stage
        self._lanes: list[Lane] = []
        self._numbers = itertools.count()
        self._settled: list[tuple[Service, int]] = []

    async def run(self) -> Outcome:
        """Every part, and what was found."""
        shared = await self._lane("shared")
        first = await self._all_stories(shared, {}, "undisturbed")
        self.outcome.reference = {run.story: run for run in first}
        points = {run.story: run.points for run in first}
        kills = [plan for kill in KILLS for plan in plans(points, (kill,))]
        queue = iter(kills)
        async with asyncio.TaskGroup() as group:
            for number in range(KILL_LANES):
                group.create_task(self._one_by_one(f"kills-{number}", queue))
            for plan in plans(points, (Fault.LOST,)):
                group.create_task(self._all_stories(shared, plan, "lost replies"))
            for plan in plans(points, ERRORS, every=ALL):
                group.create_task(self._all_stories(shared, plan, "errors"))
            rounds = iter(ROUNDS)
            for number in range(KOPF_LANES):
                group.create_task(self._starts(f"kopf-{number}", rounds))
        self._close()
        return self.outcome

    async def _lane(self, name: str) -> Lane:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self._stage.client.send("POST", "/api/v1/namespaces", namespace)
        lane = Lane(self._plane, name)
        self._lanes.append(lane)
        self._stage.start(lane.keep())
        return lane

    async def _one_by_one(self, name: str, queue: Iterator[dict[str, Strike]]) -> None:
        lane = await self._lane(name)
        for plan in queue:
            await self._all_stories(lane, plan, "kills")

    async def _starts(self, name: str, rounds: Iterator[tuple[str, Fault]]) -> None:
        """Start an operator again and again, each time with a new service to see to."""
        lane = await self._lane(name)
        await lane.ready()
        questions = [point for point in lane.reads.reached if point.verb == "discover"]
        for verb, fault in rounds:
            code = await lane.end()
            if code != 0:
                self.outcome.deaths.append(f"{name}: SIGTERM ended it with {code}")
            points = [Point(verb, kind, "", 1) for kind in WATCHED]
            points += questions if verb == "list" else []
            lane.reads = Script(dict.fromkeys(points, fault))
            before = len(lane.exits)
            service = Service(self._stage, lane, f"service{next(self._numbers):03d}")
            lane.start_again()
            run = await service.run(create)
            run = replace(
                run,
                strikes=tuple(Strike(point, fault) for point in points),
                fired=tuple(lane.reads.fired),
            )
            ends = set(lane.exits[before:])
            if ends != ({1} if (verb, fault) in DEADLY else set()):
                self.outcome.deaths.append(f"{run}: it ended with {ends}: {last_words(lane)}")
            self._judge("kopf's requests", run)
            self._settled.append((service, len(lane.requests(service.name).writes)))

    async def _all_stories(self, lane: Lane, plan: dict[str, Strike], part: str) -> list[Run]:
        """One service: every story, each with its strike if it has one."""
        service = Service(self._stage, lane, f"service{next(self._numbers):03d}")
        runs = []
        for story in STORIES:
            name = story.__name__.replace("_", " ")
            run = await service.run(story, *([plan[name]] if name in plan else []))
            runs.append(run)
            self._judge(part, run)
            if run.late:
                break
        self._settled.append((service, len(lane.requests(service.name).writes)))
        return runs

    def _judge(self, part: str, run: Run) -> None:
        reference = self.outcome.reference.get(run.story, run)
        complaints = against(run, reference)
        self.outcome.done.setdefault(part, []).append((run, complaints))

    def _close(self) -> None:
        for service, count in self._settled:
            more = service.lane.requests(service.name).writes[count:]
            self.outcome.later += [f"{service.name}: {asked}" for _, asked in more]
        for lane in self._lanes:
            self.outcome.later += [f"of no service: {asked}" for asked in lane.strange]
            self.outcome.alarms += [f"{lane.name}: {text}" for text in lane.operator.alarms]
            if lane.exits.count(-9) != lane.kills or (lane.kills and set(lane.exits) != {-9}):
                self.outcome.deaths.append(
                    f"{lane.name}: {lane.kills} kills, and it ended with {lane.exits}"
                )

    def end(self) -> None:
        """End every operator."""
        for lane in self._lanes:
            lane.close()


def outcome() -> Outcome:
    """The whole campaign, on a control plane of its own."""

    async def on(plane: ControlPlane) -> Outcome:
        async with staged(plane.kubeconfig) as stage:
            stage.node.broken.add(BROKEN)
            campaign = Campaign(plane, stage)
            try:
                return await campaign.run()
            finally:
                campaign.end()

    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        plane = ControlPlane(Path(name), audit=({"level": "None"},))
        try:
            plane.start()
            plane.install()
            return asyncio.run(on(plane))
        finally:
            plane.stop()
