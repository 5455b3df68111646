"""What to do next: the whole brain, as one pure function.

`decide` looks at one service, at everything that was observed and at the clock, and returns a plan:
data that can be printed, compared and stored. It is a list of steps (validate, resolve, build,
deploy, prune, summarise); none asks what changed, each asks what is and what should be. Every exit
states the whole status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from goservice import builds, names, resources, workload
from goservice.api.conditions import Condition, Reason, Type, find, known, merged
from goservice.api.resource import GoService
from goservice.build import kaniko
from goservice.builds import Attempt, BuildStep
from goservice.errors import InvalidSpec
from goservice.observed import Observed, Question, Resolution, annotation, as_number, covers
from goservice.settings import Settings
from goservice.workload import Workload

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a manifest by a field manager."""

    manifest: Manifest
    manager: str = names.OPERATOR


@dataclass(frozen=True)
class Create:
    """Creation of an object whose name is never used twice."""

    manifest: Manifest


@dataclass(frozen=True)
class Delete:
    """Deletion of exactly this object."""

    kind: str
    namespace: str
    name: str
    uid: str


Write = Apply | Create | Delete


@dataclass(frozen=True)
class Event:
    """One line of `kubectl describe`. `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What a pass does: writes in order, then the status, then events."""

    writes: tuple[Write, ...] = ()
    status: Mapping[str, Any] | None = None
    """The whole status, None if the one that is there stays."""
    events: tuple[Event, ...] = ()
    questions: tuple[Question, ...] = ()
    again: float | None = None
    """Seconds until the next pass, if nothing happens before."""
    poll: bool = False
    """Whether the source is to be watched."""
    resolve: bool = False
    """Whether the source must be asked now: a rebuild was requested."""
    queued: bool = False
    """Whether a build waits for a place."""


@dataclass(frozen=True)
class SourceStep:
    """What is known of the commit. `problem` stands beside a commit when only the poll failed."""

    commit: str = ""
    problem: Reason | None = None
    message: str = ""
    pinned: bool = False


STOPPED_SOURCES = frozenset(
    {Reason.REVISION_NOT_FOUND, Reason.GIT_AUTHENTICATION_FAILED, Reason.FORBIDDEN_BY_PLATFORM}
)


def decide(service: GoService, observed: Observed, settings: Settings, now: datetime) -> Plan:
    """The plan for one service."""
    service = _with_restart_remembered(service, observed)
    if service.spec.suspend:
        return _suspended(service, observed, now)
    fault = _fault(service, observed, settings)
    if fault is not None:
        return _stalled(service, observed, now, *fault)
    source = _resolve(service, observed)
    build = _build(service, observed, settings, now, source)
    running = _running(service, observed, source, build)
    load = workload.step(
        service, observed, settings, now, running, _notes(service, observed, source, build)
    )
    return _summarise(service, observed, now, source, build, load)


def refused(body: Mapping[str, Any], error: InvalidSpec, observed: Observed, now: datetime) -> Plan:
    """The plan for a resource that cannot be parsed: say so, touch nothing."""
    generation = int(body.get("metadata", {}).get("generation") or 1)
    uid = str(body.get("metadata", {}).get("uid", ""))
    name = str(body.get("metadata", {}).get("name", ""))
    deployment = observed.child("Deployment", name, uid)
    shown = [Condition(Type.READY, "False", Reason.INVALID_SPEC, str(error))]
    shown.append(Condition(Type.STALLED, "True", Reason.INVALID_SPEC, str(error)))
    shown.append(workload.available(deployment))
    shown += _as_it_was(observed, Type.BUILT)
    return _said(observed, generation, now, shown, {})


def _with_restart_remembered(service: GoService, observed: Observed) -> GoService:
    """An annotation that is taken away again restarts nothing."""
    deployment = observed.child("Deployment", service.name, service.uid)
    handled = annotation(deployment, names.RESTART_HANDLED)[:64]
    asked = service.restart_requested_at or handled
    return replace(service, restart_requested_at=asked)


# --- validate: what the schema cannot say ---------------------------------------------------------


