"""The last step: the whole status, from everything that the others found. The only writer of its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, assert_never

from goservice import names
from goservice.api.conditions import After, Condition, Reason, Type, Verdict, merged
from goservice.api.resource import GoService
from goservice.api.status import BuildPhase
from goservice.build.outcome import Failed, Running, Succeeded
from goservice.decide.attempts import Attempt
from goservice.decide.build import BuildStep, Phase, logs_command
from goservice.decide.facts import Facts
from goservice.decide.last_status import LastStatus, last_status
from goservice.decide.prune import HISTORY
from goservice.decide.rollout import RolloutStep, url
from goservice.decide.source import SourceStep
from goservice.decide.writes import Event, Plan

KEPT = (
    "latestImage", "servingImage", "build", "goVersion", "replicas", "readyReplicas",
    "selector", "url", "dockerfile", "lastHandledRebuildAt", "lastHandledRestartAt",
)  # fmt: skip
"""Fields that stay as they are until a pass knows better."""
OUTLIVES = (*KEPT, "commit", "history", "warnings")
"""Fields that stay while the resource cannot be read at all."""
COUNTS = ("replicas", "readyReplicas")
"""Fields that move while pods come and go: on their way they are not worth a write."""


def plan(
    service: GoService,
    facts: Facts,
    now: datetime,
    source: SourceStep,
    build: BuildStep,
    rollout: RolloutStep,
    not_served: Iterable[Condition] = (),
    warnings: Sequence[Mapping[str, Any]] = (),
) -> Plan:
    """The plan that writes the status of a service that is at work.

    `not_served` replaces any other condition of the same type: the object is not there.
    """
    ready, stalled, reconciling = _verdict(service, source, build, rollout)
    shown = [ready]
    if stalled:
        shown.append(replace(ready, type=Type.STALLED, status="True"))
    if reconciling:
        shown.append(replace(ready, type=Type.RECONCILING, status="True"))
    shown += [*_source_condition(source), *_built_condition(source, build), rollout.available]
    if rollout.autoscaled is not None:
        shown.append(rollout.autoscaled)
    missing = {condition.type: condition for condition in not_served}
    shown = [condition for condition in shown if condition.type not in missing]
    shown += missing.values()
    fields = (
        recorded(service, facts, service.generation)
        | _rollout_fields(service, rollout)
        | _build_fields(service, facts, source, build)
        | ({"warnings": list(warnings)} if warnings else {})
    )
    return status_plan(facts.status, service.generation, now, shown, fields, rollout.desired)


def status_plan(
    before: LastStatus,
    generation: int,
    now: datetime,
    shown: Iterable[Condition],
    fields: Mapping[str, Any],
    desired: int | None = None,
) -> Plan:
    """The plan that writes this status, if it says anything new, and tells of the transition."""
    status = {
        "observedGeneration": generation,
        **fields,
        "conditions": merged(before.conditions, shown, generation, now),
    }
    same = _essence(status) == _essence(before.written)
    if same and not _arrived(before.written, status, desired):
        return Plan()
    return Plan(status=status, events=_events(before, last_status(status)))


def held(plan: Plan, before: LastStatus) -> Plan:
    """The plan without its status where that would only lose words that the next pass finds again."""
    if plan.status is None:
        return plan
    after = last_status(plan.status)
    if (after.ready(), after.generation) != (before.ready(), before.generation):
        return plan
    return replace(plan, status=None, events=())


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth a write."""
    return {key: value for key, value in status.items() if key not in COUNTS}


def _arrived(before: Mapping[str, Any], status: Mapping[str, Any], desired: int | None) -> bool:
    """Whether the counts have changed and reached what is wanted."""
    changed = any(before.get(key) != status.get(key) for key in COUNTS)
    return changed and all(status.get(key) == desired for key in COUNTS)


def _events(before: LastStatus, after: LastStatus) -> tuple[Event, ...]:
    """One event for each transition of Ready, but for the first look around.

    While it serves, the source may be lost: Ready stays, so that is told by itself.
    """
    ready = after.condition(Type.READY)
    lost, was = after.condition(Type.SOURCE_RESOLVED), before.condition(Type.SOURCE_RESOLVED)
    if ready is None or before.ready() == after.ready() or ready.reason is Reason.RESOLVING:
        if ready is None or lost is None or lost.status != "False" or lost.reason == ready.reason:
            return ()
        if lost.reason.after is not After.STOP or (was and was.reason is lost.reason):
            return ()
        return (Event("Warning", lost.reason, lost.message),)
    kind: Literal["Normal", "Warning"] = "Warning" if ready.status == "False" else "Normal"
    return (Event(kind, ready.reason, ready.message),)


