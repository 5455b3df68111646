"""A build whose pod has not started: what holds it up, in the words of the cluster's events.

Events are not watched. They are asked for twice, when the build has been pending for long enough
that most of what can go wrong has been told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build.outcome import Running
from goservice.decide.attempts import Attempt
from goservice.decide.facts import Facts, Happening
from goservice.decide.observed import Lookup
from goservice.manifest import parse_time

LOOKS = (timedelta(seconds=15), timedelta(seconds=60))
"""How long after its start a pending build's events are asked for."""


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
    pending = now - (parse_time(attempt.started) or now)
    due = [look for look in LOOKS if pending >= look]
    later = [(look - pending).total_seconds() for look in LOOKS if pending < look]
    requeue_after = later[0] if later else None
    if not due:
        return Pending(requeue_after=requeue_after)
    reason, trouble = _from_events(service, facts, attempt)
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
        trouble = f"The build cannot start: {running.waiting}"
    return Pending(reason, trouble, _lookups(service, attempt, due[-1]), requeue_after)


def _lookups(service: GoService, attempt: Attempt, look: timedelta) -> tuple[Lookup, ...]:
    """Events of the Job and of its pods."""
    return tuple(
        Lookup(
            "Event",
            service.namespace,
            field_selector=f"involvedObject.uid={uid}",
            occasion=str(look.seconds),
        )
        for uid in (attempt.job_uid, *attempt.pod_uids)
        if uid
    )


def _from_events(service: GoService, facts: Facts, attempt: Attempt) -> tuple[Reason | None, str]:
    """What the newest telling event says; nothing if none does."""
    asked = [lookup for look in LOOKS for lookup in _lookups(service, attempt, look)]
    for lookup in reversed(asked):
        for event in reversed(facts.happenings.get(lookup, ())):
            found = _from_event(service, event)
            if found is not None:
                return found
    return None, ""


def _from_event(service: GoService, event: Happening) -> tuple[Reason | None, str] | None:
    kind, words = event.reason, event.message
    if kind == "FailedCreate" and "PodSecurity" in words:
        return Reason.POD_SECURITY_VIOLATION, (
            f"Namespace {service.namespace} does not accept the build's pod, which needs Pod"
            f" Security level baseline: {words}"
        )
    if kind == "FailedMount" and "secret" in words and "not found" in words:
        secret = service.spec.image.push_secret_ref
        name = secret.name if secret else ""
        return Reason.SECRET_NOT_FOUND, (
            f"Secret {service.namespace}/{name} (image.pushSecretRef) does not exist;"
            " the build goes on by itself once it does."
        )
    if kind == "FailedCreate":
        return None, f"The build's pod cannot be created: {words}"
    return None