def _fault(service: GoService, observed: Observed, settings: Settings) -> tuple[Reason, str] | None:
    """What stands against the service as a whole, and its reason."""
    wanted = service.spec
    allowed = settings.registries.allowed
    if allowed and not any(_is_below(beginning, wanted.image.repository) for beginning in allowed):
        return Reason.FORBIDDEN_BY_PLATFORM, (
            f"spec.image.repository: {wanted.image.repository} is not allowed here;"
            f" it must start with {' or '.join(allowed)}"
        )
    if wanted.source is not None and wanted.image.digest is None:
        address = urlsplit(wanted.source.git.url)
        hosts = settings.git.allowed_hosts
        if address.scheme == "http" and not settings.git.allow_http:
            return Reason.FORBIDDEN_BY_PLATFORM, (
                "spec.source.git.url: http is not allowed here; use https"
            )
        if hosts and address.netloc not in hosts and address.hostname not in hosts:
            return Reason.FORBIDDEN_BY_PLATFORM, (
                f"spec.source.git.url: {address.netloc} is not allowed here;"
                f" it must be on {' or '.join(hosts)}"
            )
    scaling = wanted.autoscaling
    by_cpu = scaling is not None and (
        scaling.target_cpu_utilization_percentage or not scaling.metrics
    )
    if by_cpu and "cpu" not in resources.effective_resources(service, settings)["requests"]:
        return Reason.CPU_REQUEST_MISSING, (
            "spec.autoscaling: scaling by CPU needs spec.resources.requests.cpu, such as 100m"
        )
    if observed.foreign:
        kind, name = sorted(observed.foreign)[0]
        return Reason.NOT_OWNED, (
            f"{kind} {service.namespace}/{name} exists and does not belong to this GoService:"
            f" rename one of them, or look at it: kubectl get {kind.lower()} {name} -n {service.namespace} -o yaml"
        )
    if observed.refusal:
        return Reason.CLUSTER_REFUSED, observed.refusal
    return None


def _is_below(beginning: str, repository: str) -> bool:
    """Whether a repository is one or below it: example.co is no beginning of example.com/a."""
    return f"{repository}/".startswith(f"{beginning.rstrip('/')}/")


def _stalled(
    service: GoService, observed: Observed, now: datetime, reason: Reason, message: str
) -> Plan:
    deployment = observed.child("Deployment", service.name, service.uid)
    shown = [
        Condition(Type.READY, "False", reason, message),
        Condition(Type.STALLED, "True", reason, message),
        workload.available(deployment),
        *_as_it_was(observed, Type.SOURCE_RESOLVED, Type.BUILT, Type.AUTOSCALED),
    ]
    again = 60.0 if reason in (Reason.NOT_OWNED, Reason.CLUSTER_REFUSED) else None
    recorded = _recorded(service, observed, service.generation)
    plan = _said(observed, service.generation, now, shown, recorded)
    return replace(plan, again=again)


def _as_it_was(observed: Observed, *kinds: Type) -> list[Condition]:
    """Conditions as last written, as far as this version knows their reasons."""
    result = []
    for kind in kinds:
        old = find(observed.status, kind)
        reason = known(old.get("reason"))
        if reason is not None:
            result.append(Condition(kind, old["status"], reason, old.get("message", "")))
    return result


# --- suspend ----------------------------------------------------------------------------------------


def _suspended(service: GoService, observed: Observed, now: datetime) -> Plan:
    """Nothing is built, deployed or polled. A build that runs ends and is recorded."""
    before = find(observed.status, Type.READY)
    message = "Suspended: nothing is built or changed; what runs keeps running."
    if builds.pending_rebuild(service, observed):
        message += " A rebuild request waits."
    message += f' Resume: kubectl patch goservice {service.name} -n {service.namespace} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''
    deployment = observed.child("Deployment", service.name, service.uid)
    shown = [
        Condition(Type.READY, before.get("status", "Unknown"), Reason.SUSPENDED, message),
        workload.available(deployment),
        *_as_it_was(observed, Type.SOURCE_RESOLVED, Type.BUILT, Type.AUTOSCALED),
    ]
    generation = int(observed.status.get("observedGeneration") or 0) or service.generation
    return _said(observed, generation, now, shown, _recorded(service, observed, generation))


# --- resolve ----------------------------------------------------------------------------------------


