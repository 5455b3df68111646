"""What to do next: the whole brain, as one pure function.

`decide` looks at one service, at everything that was observed and at the clock, and returns a plan:
data that can be printed, compared and stored. It goes through `STEPS` and does nothing else; no step
asks what changed, each asks what is and what should be. Every plan with a status states the whole status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from goservice import names
from goservice.api.conditions import Condition, Reason
from goservice.api.resource import GoService
from goservice.build import engine
from goservice.decide import (
    build,
    facts,
    live_deployment,
    pending_build,
    prune,
    refusals,
    rollout,
    source,
    status,
    upkeep,
    warnings,
)
from goservice.decide.build import BuildStep, Phase
from goservice.decide.facts import Facts
from goservice.decide.observed import Observed
from goservice.decide.source import SourceStep
from goservice.decide.upkeep import Upkept
from goservice.decide.writes import Delete, Plan, Write
from goservice.objects.children import CHILDREN, Child, Wants
from goservice.objects.pod_template import Deployed
from goservice.settings import Settings


@dataclass(frozen=True)
class Pass:
    """A pass on its way through the steps: what it was given, and what each step has found."""

    service: GoService
    """The resource."""
    observed: Observed
    """What is seen of it."""
    settings: Settings
    """The platform's settings."""
    now: datetime
    """The time, in UTC."""
    facts: Facts
    """What is seen, parsed."""
    children: Sequence[Child] = CHILDREN
    """The table of children."""
    source: SourceStep = SourceStep()
    """Found by `_resolve`."""
    build: BuildStep = BuildStep(Phase.NONE, Reason.RESOLVING)
    """Found by `_build`."""
    writes: tuple[Write, ...] = ()
    """Found by `_write` and `_prune`."""
    upkept: Upkept = Upkept()
    """Found by `_write`: what is to be said of the objects."""
    not_served: tuple[Condition, ...] = ()
    """What the spec asks for and the cluster does not serve, found by `_write`."""
    deployed: Deployed | None = None
    """What the pods are to run, found by `_choose_image`; None while there is no image."""
    plan: Plan | None = None
    """The result; the step that finds it is the last one."""


def decide(
    service: GoService,
    observed: Observed,
    settings: Settings,
    now: datetime,
    children: Sequence[Child] = CHILDREN,
) -> Plan:
    """The plan for one service."""
    found = facts.of(service, observed, engine.of(settings))
    state = Pass(service, observed, settings, now, found, children)
    for step in STEPS:
        state = step(state)
        if state.plan is not None:
            return state.plan
    raise AssertionError("the last step makes a plan")


def _ends(state: Pass, plan: Plan) -> Pass:
    """The pass with its plan, and with what becomes of the slot of a build that is held up."""
    at = pending_build.gives_way_at(state.facts.builds)
    if at is None or state.now >= at:
        return replace(state, plan=replace(plan, gives_way=at is not None))
    wait = (at - state.now).total_seconds()
    again = wait if plan.requeue_after is None else min(wait, plan.requeue_after)
    return replace(state, plan=replace(plan, requeue_after=again))


def _remember_restart(state: Pass) -> Pass:
    """Which restart was asked for last: to take the request away again restarts nothing."""
    live = state.facts.deployment
    asked = state.service.restart_requested_at or (live.restart_handled if live else "")
    return replace(state, service=replace(state.service, restart_requested_at=asked))


def _suspend(state: Pass) -> Pass:
    """Whether the resource says that nothing at all is to be built or changed."""
    if not state.service.spec.suspend:
        return state
    return _ends(state, refusals.suspended(state.service, state.facts, state.now))


def _refuse(state: Pass) -> Pass:
    """Whether something stands against the whole: then nothing is built or changed."""
    fault = refusals.fault(state.service, state.observed, state.settings)
    if fault is None:
        return state
    return _ends(state, refusals.stalled(state.service, state.facts, state.now, *fault))


def _resolve(state: Pass) -> Pass:
    """Which commit is wanted."""
    found = source.resolve(state.service, state.observed.resolution, state.facts.status)
    return replace(state, source=found)


def _build(state: Pass) -> Pass:
    """Whether its image exists, is being made, or is to be made."""
    found = build.step(
        state.service, state.observed, state.settings, state.now, state.facts, state.source
    )
    return replace(state, build=found)


