"""Runs of scenarios: the undisturbed one, and one for each strike."""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from testbed.faults import KILLS, READS, Fault, Point, Script, Strike, faults_at
from testbed.inmemory.world import World
from tests.faults import oracles
from tests.faults.rig import Logged, Rig, Start
from tests.faults.scenarios import SCENARIOS, Scenario, Story
from tests.faults.virtual import VirtualLoop

STEP_BOUND = 900.0
"""Virtual seconds in which each step of a story is reached: a poll of git, a build, some tries."""
RELIST_BOUND = 4 * 3960.0
"""The same where only the hourly look at everything can heal."""
GRACE = 120.0
"""What may still be under way once the story has ended."""
QUIET = 4000.0
"""For how long nothing is written then: a re-list and many polls of git are in it."""
PAIRED = (*KILLS, Fault.LOST)
"""The faults that also come in pairs: a write's effect and the operator's memory part ways."""
HEALED_BY_RELIST = {Fault.SILENCED, Fault.CUT}
"""Faults after which an event never comes."""


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    scenario: str
    """Its name."""
    strikes: tuple[Strike, ...]
    """What was to happen."""
    fired: tuple[Strike, ...]
    """What did."""
    points: tuple[Point, ...]
    """Every point that was reached, in order."""
    late: str
    """What did not come true in time; empty if all did."""
    end: Any
    """All objects at the end, without what differs between equal runs."""
    counts: Counter[tuple[str, str, str]]
    """Creations and deletions by change, kind and name."""
    violations: tuple[str, ...]
    """Rules that were broken on the way."""
    orphans: tuple[str, ...]
    """Objects whose owner is gone at the end."""
    writes_after: tuple[tuple[str, str, str], ...]
    """Writes after convergence: verb, kind and name."""
    defects: tuple[str, ...]
    """Unexpected exceptions, logged or raised."""

    @override
    def __str__(self) -> str:
        return f"{self.scenario} [{', '.join(map(str, self.strikes)) or 'undisturbed'}]"


def slow(strikes: tuple[Strike, ...]) -> bool:
    """Whether only the hourly re-list heals these: events were lost, or a deletion was denied."""
    return any(
        s.fault in HEALED_BY_RELIST or (s.fault is Fault.NOT_FOUND and s.point.verb == "delete")
        for s in strikes
    )


def perform(scenario: Scenario, *strikes: Strike) -> Run:
    """Go through a story with these strikes, and see what comes of it."""
    start = prepared(scenario.after)
    script = Script({strike.point: strike.fault for strike in strikes})
    logged = Logged()
    logger = logging.getLogger("goservice")
    logger.addHandler(logged)
    before, logger.level = logger.level, logging.ERROR
    logger.propagate = False
    try:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(start.seconds)) as runner:
            return runner.run(_perform(scenario, strikes, start, script, logged))
    finally:
        logger.removeHandler(logged)
        logger.level, logger.propagate = before, True


async def _perform(
    scenario: Scenario, strikes: tuple[Strike, ...], start: Start, script: Script, logged: Logged
) -> Run:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    patience = slow(strikes)
    rig = Rig(loop, start, script, RELIST_BOUND if patience else STEP_BOUND)
    late = ""
    try:
        await scenario.story(rig)
    except (TimeoutError, AssertionError) as error:
        late = str(error)
    await asyncio.sleep(RELIST_BOUND if patience else GRACE)
    script.open = False
    sent = len(rig.world.writes)
    await asyncio.sleep(QUIET)
    counts = rig.recorder.counts
    run = Run(
        scenario.name,
        strikes,
        tuple(script.fired),
        tuple(script.reached),
        late,
        oracles.end_state(rig.world, any_attempt=scenario.races),
        oracles.without_races(counts) if scenario.races else counts,
        tuple(rig.recorder.violations),
        tuple(oracles.orphans(rig.world)),
        tuple(rig.world.writes[sent:]),
        (),
    )
    await rig.close()
    crashes = tuple(map(repr, rig.crashes))
    return Run(**{**run.__dict__, "defects": tuple(logged.lines) + crashes})


@functools.cache
def prepared(story: Story | None) -> Start:
    """The world after a story without faults."""
    if story is None:
        return Start(World().snapshot())

    async def play() -> Start:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        rig = Rig(loop, Start(World().snapshot()), Script(), STEP_BOUND)
        await story(rig)
        await asyncio.sleep(GRACE if not rig.killed else 0)
        await rig.close()
        pushed = frozenset(rig.actors.pushed)
        return Start(rig.world.snapshot(), rig.commit, pushed, loop.time())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play())


@functools.cache
def reference(name: str) -> Run:
    """The undisturbed run of a scenario."""
    return perform(SCENARIOS[name])


def verdict(run: Run) -> list[str]:
    """What the oracles say against a run."""
    return oracles.judged(run, reference(run.scenario))


def second_strikes(first: Run) -> Iterator[Strike]:
    """Crashes and lost answers at every write that comes after a first strike."""
    [strike] = first.strikes
    after = first.points.index(strike.point) + 1
    for point in first.points[after:]:
        if is_write(point):
            for fault in PAIRED:
                yield Strike(point, fault)


def is_write(point: Point) -> bool:
    """Whether a point changes an object, events of kubectl describe aside."""
    return not point.is_event and point.verb not in READS and point.kind != "Event"


def strikes(name: str) -> Iterator[Strike]:
    """Every fault at every point of a scenario."""
    for point in reference(name).points:
        for fault in faults_at(point):
            yield Strike(point, fault)