def _resolve(service: GoService, observed: Observed) -> SourceStep:
    """The commit to build: the newest one that is known for this very generation."""
    if service.spec.image.digest is not None:
        return SourceStep(pinned=True)
    resolution = observed.resolution or Resolution()
    commit = resolution.sha or _commit_of_generation(service, observed)
    return SourceStep(commit, resolution.reason, resolution.message)


def _commit_of_generation(service: GoService, observed: Observed) -> str:
    """The commit that the status names for this generation: another source has other commits."""
    current = observed.status.get("observedGeneration") == service.generation
    return str((observed.status.get("commit") or {}).get("sha", "")) if current else ""


# --- build ------------------------------------------------------------------------------------------


def _build(
    service: GoService, observed: Observed, settings: Settings, now: datetime, source: SourceStep
) -> BuildStep:
    if source.pinned:
        return BuildStep("None", Reason.SUCCEEDED, digest=service.spec.image.digest or "")
    if not source.commit:
        return BuildStep("None", Reason.RESOLVING)
    return builds.step(service, observed, settings, now, source.commit)


# --- deploy -----------------------------------------------------------------------------------------


def _running(
    service: GoService, observed: Observed, source: SourceStep, build: BuildStep
) -> resources.Running | None:
    """What the pods are to run: the wanted image once it exists, until then the one that serves."""
    if build.digest:
        return resources.Running(
            names.image(service, build.digest),
            service.spec.user.uid,
            service.spec.time_zone,
            "" if source.pinned else build.fetched.go,
        )
    deployment = observed.child("Deployment", service.name, service.uid)
    if deployment is None:
        return None
    return resources.Running(
        resources.image_of(deployment),
        as_number(annotation(deployment, names.USER_ID), service.spec.user.uid),
        annotation(deployment, names.TIME_ZONE) or service.spec.time_zone,
        annotation(deployment, names.GO_VERSION)[:20],
    )


def _notes(
    service: GoService, observed: Observed, source: SourceStep, build: BuildStep
) -> dict[str, str]:
    """What the Deployment remembers of its image, so that a lost status rebuilds nothing."""
    if not build.digest:
        deployment = observed.child("Deployment", service.name, service.uid)
        keys = (names.COMMIT, names.INPUTS, names.ATTEMPT, names.GO_VERSION, names.REBUILD_HANDLED)
        return {key: annotation(deployment, key) for key in keys if annotation(deployment, key)}
    rebuild = service.rebuild_requested_at
    if builds.pending_rebuild(service, observed) and not source.pinned:
        rebuild = annotation(
            observed.child("Deployment", service.name, service.uid), names.REBUILD_HANDLED
        )
    handled = {names.REBUILD_HANDLED: rebuild} if rebuild else {}
    if source.pinned or build.attempt is None:
        return handled
    notes = {
        names.COMMIT: source.commit,
        names.INPUTS: build.attempt.inputs,
        names.ATTEMPT: str(build.attempt.number),
        names.GO_VERSION: build.fetched.go,
    }
    return {key: value for key, value in notes.items() if value} | handled


# --- summarise --------------------------------------------------------------------------------------


def _summarise(
    service: GoService,
    observed: Observed,
    now: datetime,
    source: SourceStep,
    build: BuildStep,
    load: Workload,
) -> Plan:
    ready, stalled, reconciling = _verdict(service, source, build, load)
    shown = [ready]
    if stalled:
        shown.append(replace(ready, type=Type.STALLED, status="True"))
    if reconciling:
        shown.append(replace(ready, type=Type.RECONCILING, status="True"))
    shown += [*_source_condition(source), *_built_condition(source, build), load.available]
    if load.autoscaled is not None:
        shown.append(load.autoscaled)
    fields = (
        _recorded(service, observed, service.generation)
        | dict(load.fields)
        | _build_fields(service, observed, source, build)
    )
    if load.wanted and service.restart_requested_at:
        fields["lastHandledRestartAt"] = service.restart_requested_at
    creates = tuple(Create(manifest) for manifest in build.create)
    accounts = (
        (Apply(resources.build_account(service)),)
        if creates and _lacks_account(service, observed)
        else ()
    )
    claim = _cache_claim(service, observed, building=build.phase in ("Running", "Blocked"))
    writes: tuple[Write, ...] = claim + accounts + creates
    writes += tuple(_as_write(item) for item in load.writes)
    current = build.attempt.name if build.attempt else ""
    writes += tuple(_delete(manifest) for manifest in builds.to_prune(service, observed, current))
    due = [again for again in (build.again, load.again) if again is not None]
    plan = _said(observed, service.generation, now, shown, fields, load.desired)
    pending = builds.pending_rebuild(service, observed) and not source.pinned
    return replace(
        plan,
        writes=writes,
        questions=tuple(q for q in build.questions + load.questions if q not in observed.answers),
        again=min(due, default=None),
        poll=not source.pinned,
        resolve=pending and not (observed.resolution is not None and observed.resolution.fresh),
        queued=build.phase == "Queued",
    )


