"""The builds of a service, parsed from their Jobs and pods, else from what the Deployment and the status remember."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from goservice import names
from goservice.api.conditions import Reason, Type
from goservice.api.conditions import known as known_reason
from goservice.api.resource import GoService
from goservice.build.engine import Engine
from goservice.build.outcome import Failed, Fetched, Outcome, Running, Succeeded, go_line, is_digest
from goservice.decide.last_status import BuildRecord, LastStatus
from goservice.decide.live_deployment import LiveDeployment
from goservice.decide.observed import Lookup, Observed
from goservice.manifest import (
    Manifest,
    annotation,
    condition_of,
    find_condition,
    owned,
    parse_number,
)

MOST_PODS = 3
"""Pods of one build whose events are asked for: anybody may write a pod that names a Job as its owner."""


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
    """The uids of its newest pods, of which it should have one."""
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
    made: str = ""
    """The hash of its Job's spec; empty if an older operator made it."""
    leaving: bool = False
    """Whether its Job is being deleted."""
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


def _attempt(
    job: Manifest, of_name: tuple[str, int], pods: list[Manifest], outcome: Outcome
) -> Attempt:
    metadata, (inputs, number) = job["metadata"], of_name
    ended = condition_of(job, "Complete") or condition_of(job, "Failed")
    finished = job.get("status", {}).get("completionTime") or ended.get("lastTransitionTime", "")
    commit = annotation(job, names.COMMIT)
    return Attempt(
        name=metadata["name"],
        inputs=inputs,
        number=number,
        outcome=outcome,
        job_uid=metadata.get("uid", ""),
        pod_uids=tuple(
            pod["metadata"].get("uid", "") for pod in sorted(pods, key=_created)[-MOST_PODS:]
        ),
        started=metadata.get("creationTimestamp", ""),
        finished=finished,
        commit=commit if re.fullmatch(r"[0-9a-f]{40}", commit) else "",
        generation=annotation(job, names.GENERATION),
        tries=parse_number(annotation(job, names.TRIES), 1),
        triggers=tuple(re.findall(r"\b[A-Za-z]{1,20}\b", annotation(job, names.TRIGGER))[:4]),
        rebuild_handled=annotation(job, names.REBUILD_HANDLED),
        spec_hash=annotation(job, names.SPEC_HASH),
        settings_hash=annotation(job, names.SETTINGS_HASH),
        made=annotation(job, names.MADE),
        leaving=bool(metadata.get("deletionTimestamp")),
    )


Past = Mapping[str, tuple[Attempt, ...]]
"""Builds that something remembers, by the hash of their inputs."""


def _created(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))


def _pods_of(pods: Iterable[Manifest], job_uid: str) -> list[Manifest]:
    return [
        pod
        for pod in pods
        if any(r["uid"] == job_uid for r in pod["metadata"].get("ownerReferences", ()))
    ]


def highest_attempts(service: GoService, observed: Observed, status: LastStatus) -> dict[str, int]:
    """From names alone, whoever owns the object: a name that is taken is never used again."""
    # The file of a build of ours may wait for its Job: that of another's makes the name unfit.
    taken = [
        name
        for (kind, name), found in observed.children.items()
        if kind == "Job" or (kind == "ConfigMap" and not owned(found, service.uid))
    ]
    taken += [record.name for record in status.history]
    if not status.build_is_queued:  # older versions named builds that were not started
        taken.append(status.build_name)
    highest: dict[str, int] = {}
    for name in taken:
        of_name = names.parse_build(service, name)
        if of_name is not None:
            inputs, attempt = of_name
            highest[inputs] = max(attempt, highest.get(inputs, 0))
    return highest


def builds_of(
    service: GoService,
    observed: Observed,
    builder: Engine,
    ends: Mapping[str, Outcome],
) -> tuple[Attempt, ...]:
    """Builds that have a Job, the oldest first. `ends` knows, by name, what no pod tells any more.

    Which build a Job is, its name says: that alone cannot be changed.
    """
    every = [pod for (kind, _), pod in sorted(observed.children.items()) if kind == "Pod"]
    found, untold = [], []
    for (kind, _), job in sorted(observed.children.items()):
        if kind != "Job" or not owned(job, service.uid):
            continue
        of_name = names.parse_build(service, job["metadata"]["name"])
        if of_name is None:
            continue
        pods = _pods_of(every, job["metadata"].get("uid", ""))
        newest = max(pods, key=_created, default=None)
        attempt = _attempt(job, of_name, pods, builder.outcome(job, newest))
        if not _may_be_lost(attempt, newest):
            found.append(attempt)
        elif attempt.name in ends:
            found.append(replace(attempt, outcome=ends[attempt.name], recorded=True))
        else:
            untold.append((attempt, job))
    if untold:
        found += _with_ends_looked_up(service, observed, builder, untold)
    return tuple(sorted(found, key=lambda a: (a.started, a.number)))


