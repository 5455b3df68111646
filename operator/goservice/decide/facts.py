"""What is there, parsed once: typed values, taken from objects and from the status.

The only module of `decide` that reads a manifest or the status by its keys: the steps read facts.
What others may have written (a pod's author, a person with kubectl) is taken for what it is: a text
that is no number of ours, no digest or no time counts as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from goservice import names
from goservice.api.conditions import Condition, Reason, Type, known
from goservice.api.resource import GoService
from goservice.build.engine import Engine
from goservice.build.outcome import (
    LONGEST_WORDS,
    Failed,
    Fetched,
    Outcome,
    Running,
    Succeeded,
    go_line,
    is_digest,
)
from goservice.build.pod import is_in_trouble, why_waiting
from goservice.decide.observed import Lookup, Observed
from goservice.manifest import (
    Manifest,
    annotation,
    clean,
    condition_of,
    find_condition,
    owned,
    parse_number,
    parse_time,
)
from goservice.objects.deployment import image_of
from goservice.objects.pod_template import Deployed

LONGEST_REQUEST = 64
"""Characters of a request's value that count."""
LONGEST_GO_LINE = 20
"""Characters of a go line that count."""


# --- the Deployment -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RolloutState:
    """How far a Deployment's controller has come."""

    seen: bool
    """Whether it has seen the newest spec."""
    wanted: int
    """Pods that the spec asks for."""
    replicas: int
    """Pods that there are, of any template."""
    ready: int
    """Pods that get requests."""
    updated: int
    """Pods of the newest template."""
    available: int
    """Pods that have been ready for long enough."""
    is_available: bool
    """Whether enough pods of any template serve."""
    took_over: bool
    """Whether the newest template has taken over once, as the condition Progressing tells."""
    deadline_exceeded: bool
    """Whether it has not moved for its progressDeadlineSeconds."""
    moved_at: datetime | None
    """When it moved last."""
    refusal: str
    """Why pods cannot be created, in the API server's words; empty if they can."""


@dataclass(frozen=True)
class LiveDeployment:
    """The Deployment that is there, and what it remembers of its image."""

    image: str
    """What its pods run: repository@sha256:…"""
    user_id: str
    """The uid that the image is made for, as text; empty if it is not known."""
    time_zone: str
    """The image's time zone; empty if it is not known."""
    go: str
    """The module's go line; empty if it is not known."""
    commit: str
    """The commit that the image was built from; empty for a pinned one."""
    inputs: str
    """The hash of the inputs of the build of its image."""
    attempt: int
    """The attempt of that build."""
    memory: Mapping[str, str]
    """The annotations that say all this, to be kept while the image is."""
    rebuild_handled: str
    """The rebuild request that the image answers."""
    restart_handled: str
    """The restart request that was answered last."""
    template_inputs: str
    """The hash of what its pod template was made of."""
    rendered: str
    """The hash of its pod template as an operator wrote it."""
    template: Manifest
    """The pod template as it is."""
    generation: int
    """Of its spec."""
    replicas: int | None
    """spec.replicas."""
    replicas_of: str
    """Who writes spec.replicas: GoService or Autoscaler."""
    rollout: RolloutState
    """How far it is."""


def deployed(live: LiveDeployment, uid: int, time_zone: str) -> Deployed:
    """What a Deployment's pods run; with these where it does not remember what its image is made for."""
    return Deployed(
        live.image,
        parse_number(live.user_id, uid),
        live.time_zone or time_zone,
        live.go[:LONGEST_GO_LINE],
    )


_MEMORY = (names.COMMIT, names.INPUTS, names.ATTEMPT, names.GO_VERSION, names.REBUILD_HANDLED)
"""Annotations by which a Deployment remembers its image, so that a lost status rebuilds nothing."""