def _lacks_account(service: GoService, observed: Observed) -> bool:
    return observed.child("ServiceAccount", names.build_account(service), service.uid) is None


def _cache_claim(service: GoService, observed: Observed, *, building: bool) -> tuple[Write, ...]:
    """Make or change the service's own claim for the caches of its builds; deleting is the user's."""
    live = observed.child("PersistentVolumeClaim", names.cache_claim(service), service.uid)
    wanted = resources.cache_claim(service)
    if wanted is None or (live is None and not building) or (live and covers(live, wanted)):
        return ()
    return (Apply(wanted),)


def _as_write(item: workload.Item) -> Write:
    if item.delete:
        return _delete(item.manifest)
    return Apply(item.manifest, item.manager)


def _delete(manifest: Manifest) -> Delete:
    metadata = manifest["metadata"]
    return Delete(manifest["kind"], metadata["namespace"], metadata["name"], metadata["uid"])


def _verdict(
    service: GoService, source: SourceStep, build: BuildStep, load: Workload
) -> tuple[Condition, bool, bool]:
    """Ready, and whether the service is stalled or on its way."""
    if not source.pinned and not source.commit:
        if source.problem is None:
            url = service.spec.source.git.url if service.spec.source else ""
            message = f"Asking {url} for its newest commit."
            return Condition(Type.READY, "Unknown", Reason.RESOLVING, message), False, True
        if source.problem in STOPPED_SOURCES:
            return Condition(Type.READY, "False", source.problem, source.message), True, False
        return Condition(Type.READY, "Unknown", source.problem, source.message), False, True
    match build.phase:
        case "Queued" | "Running" | "Retrying":
            return Condition(Type.READY, "Unknown", build.reason, build.message), False, True
        case "Failed" | "Blocked":
            return Condition(Type.READY, "False", build.reason, build.message), True, False
        case _:
            return load.ready, load.stuck, not load.stuck and load.ready.status != "True"


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
        case "Succeeded":
            return [Condition(Type.BUILT, "True", Reason.SUCCEEDED, f"Commit {source.commit}")]
        case "Failed" | "Blocked":
            return [Condition(Type.BUILT, "False", build.reason, build.message)]
        case _:
            return [Condition(Type.BUILT, "Unknown", build.reason, build.message)]


def _recorded(service: GoService, observed: Observed, generation: int) -> dict[str, Any]:
    """Fields that outlive a pass, and what finished builds add to them.

    The commit outlives its generation only by being resolved again.
    """
    kept = (
        "latestImage", "servingImage", "build", "goVersion", "replicas", "readyReplicas",
        "selector", "url", "dockerfile", "lastHandledRebuildAt", "lastHandledRestartAt",
    )  # fmt: skip
    fields = {key: observed.status[key] for key in kept if key in observed.status}
    if "commit" in observed.status and observed.status.get("observedGeneration") == generation:
        fields["commit"] = observed.status["commit"]
    known = builds.attempts(service, observed)
    finished = builds.history(service, observed, known)
    if finished:
        fields["history"] = finished
    made = (item for item in finished if item.get("outcome") == "Succeeded" and "image" in item)
    good = next(made, None)
    if good is not None:
        fields["latestImage"] = good["image"]
    by_name = {attempt.name: attempt for attempt in known}
    shown = by_name.get((fields.get("build") or {}).get("name", ""))
    if shown is not None:
        fields["build"] = _build_status(service, observed, shown)
    return fields