def _may_be_lost(attempt: Attempt, pod: Manifest | None) -> bool:
    """Whether a build counts as lost only because no pod that is seen tells its end."""
    lost = isinstance(attempt.outcome, Failed) and attempt.outcome.reason is Reason.NODE_LOST
    return lost and not (pod or {}).get("status", {}).get("reason")


def _with_ends_looked_up(
    service: GoService,
    observed: Observed,
    builder: Engine,
    untold: Sequence[tuple[Attempt, Manifest]],
) -> list[Attempt]:
    """These attempts with their ends as the API server shows their pods: one question for all.

    Jobs and pods are watched apart: a pod's end may come later than its Job's, or the pod may be
    gone. A lost build is done again, so the API server is asked before a build is called lost.
    """
    lookup = Lookup(
        "Pod",
        service.namespace,
        label_selector=f"{names.SERVICE}={service.name},{names.COMPONENT}=build",
        occasion=f"end of {', '.join(attempt.name for attempt, _ in untold)}",
        newest_of=tuple(attempt.job_uid for attempt, _ in untold),
    )
    pods = observed.lookups.get(lookup)
    if pods is None:
        return [replace(attempt, outcome=Running(), lookup=lookup) for attempt, _ in untold]
    return [
        replace(
            attempt,
            outcome=builder.outcome(
                job, max(_pods_of(pods, attempt.job_uid), key=_created, default=None)
            ),
        )
        for attempt, job in untold
    ]


def past_of(
    service: GoService, deployment: LiveDeployment | None, status: LastStatus
) -> dict[str, tuple[Attempt, ...]]:
    """What the Deployment and the status tell of builds, by the hash of their inputs."""
    found: dict[str, tuple[Attempt, ...]] = {}
    if deployment is not None:
        fetched = Fetched(commit=deployment.commit, go=go_line(deployment.go), arch=deployment.arch)
        done = _made(deployment.applied_image, fetched, untagged=bool(deployment.untagged))
        if done is not None:
            inputs, number = deployment.inputs, deployment.attempt
            name = names.build(service, inputs, number)
            found[inputs] = (Attempt(name, inputs, number, done, commit=deployment.commit),)
    for record in status.history:
        of_name = names.parse_build(service, record.name)
        outcome = _recorded(status, record)
        if of_name is None or outcome is None:
            continue
        inputs, number = of_name
        if any(a.number == number for a in found.get(inputs, ())):
            continue  # the Deployment has its image, whatever is told of it
        attempt = Attempt(
            record.name,
            inputs,
            number,
            outcome,
            finished=record.built_at,
            commit=record.commit,
            generation=str(status.generation or ""),
            recorded=True,
        )
        found[inputs] = (*found.get(inputs, ()), attempt)
    return found


def ends_of(past: Past, status: LastStatus) -> dict[str, Outcome]:
    """How builds ended, by name: of older failures the words are gone, the reason is not."""
    known = {attempt.name: attempt.outcome for attempts in past.values() for attempt in attempts}
    failed: dict[str, Outcome] = {
        record.name: Failed(
            known_reason(record.outcome) or Reason.BUILD_FAILED,
            f"Build {record.name} ended with {record.outcome}; what it said is gone with its pod.",
        )
        for record in status.history
        if record.outcome and record.outcome != Reason.SUCCEEDED
    }
    return failed | known


def _recorded(status: LastStatus, record: BuildRecord) -> Outcome | None:
    """A finished build's outcome as the status tells it, in the words of the last pass."""
    if record.outcome == Reason.SUCCEEDED:
        fetched = Fetched(commit=record.commit, go=go_line(status.go), arch=record.arch)
        return _made(record.image, fetched, untagged=record.untagged)
    if not record.outcome or status.build_name != record.name:
        return None
    built = find_condition(status.written, Type.BUILT)
    reason = record.outcome
    if built.get("reason") == Reason.RETRIES_EXHAUSTED:
        reason = Reason.RETRIES_EXHAUSTED
    message = str(built.get("message", "")) if built.get("reason") == reason else ""
    return Failed(known_reason(reason) or Reason.BUILD_FAILED, message, tail=status.log_tail)


def _made(image: str, fetched: Fetched, *, untagged: bool) -> Succeeded | None:
    """A success that an image's name tells of; None if it has no digest."""
    digest = image.partition("@")[2]
    if not is_digest(digest):
        return None
    return Succeeded(digest, fetched, untagged=untagged)