# --- conditions -----------------------------------------------------------------------------------


def _verdict(
    service: GoService, source: SourceStep, build: BuildStep, rollout: RolloutStep
) -> tuple[Condition, bool, bool]:
    """Ready, and whether the service is stalled or on its way."""
    if not source.pinned and not source.commit:
        if source.problem is None:
            url = service.spec.source.git.url if service.spec.source else ""
            message = f"Asking {url} for its newest commit."
            return Condition(Type.READY, "Unknown", Reason.RESOLVING, message), False, True
        status: Verdict = "False" if source.stopped else "Unknown"
        ready = Condition(Type.READY, status, source.problem, source.message)
        return ready, source.stopped, not source.stopped
    match build.phase:
        case Phase.QUEUED | Phase.RUNNING | Phase.RETRYING:
            return Condition(Type.READY, "Unknown", build.reason, build.message), False, True
        case Phase.FAILED | Phase.BLOCKED:
            return Condition(Type.READY, "False", build.reason, build.message), True, False
        case Phase.NONE | Phase.SUCCEEDED:
            on_its_way = not rollout.stuck and rollout.ready.status != "True"
            return rollout.ready, rollout.stuck, on_its_way
        case _:
            assert_never(build.phase)


def _source_condition(source: SourceStep) -> list[Condition]:
    if source.pinned:
        return []
    if source.problem is not None:
        return [Condition(Type.SOURCE_RESOLVED, "False", source.problem, source.message)]
    if not source.commit:
        return [Condition(Type.SOURCE_RESOLVED, "Unknown", Reason.RESOLVING)]
    return [Condition(Type.SOURCE_RESOLVED, "True", Reason.RESOLVED, f"Commit {source.commit}")]


def _built_condition(source: SourceStep, build: BuildStep) -> list[Condition]:
    if source.pinned:
        return []
    if not source.commit:
        return [Condition(Type.BUILT, "Unknown", Reason.RESOLVING)]
    match build.phase:
        case Phase.SUCCEEDED:
            return [Condition(Type.BUILT, "True", Reason.SUCCEEDED, f"Commit {source.commit}")]
        case Phase.FAILED | Phase.BLOCKED:
            return [Condition(Type.BUILT, "False", build.reason, build.message)]
        case Phase.NONE | Phase.QUEUED | Phase.RUNNING | Phase.RETRYING:
            return [Condition(Type.BUILT, "Unknown", build.reason, build.message)]
        case _:
            assert_never(build.phase)


# --- fields ---------------------------------------------------------------------------------------


def recorded(service: GoService, facts: Facts, generation: int) -> dict[str, Any]:
    """Fields that outlive a pass, and what finished builds add to them.

    The commit outlives its generation only by being resolved again.
    """
    before = facts.status
    fields = {key: before.written[key] for key in KEPT if key in before.written}
    if "commit" in before.written and before.generation == generation:
        fields["commit"] = before.written["commit"]
    finished = history(service, facts)
    if finished:
        fields["history"] = finished
    made = (
        item for item in finished if item.get("outcome") == Reason.SUCCEEDED and "image" in item
    )
    good = next(made, None)
    if good is not None:
        fields["latestImage"] = good["image"]
    shown = next((build for build in facts.builds if build.name == before.build_name), None)
    if shown is not None:
        fields["build"] = _build_status(service, before, shown)
    elif before.build_is_queued:
        del fields["build"]  # an older version named a build that was never started
    elif before.build_name and not before.build_is_over:
        fields["build"] = build_without_job(before)
    return fields


def build_without_job(before: LastStatus) -> dict[str, Any]:
    """`status.build` of a build that ran when it was written, and whose Job is gone: it is over.

    It stays, so that its name is not used again.
    """
    ends = {record.name: record.outcome for record in before.history}
    outcome = ends.get(before.build_name) or str(Reason.NODE_LOST)
    fields = {key: value for key, value in before.build.items() if key != "reason"}
    if outcome == Reason.SUCCEEDED:
        return {**fields, "phase": str(BuildPhase.SUCCEEDED)}
    return {**fields, "phase": str(BuildPhase.FAILED), "reason": outcome}


