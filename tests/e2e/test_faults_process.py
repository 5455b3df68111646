"""Crashes and faults on real operator processes: every write, and kopf's own requests.

`FAULTS=all` answers every write with every kind of error; without it each write gets the next kind.
"""

from __future__ import annotations

import pytest

from goservice.cluster.kinds import WATCHED
from tests.faults_process import campaign

pytestmark = pytest.mark.e2e

PARTS = ("kills", "lost replies", "errors", "kopf's requests")
MOST_SHOWN = 5


@pytest.fixture(scope="module")
def outcome() -> campaign.Outcome:
    return campaign.outcome()


def test_the_undisturbed_stories_break_no_rule(outcome: campaign.Outcome) -> None:
    assert outcome.complaints("undisturbed") == []
    assert len(outcome.reference) == 3
    for run in outcome.reference.values():
        assert len(run.points) > 5, "a story without writes proves nothing"


@pytest.mark.parametrize("part", PARTS)
def test_every_fault_ends_as_if_it_had_not_been(outcome: campaign.Outcome, part: str) -> None:
    found = outcome.complaints(part)
    assert found == [], f"{len(found)} went wrong, such as:\n" + "\n".join(found[:MOST_SHOWN])


def test_an_operator_ends_by_a_kill_or_by_what_kopf_does_not_bear(
    outcome: campaign.Outcome,
) -> None:
    assert outcome.deaths == []


def test_no_fault_makes_the_liveness_probe_call_the_operator_unwell(
    outcome: campaign.Outcome,
) -> None:
    assert outcome.alarms == []


def test_a_settled_service_is_written_no_more_whatever_becomes_of_its_operator(
    outcome: campaign.Outcome,
) -> None:
    assert outcome.later == []


def test_the_campaign_is_counted(
    outcome: campaign.Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the figures, and holds that nothing was left out."""
    writes = sum(len(run.points) for run in outcome.reference.values())
    figures = {part: outcome.figures(part) for part in PARTS}
    with capsys.disabled():
        line = ", ".join(f"{part} {held}/{all_}" for part, (held, all_) in figures.items())
        print(f"\nfor real: {line}; slowest {outcome.slowest():.0f} s after a fault")
    assert figures["kills"] == (2 * writes, 2 * writes)
    assert figures["lost replies"] == (writes, writes)
    kinds = len(campaign.ERRORS) if campaign.ALL else 1
    assert figures["errors"] == (kinds * writes, kinds * writes)
    started = len(campaign.ROUNDS) * len(WATCHED)
    held, struck = figures["kopf's requests"]
    assert held == struck > started, "the questions for what there is come on top"
