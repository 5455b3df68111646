"""What the golden cases show between them: a new phase, reason, write or child needs a case.

Each set is compared with the whole of its kind, so that what has no case fails by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, assert_never, get_args

from goservice.api import parsing
from goservice.api.conditions import Reason, Type, known
from goservice.build import engine
from goservice.decide import facts
from goservice.decide.build import Phase
from goservice.decide.plan import STEPS, Pass
from goservice.decide.writes import Apply, Create, Delete, Plan, Write
from goservice.errors import InvalidSpec
from goservice.objects.children import CHILDREN, Child, Upkeep
from tests.golden import plan_file
from tests.golden.cases import Case, all_cases

PLANS = [case for case in all_cases() if case.has_world]
LIVES = [case for case in all_cases() if (case.folder / "objects.yaml").exists()]

NEVER_OF_READY = {
    Reason.RESOLVED,  # of SourceResolved
    Reason.SUCCEEDED,  # of Built
    Reason.AVAILABLE,  # of Available
    Reason.UNAVAILABLE,  # of Available
    Reason.SCALING,  # of Autoscaled
    Reason.SCALING_INACTIVE,  # of Autoscaled
}
"""Reasons that other conditions than Ready have. Some case shows each of them there."""
OF_OPTIONAL_ROWS = {Reason.API_NOT_SERVED}
"""Reasons that only a row with `optional` brings. Once there is one, its case's not-served.yaml shows them."""
READY_WITHOUT_CASE: set[Reason] = set()
"""Reasons of Ready that no case shows: none. Who adds one says here why it can have no case."""
NEVER_WRITTEN = {
    Upkeep.WATCHED,  # pods: their Jobs' controller makes them
}
"""Upkeeps that no plan writes anything for."""
PHASES_WITHOUT_CASE: set[Phase] = set()
"""Phases of a build that no case shows: none."""


@cache
def planned(case: Case) -> Plan:
    return case.plan()


@cache
def conditions() -> list[Mapping[str, Any]]:
    """Every condition of a plan.yaml, and of a not-served.yaml."""
    lives = [world.status for case in LIVES if (world := case.not_served()) is not None]
    statuses = [*(planned(case).status or {} for case in PLANS), *lives]
    return [condition for status in statuses for condition in status.get("conditions", ())]


def reasons(*kinds: Type) -> set[Reason]:
    """The reasons that these conditions are shown with."""
    found = {known(c["reason"]) for c in conditions() if c["type"] in kinds}
    return {reason for reason in found if reason is not None}


def phase(case: Case) -> Phase | None:
    """How far the build is that the plan speaks of; None where no step looks at it."""
    given = case.given()
    try:
        service = parsing.parse(given.body)
    except InvalidSpec:
        return None
    settings = case.settings()
    found = facts.of(service, given.observed, engine.of(settings))
    state = Pass(service, given.observed, settings, given.now, found)
    for step in STEPS:
        before, state = state, step(state)
        if state.build is not before.build:
            return state.build.phase
        if state.plan is not None:
            break
    return None


def child_of(case: Case, write: Write) -> Child:
    """The row of the table that a write is of."""
    match write:
        case Apply(manifest=manifest) | Create(manifest=manifest):
            kind, name = manifest["kind"], manifest["metadata"]["name"]
        case Delete(kind=kind, name=name):
            pass
        case _:
            assert_never(write)
    component = "app" if name == case.body()["metadata"]["name"] else "build"
    return next(c for c in CHILDREN if (c.kind.kind, c.component) == (kind, component))


def children_written() -> list[Child]:
    """The row of each write of a plan.yaml, and of each object of an objects.yaml."""
    plans = [child_of(case, write) for case in PLANS for write in planned(case).writes]
    lives = [
        child_of(case, write)
        for case in LIVES
        for decided in case.first_life().plans
        for write in decided.writes
    ]
    return plans + lives


def test_every_reason_of_ready_has_a_case() -> None:
    assert reasons(Type.READY) == (
        set(Reason) - NEVER_OF_READY - OF_OPTIONAL_ROWS - READY_WITHOUT_CASE
    )


def test_every_other_reason_has_a_case() -> None:
    optional = any(child.optional for child in CHILDREN)
    assert reasons(*Type) >= NEVER_OF_READY | (OF_OPTIONAL_ROWS if optional else set())


def test_every_condition_has_a_case() -> None:
    assert {condition["type"] for condition in conditions()} == set(Type)


def test_every_phase_of_a_build_has_a_case() -> None:
    assert {phase(case) for case in PLANS} - {None} == set(Phase) - PHASES_WITHOUT_CASE


def test_every_type_of_write_has_a_case() -> None:
    every = {type(write) for case in PLANS for write in planned(case).writes}
    assert every == set(get_args(Write))


def test_every_upkeep_has_a_case() -> None:
    planned_for = {child_of(case, write).upkeep for case in PLANS for write in planned(case).writes}
    assert planned_for == set(Upkeep) - NEVER_WRITTEN


def test_every_child_has_a_case() -> None:
    rows = {(c.kind.kind, c.component) for c in CHILDREN if c.upkeep not in NEVER_WRITTEN}
    assert {(c.kind.kind, c.component) for c in children_written()} == rows


def test_plans_that_ask_wait_and_queue_have_a_case() -> None:
    every = [planned(case) for case in PLANS]
    assert any(plan.lookups for plan in every)
    assert any(plan.refresh_source for plan in every)
    assert any(plan.waits_for_slot for plan in every)
    assert {plan.watch_source for plan in every} == {True, False}
    assert {plan.status is None for plan in every} == {True, False}


def test_whatever_is_written_otherwise_changes_the_file() -> None:
    changed = 0
    for case in PLANS:
        decided, observed = planned(case), case.given().observed
        text = plan_file.text(decided, observed)
        for number, write in enumerate(decided.writes):
            if isinstance(write, Delete):
                continue
            other = replace(write, manifest={**write.manifest, "of": "another version"})
            writes = (*decided.writes[:number], other, *decided.writes[number + 1 :])
            assert plan_file.text(replace(decided, writes=writes), observed) != text
            changed += 1
    assert changed > 20
