"""Every fault at every point of every scenario, and pairs of faults, against all oracles.

`FAULTS=all` also pairs every fault of the create scenario with every other: many hours.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from testbed.faults import KILLS, READS, Strike, faults_at
from tests.faults import runs
from tests.faults.scenarios import SCENARIOS

DONE: Counter[str] = Counter()
"""What has been run, for the last test."""
STARTED = time.process_time()
"""CPU seconds of this process when the file was read."""
MOST_SHOWN = 5
"""Of the complaints of one test."""


def complaints(strikes: Sequence[tuple[Strike, ...]], name: str) -> list[str]:
    """What the oracles say against the runs with these strikes."""
    found = []
    for plan in strikes:
        run = runs.perform(SCENARIOS[name], *plan)
        DONE["runs"] += 1
        against = runs.verdict(run)
        if against:
            found.append(f"{run}: {'; '.join(against)[:1000]}")
    return found


def shown(found: list[str]) -> str:
    return f"{len(found)} runs went wrong, such as:\n" + "\n".join(found[:MOST_SHOWN])


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_undisturbed_run_breaks_no_rule(name: str) -> None:
    run = runs.reference(name)
    assert runs.verdict(run) == []
    assert run.points
    assert [p for p in run.points if p.verb not in READS and not p.is_event]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_fault_ends_as_if_it_had_not_been(name: str) -> None:
    plans = [(strike,) for strike in runs.strikes(name)]
    crashes = [plan for plan in plans if plan[0].fault in KILLS]
    faults = [plan for plan in plans if plan[0].fault not in KILLS]
    crashed, failed = complaints(crashes, name), complaints(faults, name)
    DONE["crash points"] += len(crashes)
    DONE["crash points held"] += len(crashes) - len(crashed)
    DONE["faults"] += len(faults)
    DONE["faults held"] += len(faults) - len(failed)
    DONE["scenarios"] += 1
    assert not crashed + failed, shown(crashed + failed)


def test_pairs_of_faults_in_the_create_scenario() -> None:
    pairs = []
    for strike in runs.strikes("create"):
        if os.environ.get("FAULTS") == "all":
            first = runs.perform(SCENARIOS["create"], strike)
            after = first.points.index(strike.point) + 1
            seconds = [Strike(p, f) for p in first.points[after:] for f in faults_at(p)]
        elif runs.is_write(strike.point) and strike.fault in runs.PAIRED:
            seconds = list(runs.second_strikes(runs.perform(SCENARIOS["create"], strike)))
        else:
            continue
        pairs += [(strike, second) for second in seconds]
    found = complaints(pairs, "create")
    DONE["pairs"] += len(pairs)
    DONE["pairs held"] += len(pairs) - len(found)
    assert len(pairs) > 500
    assert not found, shown(found)


def test_the_campaign_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs last, prints the figures, and holds that nothing was left out."""
    if DONE["scenarios"] < len(SCENARIOS) or not DONE["pairs"]:
        pytest.skip("only a part of the campaign was asked for")
    with capsys.disabled():
        print(
            f"\n{DONE['scenarios']} scenarios:"
            f" crash points {DONE['crash points held']}/{DONE['crash points']},"
            f" faults {DONE['faults held']}/{DONE['faults']},"
            f" pairs {DONE['pairs held']}/{DONE['pairs']},"
            f" {DONE['runs']} runs in {time.process_time() - STARTED:.0f} s of CPU"
        )
    assert DONE["scenarios"] >= 10
    for what in ("crash points", "faults", "pairs"):
        assert DONE[f"{what} held"] == DONE[what] > 0
