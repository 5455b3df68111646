"""A build whose pod has not started: what holds it up, in the words of the cluster's events.

Events are not watched. They are asked for twice, when the build has been pending for long enough
that most of what can go wrong has been told; and twice more once a pod that waited has its node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from goservice import names
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build.outcome import Running
from goservice.decide.attempts import Attempt
from goservice.decide.facts import Facts, Happening
from goservice.decide.observed import Lookup
from goservice.manifest import parse_time, sentence

LOOKS = (timedelta(seconds=15), timedelta(seconds=60))
"""How long after its start a pending build's events are asked for."""


REFUSALS = ("quota", "LimitRange", "limit is", "limit to request ratio", "admission webhook")
"""Words with which a namespace's rules refuse a pod."""


@dataclass(frozen=True)
class Pending:
    """What is known of a pending build."""

    reason: Reason | None = None
    """Why a person must act; None if nobody must, or nothing is known."""
    trouble: str = ""
    """What holds it up, in a sentence; empty if nothing is known."""
    lookups: tuple[Lookup, ...] = ()
    """Events to ask for."""
    requeue_after: float | None = None
    """Seconds until they are asked for again."""


def look(
    service: GoService, now: datetime, facts: Facts, attempt: Attempt, running: Running
) -> Pending:
    """What holds up a build that has not started."""
    since_start = now - (parse_time(attempt.started) or now)
    placed = _placed_late(attempt, running)
    pending = now - (parse_time(placed) or now) if placed else since_start
    due = [look for look in LOOKS if pending >= look]
    later = [(look - pending).total_seconds() for look in LOOKS if pending < look]
    requeue_after = later[0] if later else None
    if not due:
        return Pending(requeue_after=requeue_after)
    reason, trouble = _from_events(service, facts, attempt, placed)
    if running.missing_image:
        # In words that stay: the kubelet finds other ones at each try.
        reason = Reason.BASE_IMAGE_NOT_FOUND
        trouble = (
            f"The node cannot pull {running.missing_image}: look at build.builderImage;"
            " the build goes on by itself once it can."
        )
    if running.missing_claim:
        reason = Reason.CLAIM_NOT_FOUND
        trouble = (
            f"PersistentVolumeClaim {service.namespace}/{running.missing_claim} (build.cache.claimName)"
            " does not exist; the build goes on by itself once it does."
        )
    if not trouble and running.waiting:
        trouble = (
            f"The build cannot start: {sentence(running.waiting)}{_next_step(service, running)}"
        )
    lookups = _lookups(service, attempt, due[-1], placed)
    return Pending(reason, trouble, lookups, requeue_after)


def gives_way_at(attempts: Sequence[Attempt]) -> datetime | None:
    """From when on others may have the build slot, since the build is held up; None while it goes on.

    Held up it also is while its service is suspended, or something stands against it.
    """
    found = None
    for attempt in attempts:
        if isinstance(attempt.outcome, Running):
            started = parse_time(attempt.started)
            if started is None or attempt.lookup is not None or not attempt.outcome.held_up:
                return None
            found = max(found or started, started)
    return found + LOOKS[-1] if found else None


def _placed_late(attempt: Attempt, running: Running) -> str:
    """When the pod got its node, if it waited for one past the first look: only then a kubelet has tried."""
    started, placed = parse_time(attempt.started), parse_time(running.scheduled)
    late = started is not None and placed is not None and placed - started >= LOOKS[0]
    return running.scheduled if late else ""


def _next_step(service: GoService, running: Running) -> str:
    """What mends that no node takes the pod; empty if the scheduler's words do not tell."""
    claim = names.kept_on(service)
    place = f"PersistentVolumeClaim {service.namespace}/{claim} (build.cache)"
    look = f"kubectl describe pvc {claim} -n {service.namespace}"
    for words, step in (
        ("unbound", f"{place} has no volume. See: {look}"),
        ("binding volume", f"{place} gets no volume. See: {look}"),
        ("volume node affinity", f"The volume of {place} is on nodes that do not take the pod. See: {look}"),
    ):  # fmt: skip
        if claim and words in running.waiting:
            return f" {step}"
    if "Insufficient" in running.waiting:
        return " Lower build.resources.requests, or have nodes added; it goes on once one has room."
    return ""


def _lookups(
    service: GoService, attempt: Attempt, look: timedelta, placed: str
) -> tuple[Lookup, ...]:
    """Events of the Job and of its pods. `placed`: when its pod got its node, if it had to wait for it."""
    return tuple(
        Lookup(
            "Event",
            service.namespace,
            field_selector=f"involvedObject.uid={uid}",
            occasion=f"{look.seconds} {placed}".strip(),
        )
        for uid in (attempt.job_uid, *attempt.pod_uids)
        if uid
    )


def _from_events(
    service: GoService, facts: Facts, attempt: Attempt, placed: str
) -> tuple[Reason | None, str]:
    """What the newest telling event says; nothing if none does."""
    asked = [lookup for look in LOOKS for lookup in _lookups(service, attempt, look, placed)]
    for lookup in reversed(asked):
        for event in reversed(facts.happenings.get(lookup, ())):
            found = _from_event(service, attempt, event)
            if found is not None:
                return found
    return None, ""


def _from_event(
    service: GoService, attempt: Attempt, event: Happening
) -> tuple[Reason | None, str] | None:
    kind, words = event.reason, event.message
    if kind == "FailedCreate" and "PodSecurity" in words:
        return Reason.POD_SECURITY_VIOLATION, (
            f"Namespace {service.namespace} does not accept the build's pod, which needs Pod"
            f" Security level baseline: {words}"
        )
    if kind == "FailedMount" and "secret" in words and "not found" in words:
        name = _secret(service, words)
        return Reason.SECRET_NOT_FOUND, (
            f"Secret {service.namespace}/{name} (image.pushSecretRef) does not exist;"
            " the build goes on by itself once it does."
        )
    if kind == "FailedMount" and "non-existent secret key" in words:
        name = _secret(service, words)
        return Reason.SECRET_NOT_FOUND, (
            f"Secret {service.namespace}/{name} (image.pushSecretRef) has no key .dockerconfigjson. Make it"
            f" anew: kubectl delete secret {name} -n {service.namespace}; kubectl create secret docker-registry"
            f" {name} -n {service.namespace} --docker-server=… --docker-username=… --docker-password=…;"
            " the build goes on by itself."
        )
    if kind == "FailedCreate" and any(sign in words for sign in REFUSALS):
        return Reason.CLUSTER_REFUSED, (
            f"Namespace {service.namespace} does not accept the build's pod; it is tried again: {words}"
        )
    if kind == "FailedCreate":
        return None, f"The build's pod cannot be created: {words}"
    if kind in ("FailedAttachVolume", "FailedMount"):
        claim = names.kept_on(service)
        whose = f" (PersistentVolumeClaim {service.namespace}/{claim})" if claim else ""
        hint = (
            f" A ReadWriteOnce claim{whose} is for one node at a time: use one that is ReadWriteMany, or"
            " wait until the other build ends."
            if "Multi-Attach" in words
            else f" See: kubectl describe pods -n {service.namespace} -l"
            f" batch.kubernetes.io/job-name={attempt.name}"
        )
        return None, f"A volume of the build's pod cannot be had: {sentence(words)}{hint}"
    return None


def _secret(service: GoService, words: str) -> str:
    """The Secret that the kubelet names, else the one that the resource names by now."""
    named = re.search(r'secret "(?:[^"/]{1,253}/)?([^"/]{1,253})"', words)
    secret = service.spec.image.push_secret_ref
    return named[1] if named else secret.name if secret else ""