def _build_fields(
    service: GoService, observed: Observed, source: SourceStep, build: BuildStep
) -> dict[str, Any]:
    """What the build step says of commit and build."""
    if source.pinned:
        echo = {"lastHandledRebuildAt": service.rebuild_requested_at}
        return echo if service.rebuild_requested_at else {}
    fields: dict[str, Any] = {}
    if source.commit:
        fields["commit"] = _commit_fields(observed, source, build)
    if build.attempt is not None and (
        build.attempt.job is not None or build.create or build.phase == "Queued"
    ):
        fields["build"] = _build_status(service, observed, build.attempt, build.phase)
        if build.attempt.job is not None or build.create:
            fields["dockerfile"] = {"configMap": build.attempt.name}
    if build.fetched.go:
        fields["goVersion"] = build.fetched.go
    rebuild = service.rebuild_requested_at
    if rebuild and (build.create or not builds.pending_rebuild(service, observed)):
        fields["lastHandledRebuildAt"] = rebuild
    return fields


def _commit_fields(observed: Observed, source: SourceStep, build: BuildStep) -> dict[str, str]:
    """The newest commit; time, author and message once `fetch` has seen them."""
    fetched = build.fetched
    before = observed.status.get("commit") or {}
    if before.get("sha") == source.commit and (fetched.commit != source.commit or not fetched.time):
        return dict(before)
    details = {"time": fetched.time, "author": fetched.author, "message": fetched.subject}
    if fetched.commit != source.commit:
        details = {}
    return {"sha": source.commit} | {k: v for k, v in details.items() if v}


def _build_status(
    service: GoService, observed: Observed, attempt: Attempt, phase: str = ""
) -> dict[str, Any]:
    """`status.build`: the newest build, in a form that does not change while it merely runs."""
    before = observed.status.get("build") or {}
    same = before.get("name") == attempt.name
    outcome = attempt.outcome
    fields: dict[str, Any] = {
        "name": attempt.name,
        "attempt": attempt.number,
        "trigger": list(attempt.triggers),
        "phase": "Running",
        "startedAt": before.get("startedAt")
        if same and before.get("startedAt")
        else attempt.started,
        "finishedAt": attempt.finished,
        "logsCommand": builds.logs_command(service, attempt, kaniko.Running()),
    }
    if isinstance(outcome, kaniko.Succeeded):
        fields["phase"] = "Succeeded"
    elif isinstance(outcome, kaniko.Failed):
        fields |= {
            "phase": "Failed",
            "reason": str(outcome.reason),
            "logTail": outcome.tail,
            "logsCommand": builds.logs_command(service, attempt, outcome),
        }
    elif phase == "Queued":
        fields |= {"phase": "Queued", "startedAt": "", "logsCommand": ""}
    return {key: value for key, value in fields.items() if value}


def _said(
    observed: Observed,
    generation: int,
    now: datetime,
    shown: Iterable[Condition],
    fields: Mapping[str, Any],
    desired: int | None = None,
) -> Plan:
    """The plan that writes this status, if it says anything new, and tells of the transition."""
    before = observed.status
    status = {
        "observedGeneration": generation,
        **fields,
        "conditions": merged(before.get("conditions") or (), shown, generation, now),
    }
    if _essence(status) == _essence(before) and not _arrived(before, status, desired):
        return Plan()
    return Plan(status=status, events=_events(before, status))


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth a write: counts that move on their way are not."""
    return {key: value for key, value in status.items() if key not in ("replicas", "readyReplicas")}


def _arrived(before: Mapping[str, Any], status: Mapping[str, Any], desired: int | None) -> bool:
    """Whether the counts have changed and reached what is wanted."""
    counts = ("replicas", "readyReplicas")
    changed = any(before.get(key) != status.get(key) for key in counts)
    return changed and status.get("replicas") == status.get("readyReplicas") == desired


def _events(before: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Event, ...]:
    """One event for each transition of Ready, but for the first look around."""
    old, new = find(before, Type.READY), find(status, Type.READY)
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]):
        return ()
    if new["reason"] == Reason.RESOLVING:
        return ()
    kind = "Warning" if new["status"] == "False" else "Normal"
    return (Event(kind, new["reason"], new["message"]),)