def _deployment(observed: Observed, name: str, uid: str) -> LiveDeployment | None:
    """The Deployment of the resource with this name and uid, if it is there."""
    live = observed.children.get(("Deployment", name))
    if live is None or not owned(live, uid):
        return None
    spec, metadata = live.get("spec") or {}, live["metadata"]
    return LiveDeployment(
        image=image_of(live),
        user_id=annotation(live, names.USER_ID),
        time_zone=annotation(live, names.TIME_ZONE),
        go=annotation(live, names.GO_VERSION),
        commit=annotation(live, names.COMMIT),
        inputs=annotation(live, names.INPUTS),
        attempt=parse_number(annotation(live, names.ATTEMPT), 1),
        memory={key: annotation(live, key) for key in _MEMORY if annotation(live, key)},
        rebuild_handled=annotation(live, names.REBUILD_HANDLED),
        restart_handled=annotation(live, names.RESTART_HANDLED)[:LONGEST_REQUEST],
        template_inputs=annotation(live, names.TEMPLATE),
        rendered=annotation(live, names.RENDERED),
        template=spec.get("template") or {},
        generation=metadata.get("generation", 1),
        replicas=spec.get("replicas"),
        replicas_of=annotation(live, names.REPLICAS_OF),
        rollout=_rollout(live),
    )


