"""Every state that small steps can reach is walked through, and none breaks a rule.

`FAULTS=all` walks with two crashes and an edit too, as far as 100 000 states.
"""

import os

import pytest

from tests.faults import walk


@pytest.mark.parametrize(("crashes", "edits"), [(2, 0), (1, 1)])
def test_no_order_of_steps_breaks_a_rule(
    crashes: int, edits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Complete walks: every end serves with one Job, whatever came in whichever order."""
    seen = walk.walk(10_000, crashes, edits)
    with capsys.disabled():
        print(f"\n{crashes} crashes, {edits} edits: {seen.states} states, {seen.steps} steps")
    assert seen.violations == []
    assert seen.complete
    assert seen.ended
    assert all(end.startswith("True Serving, 1 Job") for end in seen.ends)


def test_no_order_of_steps_breaks_a_rule_while_another_build_holds_the_only_place() -> None:
    seen = walk.walk(10_000, 1, 0, full=True)
    assert seen.violations == []
    assert seen.complete
    assert all(end.startswith("True Serving, 1 Job") for end in seen.ends)


@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="hours; FAULTS=all walks it")
def test_a_longer_walk_breaks_no_rule() -> None:
    seen = walk.walk(100_000, 2, 1)
    print(f"{seen.states} states, {seen.steps} steps, complete: {seen.complete}")
    assert seen.violations == []


def test_states_are_the_same_whatever_their_uids_and_versions_are() -> None:
    first, second = walk.beginning(), walk.beginning()
    bench = walk.Bench(second)
    bench.world.add(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}
    )
    bench.world.remove("ConfigMap", "b", "a")
    bench.world.edit("GoService", *walk.KEY, lambda g: g["metadata"].update(labels={"a": "b"}))
    bench.world.edit("GoService", *walk.KEY, lambda g: g["metadata"].pop("labels"))
    later = bench.state()
    assert walk.canonical(later) != walk.canonical(first), "an event is on its way"
    later.streams = {}
    live = bench.world.find("GoService", *walk.KEY)
    assert live is not None
    later.cache.put("GoService", live)
    assert walk.canonical(later) == walk.canonical(first)


def test_a_walk_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were Jobs made twice, or did a build never end, the walk would say so."""
    monkeypatch.setitem(walk.ACTS, "the Job ends", lambda bench: False)
    seen = walk.walk(2000, 0, 0)
    assert any("it ends with 1 Jobs" in fault for fault in seen.violations)