def history(service: GoService, facts: Facts) -> list[dict[str, Any]]:
    """The newest ten finished builds, with those that are not recorded yet."""
    records = {record.name: dict(record.written) for record in facts.status.history}
    for attempt in facts.builds:
        if attempt.name in records:
            continue
        item: dict[str, str | bool] = {
            "build": attempt.name,
            "commit": attempt.commit,
            "builtAt": attempt.finished,
        }
        match attempt.outcome:
            case Running():
                continue
            case Succeeded(digest=digest, fetched=fetched, untagged=untagged):
                item |= {
                    "outcome": str(Reason.SUCCEEDED),
                    "image": names.image(service, digest),
                    "arch": fetched.arch,
                    "untagged": untagged,
                }
            case Failed(reason=reason):
                item["outcome"] = str(reason)
            case _:
                assert_never(attempt.outcome)
        records[attempt.name] = {key: value for key, value in item.items() if value}
    newest = sorted(
        records.values(), key=lambda i: (i.get("builtAt", ""), i["build"]), reverse=True
    )
    return newest[:HISTORY]


def _rollout_fields(service: GoService, rollout: RolloutStep) -> dict[str, Any]:
    fields: dict[str, Any] = {"selector": names.selector_text(service)}
    if service.spec.ports:
        fields["url"] = url(service)
    if rollout.wanted:
        fields["replicas"] = rollout.replicas
        fields["readyReplicas"] = rollout.ready_replicas
        if service.restart_requested_at:
            fields["lastHandledRestartAt"] = service.restart_requested_at
    if rollout.serving_image:
        fields["servingImage"] = rollout.serving_image
    return fields


def _build_fields(
    service: GoService, facts: Facts, source: SourceStep, build: BuildStep
) -> dict[str, Any]:
    """What the build step says of commit and build."""
    rebuild = service.rebuild_requested_at
    if source.pinned:
        return {"lastHandledRebuildAt": rebuild} if rebuild else {}
    fields: dict[str, Any] = {}
    if source.commit:
        fields["commit"] = _commit_fields(facts.status, source, build)
    attempt = build.attempt
    has_job = attempt is not None and (attempt.has_job or build.order is not None)
    if attempt is not None and has_job and build.phase is not Phase.QUEUED:
        fields["build"] = _build_status(service, facts.status, attempt)
        fields["dockerfile"] = {"configMap": attempt.name}
    if build.fetched.go:
        fields["goVersion"] = build.fetched.go
    if rebuild and (build.order is not None or not facts.pending_rebuild):
        fields["lastHandledRebuildAt"] = rebuild
    return fields


def _commit_fields(before: LastStatus, source: SourceStep, build: BuildStep) -> dict[str, str]:
    """The newest commit; time, author and message once `fetch` has seen them."""
    fetched = build.fetched
    is_fetched = fetched.commit == source.commit
    if before.commit_sha == source.commit and not (is_fetched and fetched.time):
        return dict(before.commit)
    fields = {"sha": source.commit}
    if is_fetched:
        fields |= {"time": fetched.time, "author": fetched.author, "message": fetched.subject}
    return {key: value for key, value in fields.items() if value}


def _build_status(service: GoService, before: LastStatus, attempt: Attempt) -> dict[str, Any]:
    """`status.build`: the newest build, in a form that does not change while it merely runs."""
    is_known = before.build_name == attempt.name
    if is_known and attempt.recorded and before.build_is_over:
        return dict(before.build)
    started = before.build_started_at if is_known else ""
    fields: dict[str, Any] = {
        "name": attempt.name,
        "attempt": attempt.number,
        "trigger": list(attempt.triggers),
        "phase": str(BuildPhase.RUNNING),
        "startedAt": started or attempt.started,
        "finishedAt": attempt.finished,
        "logsCommand": logs_command(service, attempt, attempt.outcome),
    }
    match attempt.outcome:
        case Succeeded():
            fields["phase"] = str(BuildPhase.SUCCEEDED)
        case Failed(reason=reason, tail=tail):
            fields |= {"phase": str(BuildPhase.FAILED), "reason": str(reason), "logTail": tail}
        case Running():
            fields["phase"] = str(BuildPhase.RUNNING)
        case _:
            assert_never(attempt.outcome)
    return {key: value for key, value in fields.items() if value}