def _rollout(live: Manifest) -> RolloutState:
    status = live.get("status", {})
    progress = condition_of(live, "Progressing")
    refused = condition_of(live, "ReplicaFailure")
    is_available = condition_of(live, "Available").get("status") == "True"
    return RolloutState(
        seen=status.get("observedGeneration", 0) >= live["metadata"].get("generation", 1),
        wanted=live.get("spec", {}).get("replicas", 1),
        replicas=int(status.get("replicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        is_available=is_available,
        took_over=progress.get("reason") == "NewReplicaSetAvailable"
        and progress.get("status") == "True",
        deadline_exceeded=progress.get("reason") == "ProgressDeadlineExceeded",
        moved_at=parse_time(progress.get("lastUpdateTime")),
        refusal=clean(str(refused.get("message"))) if refused.get("status") == "True" else "",
    )


# --- the status -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BuildRecord:
    """A finished build, as the status records it."""

    name: str
    """The build's name."""
    outcome: str
    """Succeeded, or the reason of the failure."""
    image: str
    """The image that it made; empty if it made none."""
    commit: str
    """The commit that it was made from; empty if that is not known."""
    built_at: str
    """When it ended, RFC 3339; empty if that is not known."""
    written: Mapping[str, Any]
    """The record as it stands."""


@dataclass(frozen=True)
class LastStatus:
    """The status as it was last written."""

    written: Mapping[str, Any]
    """All of it."""
    generation: int
    """The generation that it speaks of, 0 if none."""
    conditions: tuple[Mapping[str, Any], ...]
    """The conditions as they stand."""
    commit: Mapping[str, Any]
    """The newest commit that was known, with what `fetch` learnt of it."""
    commit_sha: str
    """Its hash."""
    go: str
    """The go line of the newest build."""
    build: Mapping[str, Any]
    """The newest build, as it stands."""
    build_name: str
    """Its name."""
    build_is_queued: bool
    """Whether that build waited for a build slot."""
    build_started_at: str
    """When that build was started, RFC 3339."""
    log_tail: str
    """That build's last lines, if it failed."""
    history: tuple[BuildRecord, ...]
    """The newest finished builds, the newest first."""
    rebuild_handled: str
    """The rebuild request that was answered last."""

    def condition(self, kind: Type) -> Condition | None:
        """A condition, if it is there and this version knows its reason."""
        found = find_condition(self.written, kind)
        reason = known(found.get("reason"))
        if reason is None:
            return None
        return Condition(kind, found["status"], reason, found.get("message", ""))

    def verdict(self) -> tuple[str, str]:
        """Status and reason of Ready, empty if it was never written."""
        ready = find_condition(self.written, Type.READY)
        return ready.get("status", ""), ready.get("reason", "")


def last_status(written: Mapping[str, Any]) -> LastStatus:
    """The status of a resource, parsed."""
    build = written.get("build") or {}
    commit = written.get("commit") or {}
    return LastStatus(
        written=written,
        generation=int(written.get("observedGeneration") or 0),
        conditions=tuple(written.get("conditions") or ()),
        commit=commit,
        commit_sha=str(commit.get("sha", "")),
        go=str(written.get("goVersion", "")),
        build=build,
        build_name=str(build.get("name", "")),
        build_is_queued=build.get("phase") == "Queued",
        build_started_at=str(build.get("startedAt") or ""),
        log_tail=str(build.get("logTail", "")),
        history=tuple(
            BuildRecord(
                name=item["build"],
                outcome=str(item.get("outcome", "")),
                image=str(item.get("image", "")),
                commit=str(item.get("commit", "")),
                built_at=item.get("builtAt", ""),
                written=item,
            )
            for item in written.get("history") or ()
        ),
        rebuild_handled=written.get("lastHandledRebuildAt", ""),
    )


# --- builds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One build, as far as it is known."""

    name: str
    """Its name: that of its Job and its ConfigMap."""
    inputs: str
    """The hash of its inputs."""
    number: int
    """Which attempt at these inputs it is, from 1."""
    outcome: Outcome
    """What has become of it."""
    job_uid: str = ""
    """Its Job's uid; empty where the Job is gone, or not made yet."""
    pod_uids: tuple[str, ...] = ()
    """Its pods' uids."""
    started: str = ""
    """When its Job was made, RFC 3339."""
    finished: str = ""
    """When it ended, RFC 3339; empty if it did not, or that is not known."""
    commit: str = ""
    """The commit that it builds; empty if that is not known."""
    generation: str = ""
    """The generation of the resource that it was started for."""
    tries: int = 1
    """How many builds in a row a platform failure has ended, this one counted."""
    triggers: tuple[str, ...] = ()
    """Why it was started."""
    rebuild_handled: str = ""
    """The rebuild request that it answers."""
    spec_hash: str = ""
    """The hash of the part of its inputs that the resource says."""
    settings_hash: str = ""
    """The hash of the part of its inputs that the platform says."""
    lookup: Lookup | None = None
    """What to ask before its end is known: the Job is over, and no pod has told how."""
    recorded: bool = False
    """Whether its outcome is taken over from the status, in the words that stand there."""

    @property
    def running(self) -> bool:
        """Whether it is not over."""
        return isinstance(self.outcome, Running)

    @property
    def has_job(self) -> bool:
        """Whether its Job is there."""
        return bool(self.job_uid)


def _attempt(job: Manifest, pods: list[Manifest], outcome: Outcome) -> Attempt:
    metadata = job["metadata"]
    ended = condition_of(job, "Complete") or condition_of(job, "Failed")
    finished = job.get("status", {}).get("completionTime") or ended.get("lastTransitionTime", "")
    commit = annotation(job, names.COMMIT)
    return Attempt(
        name=metadata["name"],
        inputs=annotation(job, names.INPUTS),
        number=parse_number(annotation(job, names.ATTEMPT), 1),
        outcome=outcome,
        job_uid=metadata.get("uid", ""),
        pod_uids=tuple(pod["metadata"].get("uid", "") for pod in pods),
        started=metadata.get("creationTimestamp", ""),
        finished=finished,
        commit=commit if re.fullmatch(r"[0-9a-f]{40}", commit) else "",
        generation=annotation(job, names.GENERATION),
        tries=parse_number(annotation(job, names.TRIES), 1),
        triggers=tuple(re.findall(r"\b[A-Za-z]{1,20}\b", annotation(job, names.TRIGGER))[:4]),
        rebuild_handled=annotation(job, names.REBUILD_HANDLED),
        spec_hash=annotation(job, names.SPEC_HASH),
        settings_hash=annotation(job, names.SETTINGS_HASH),
    )


def _created(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))


def _pods_of(pods: Iterable[Manifest], job_uid: str) -> list[Manifest]:
    return [
        pod
        for pod in pods
        if any(r["uid"] == job_uid for r in pod["metadata"].get("ownerReferences", ()))
    ]


# --- what was looked up ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Happening:
    """A line of `kubectl describe` that a lookup found."""

    reason: str
    """What kind of thing happened, in one word, such as FailedCreate."""
    message: str
    """The same in a sentence: cleaned and capped."""


def _happening(event: Manifest) -> Happening:
    words = clean(str(event.get("message", "")))[:LONGEST_WORDS]
    return Happening(str(event.get("reason")), words)


def _trouble_of(pod: Manifest) -> str:
    status = pod.get("status", {})
    name = pod.get("metadata", {}).get("name", "")
    for container in status.get("containerStatuses", ()):
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        if is_in_trouble(waiting):
            last = container.get("lastState", {}).get("terminated", {})
            code = f" (last exit code {last['exitCode']})" if "exitCode" in last else ""
            return f"Pod {name}: {why_waiting(waiting)}{code}."
        if "running" in state and not container.get("ready"):
            return f"Pod {name}: its readiness probe does not pass."
    for found in status.get("conditions", ()):
        if found.get("type") == "PodScheduled" and found.get("status") == "False":
            return f"Pod {name}: {clean(str(found.get('message')))[:LONGEST_WORDS]}"
    return ""


# --- all of it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is there of one service."""

    status: LastStatus
    """What its status said last."""
    deployment: LiveDeployment | None
    """Its Deployment."""
    scaling_inactive: str
    """Why its autoscaler cannot work; empty if it does, or there is none."""
    builds: tuple[Attempt, ...]
    """Its builds that have a Job, the oldest first."""
    highest_attempts: Mapping[str, int]
    """The highest attempt of each hash of inputs that any Job or the status has in its name."""
    build_files: Mapping[str, str]
    """The uids of its builds' ConfigMaps, by name."""
    own: Mapping[tuple[str, str], Manifest]
    """Its objects, by kind and name: what is to be applied is held against them."""
    pending_rebuild: bool
    """Whether a rebuild is asked for that no build has answered yet."""
    happenings: Mapping[Lookup, tuple[Happening, ...]]
    """What each lookup of events found, in the API server's order."""
    pod_troubles: Mapping[Lookup, str]
    """For each lookup of pods: why one is not ready, in the kubelet's or the scheduler's words."""

    def remembered(self, service: GoService, inputs: str) -> list[Attempt]:
        """Attempts of these inputs that the Deployment and the status tell of."""
        return _remembered(service, self.deployment, self.status, inputs)


@dataclass(frozen=True)
class Unreadable:
    """What is there of a resource that cannot be parsed."""

    generation: int
    """Of its spec."""
    status: LastStatus
    """What its status said last."""
    deployment: LiveDeployment | None
    """Its Deployment."""


def of_unreadable(body: Manifest, observed: Observed) -> Unreadable:
    """What can be told of a resource that cannot be parsed."""
    metadata = body.get("metadata", {})
    name, uid = str(metadata.get("name", "")), str(metadata.get("uid", ""))
    return Unreadable(
        generation=int(metadata.get("generation") or 1),
        status=last_status(observed.status),
        deployment=_deployment(observed, name, uid),
    )


def of(service: GoService, observed: Observed, builder: Engine) -> Facts:
    """Everything that a pass decides upon, parsed. `builder` knows what its builds come to."""
    own = {place: m for place, m in observed.children.items() if owned(m, service.uid)}
    deployment = _deployment(observed, service.name, service.uid)
    status = last_status(observed.status)
    builds = _builds(service, observed, builder, deployment, status)
    active = condition_of(own.get(("HorizontalPodAutoscaler", service.name)), "ScalingActive")
    inactive = clean(f"{active.get('reason')}: {active.get('message')}")
    answered = {status.rebuild_handled, *(build.rebuild_handled for build in builds)}
    answered.add(deployment.rebuild_handled if deployment else "")
    asked = service.rebuild_requested_at
    return Facts(
        status=status,
        deployment=deployment,
        scaling_inactive=inactive if active.get("status") == "False" else "",
        builds=builds,
        highest_attempts=_highest_attempts(service, observed, status),
        build_files={
            name: manifest["metadata"].get("uid", "")
            for (kind, name), manifest in sorted(own.items())
            if kind == "ConfigMap"
        },
        own=own,
        pending_rebuild=bool(asked) and asked not in answered,
        happenings={
            lookup: tuple(map(_happening, found))
            for lookup, found in observed.lookups.items()
            if lookup.kind == "Event"
        },
        pod_troubles={
            lookup: next((why for pod in found if (why := _trouble_of(pod))), "")
            for lookup, found in observed.lookups.items()
            if lookup.kind == "Pod"
        },
    )


def _highest_attempts(service: GoService, observed: Observed, status: LastStatus) -> dict[str, int]:
    """From names alone, whoever owns the Job: a name that is taken is never used again."""
    taken = [name for kind, name in observed.children if kind == "Job"]
    if not status.build_is_queued:
        taken.append(status.build_name)
    highest: dict[str, int] = {}
    for name in taken:
        found = names.parse_build(service, name)
        if found is not None:
            inputs, attempt = found
            highest[inputs] = max(attempt, highest.get(inputs, 0))
    return highest


def _builds(
    service: GoService,
    observed: Observed,
    builder: Engine,
    deployment: LiveDeployment | None,
    status: LastStatus,
) -> tuple[Attempt, ...]:
    every = [pod for (kind, _), pod in sorted(observed.children.items()) if kind == "Pod"]
    found = []
    for (kind, _), job in sorted(observed.children.items()):
        if kind != "Job" or not owned(job, service.uid):
            continue
        pods = _pods_of(every, job["metadata"].get("uid", ""))
        newest = max(pods, key=_created, default=None)
        attempt = _attempt(job, pods, builder.outcome(job, newest))
        if _may_be_lost(attempt, newest):
            past = _remembered(service, deployment, status, attempt.inputs)
            attempt = _with_end_looked_up(service, observed, builder, attempt, job, past)
        found.append(attempt)
    return tuple(sorted(found, key=lambda a: (a.started, a.number)))


def _may_be_lost(attempt: Attempt, pod: Manifest | None) -> bool:
    """Whether a build counts as lost only because no pod that is seen tells its end."""
    lost = isinstance(attempt.outcome, Failed) and attempt.outcome.reason is Reason.NODE_LOST
    return lost and not (pod or {}).get("status", {}).get("reason")


def _with_end_looked_up(
    service: GoService,
    observed: Observed,
    builder: Engine,
    attempt: Attempt,
    job: Manifest,
    past: Iterable[Attempt],
) -> Attempt:
    """The attempt with its end as it is recorded, else as the API server shows the pod.

    Jobs and pods are watched apart: a pod's end may come later than its Job's, or the pod may be
    gone. A lost build is done again, so the API server is asked before a build is called lost.
    """
    ends = {recorded.name: recorded.outcome for recorded in past}
    if attempt.name in ends:
        return replace(attempt, outcome=ends[attempt.name], recorded=True)
    lookup = Lookup(
        "Pod",
        service.namespace,
        label_selector=f"{names.SERVICE}={service.name},{names.COMPONENT}=build",
        occasion=f"end of {attempt.name}",
    )
    found = observed.lookups.get(lookup)
    if found is None:
        return replace(attempt, outcome=Running(), lookup=lookup)
    pods = _pods_of(found, attempt.job_uid)
    return replace(attempt, outcome=builder.outcome(job, max(pods, key=_created, default=None)))


def _remembered(
    service: GoService, deployment: LiveDeployment | None, status: LastStatus, inputs: str
) -> list[Attempt]:
    found = []
    if deployment is not None and deployment.inputs == inputs:
        done = _made(deployment.image, deployment.commit, deployment.go)
        if done is not None:
            name = names.build(service, inputs, deployment.attempt)
            found.append(Attempt(name, inputs, deployment.attempt, done, commit=deployment.commit))
    for record in status.history:
        place = names.parse_build(service, record.name)
        if place is None or place[0] != inputs:
            continue
        outcome = _recorded(status, record)
        if outcome is not None:
            found.append(
                Attempt(
                    record.name,
                    inputs,
                    place[1],
                    outcome,
                    finished=record.built_at,
                    commit=record.commit,
                    generation=str(status.generation or ""),
                    recorded=True,
                )
            )
    return found


def _recorded(status: LastStatus, record: BuildRecord) -> Outcome | None:
    """A finished build's outcome as the status tells it, in the words of the last pass."""
    if record.outcome == "Succeeded":
        return _made(record.image, record.commit, status.go)
    if status.build_name != record.name:
        return None
    built = find_condition(status.written, Type.BUILT)
    reason = record.outcome
    if built.get("reason") == Reason.RETRIES_EXHAUSTED:
        reason = Reason.RETRIES_EXHAUSTED
    message = str(built.get("message", "")) if built.get("reason") == reason else ""
    return Failed(known(reason) or Reason.BUILD_FAILED, message, tail=status.log_tail)


def _made(image: str, commit: str, go: str) -> Succeeded | None:
    """A success that an image's name tells of; None if it has no digest."""
    digest = image.partition("@")[2]
    if not is_digest(digest):
        return None
    return Succeeded(digest, Fetched(commit=commit, go=go_line(go)))