def _choose_image(state: Pass) -> Pass:
    """What the pods are to run: the wanted image once it exists, until then the one that serves."""
    wanted, live = state.service.spec, state.facts.deployment
    if state.build.digest:
        image = names.image(state.service, state.build.digest)
        go = "" if state.source.pinned else state.build.fetched.go
        arch = "" if state.source.pinned else state.build.fetched.arch
        return replace(state, deployed=Deployed(image, wanted.user.uid, wanted.time_zone, go, arch))
    if live is None:
        return state
    return replace(
        state, deployed=live_deployment.deployed(live, wanted.user.uid, wanted.time_zone)
    )


def _write(state: Pass) -> Pass:
    """Which objects are not as they should be."""
    wants = Wants(state.service, state.settings, state.build.order, state.deployed, _memory(state))
    rows, absent = state.children, state.observed.absent
    found = upkeep.step(
        wants, state.facts, upkeep.served(rows, absent), state.now, building=state.build.has_pod
    )
    return replace(
        state,
        writes=(*state.writes, *found.writes),
        upkept=found,
        not_served=tuple(upkeep.not_served(wants, rows, absent)),
    )


def _memory(state: Pass) -> dict[str, str]:
    """What the Deployment remembers of its image, so that a lost status rebuilds nothing."""
    live, attempt = state.facts.deployment, state.build.attempt
    if not state.build.digest:
        return dict(live.memory) if live else {}
    rebuild = state.service.rebuild_requested_at
    if state.facts.pending_rebuild and not state.source.pinned:
        rebuild = live.rebuild_handled if live else ""
    notes = {}
    if not state.source.pinned and attempt is not None:
        notes = {
            names.COMMIT: state.source.commit,
            names.INPUTS: attempt.inputs,
            names.ATTEMPT: str(attempt.number),
            names.GO_VERSION: state.build.fetched.go,
            names.ARCH: state.build.fetched.arch,
        }
        if state.build.untagged:
            tag = names.tag(state.service, state.source.commit, attempt.inputs)
            notes[names.UNTAGGED] = tag
    notes[names.REBUILD_HANDLED] = rebuild
    return {key: value for key, value in notes.items() if value}


def _prune(state: Pass) -> Pass:
    """Which builds lie beyond the history, or are to be made anew."""
    current = state.build.attempt.name if state.build.attempt else ""
    found: tuple[Delete, ...] = prune.deletes(state.service, state.observed, state.facts, current)
    gone = state.build.discard
    if gone is not None:
        found += (Delete("Job", state.service.namespace, gone.name, gone.job_uid),)
    return replace(state, writes=(*state.writes, *found))


def _summarise(state: Pass) -> Pass:
    """What all this comes to: the status, what to ask for, and when to look again."""
    service, observed, found = state.service, state.observed, state.build
    load = rollout.step(
        service,
        state.now,
        state.facts,
        wanted=state.deployed is not None,
        touched=state.upkept.rolls_out,
    )
    waits = (found.requeue_after, load.requeue_after, state.upkept.again)
    due = [after for after in waits if after is not None]
    pending = state.facts.pending_rebuild and not state.source.pinned
    warned = warnings.found(
        warnings.Seen(service, state.settings, state.facts, state.source, state.upkept.deviations)
    )
    plan = status.plan(
        service, state.facts, state.now, state.source, found, load, state.not_served, warned
    )
    asked = found.lookups + load.lookups
    lookups = tuple(lookup for lookup in asked if lookup not in observed.lookups)
    if lookups:
        plan = status.held(plan, state.facts.status)
    return _ends(
        state,
        replace(
            plan,
            writes=state.writes,
            lookups=lookups,
            requeue_after=min(due, default=None),
            watch_source=not state.source.pinned,
            refresh_source=pending and not observed.is_fresh,
            waits_for_slot=found.phase is Phase.QUEUED,
        ),
    )


STEPS: tuple[Callable[[Pass], Pass], ...] = (
    _remember_restart,
    _suspend,
    _refuse,
    _resolve,
    _build,
    _choose_image,
    _write,
    _prune,
    _summarise,
)
"""The policy: what is asked, in this order. Each step's first sentence says what it asks, and stands in
the docs. The first step with a plan ends the pass."""
