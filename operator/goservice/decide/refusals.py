"""Plans that build and change nothing: the resource is no resource, is refused, or is suspended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from goservice import hosts
from goservice.api.conditions import After, Condition, Reason, Type
from goservice.api.resource import GoService
from goservice.decide import rollout, status
from goservice.decide.facts import Facts, of_unreadable
from goservice.decide.last_status import LastStatus
from goservice.decide.observed import Observed
from goservice.decide.writes import Plan
from goservice.errors import InvalidSpec
from goservice.manifest import Manifest
from goservice.objects.pod_template import effective_resources
from goservice.settings import Settings

STATED_BY_EVERY_PLAN = (
    Type.READY,
    Type.RECONCILING,
    Type.STALLED,
    Type.AVAILABLE,
    Type.SUSPENDED,
)
"""Conditions that every plan states anew."""
CARRIED_OVER = tuple(kind for kind in Type if kind not in STATED_BY_EVERY_PLAN)
"""Conditions that stay as they were while nothing is built or changed."""
LOOK_AGAIN_AFTER = 60.0
"""Seconds until what the cluster stands against is looked at again."""


def invalid(body: Manifest, error: InvalidSpec, observed: Observed, now: datetime) -> Plan:
    """The plan for a resource that cannot be parsed: say so, touch nothing."""
    found = of_unreadable(body, observed)
    shown = [
        Condition(Type.READY, "False", Reason.INVALID_SPEC, str(error)),
        Condition(Type.STALLED, "True", Reason.INVALID_SPEC, str(error)),
        rollout.available(found.deployment),
        *_as_it_was(found.status, *CARRIED_OVER),
    ]
    written = found.status.written
    kept = {key: written[key] for key in status.OUTLIVES if key in written}
    if found.status.build_is_queued:
        kept.pop("build", None)
    elif found.status.build_is_recorded and not found.status.build_is_over:
        kept["build"] = status.build_without_job(found.status)
    return status.status_plan(found.status, found.generation, now, shown, kept)


def suspended(service: GoService, facts: Facts, now: datetime) -> Plan:
    """Nothing is built, deployed or polled. A build that runs ends and is recorded."""
    before = facts.status
    message = "Suspended: nothing is built or changed; what runs keeps running."
    if facts.pending_rebuild:
        message += " A rebuild request waits."
    message += f' Resume: kubectl patch goservice {service.name} -n {service.namespace} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''
    shown = [
        Condition(Type.SUSPENDED, "True", Reason.SUSPENDED, message),
        rollout.available(facts.deployment),
        *_as_it_was(before, *CARRIED_OVER),
    ]
    if before.ready()[0] == "True":
        # A Ready that is not True would make kstatus, and all that waits by it, wait until it is resumed.
        shown.insert(0, Condition(Type.READY, "True", Reason.SUSPENDED, message))
    fields = status.recorded(service, facts, service.generation)
    return status.status_plan(before, service.generation, now, shown, fields)


def stalled(service: GoService, facts: Facts, now: datetime, reason: Reason, message: str) -> Plan:
    """What serves serves on; nothing is built or changed until what stands against it is gone."""
    shown = [
        Condition(Type.READY, "False", reason, message),
        Condition(Type.STALLED, "True", reason, message),
        rollout.available(facts.deployment),
        *_as_it_was(facts.status, *CARRIED_OVER),
    ]
    fields = status.recorded(service, facts, service.generation)
    plan = status.status_plan(facts.status, service.generation, now, shown, fields)
    again = LOOK_AGAIN_AFTER if reason.after is After.LOOK_AGAIN else None
    return replace(plan, requeue_after=again)


def _as_it_was(before: LastStatus, *kinds: Type) -> list[Condition]:
    """Conditions as last written, as far as this version knows their reasons."""
    return [found for kind in kinds if (found := before.condition(kind)) is not None]


def fault(service: GoService, observed: Observed, settings: Settings) -> tuple[Reason, str] | None:
    """What stands against the service as a whole, and its reason: what the schema cannot say."""
    wanted = service.spec
    allowed = settings.registries.allowed
    if allowed and not any(_is_below(beginning, wanted.image.repository) for beginning in allowed):
        return Reason.FORBIDDEN_BY_PLATFORM, (
            f"spec.image.repository: {wanted.image.repository} is not allowed here;"
            f" it must start with {' or '.join(allowed)}"
        )
    if wanted.image.digest is None:
        forbidden = forbidden_source(service, settings)
        if forbidden:
            return Reason.FORBIDDEN_BY_PLATFORM, forbidden
    scaling = wanted.autoscaling
    by_cpu = scaling is not None and (
        scaling.target_cpu_utilization_percentage or not scaling.metrics
    )
    if by_cpu and "cpu" not in effective_resources(service, settings)["requests"]:
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


def forbidden_source(service: GoService, settings: Settings) -> str:
    """Why the platform lets nobody ask the service's repository; empty if it may be asked."""
    if service.spec.source is None:
        return ""
    url = service.spec.source.git.url
    if urlsplit(url).scheme.lower() == "http" and not settings.git.allow_http:
        return "spec.source.git.url: http is not allowed here; use https"
    if not hosts.is_allowed(url, settings.git.allowed_hosts):
        return (
            f"spec.source.git.url: {urlsplit(url).netloc} is not allowed here;"
            f" it must be on {' or '.join(settings.git.allowed_hosts)}"
        )
    return ""


def _is_below(beginning: str, repository: str) -> bool:
    """Whether a repository is one or below it: example.co is no beginning of example.com/a."""
    return f"{repository}/".startswith(f"{beginning.rstrip('/')}/")
