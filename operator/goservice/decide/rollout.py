"""The rollout step: how the service's pods are doing, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from goservice import names
from goservice.api.conditions import Condition, Reason, Type
from goservice.api.resource import GoService
from goservice.decide.facts import Facts
from goservice.decide.live_deployment import LiveDeployment
from goservice.decide.observed import Lookup
from goservice.objects.service import service_port

LOOK_AFTER = timedelta(seconds=15)
"""How long a rollout may stand still before its pods are asked for."""


@dataclass(frozen=True)
class RolloutStep:
    """What the step found."""

    ready: Condition
    """Ready, as the Deployment stands."""
    available: Condition
    """Whether enough pods of any version serve."""
    stuck: bool = False
    """Whether a person must act."""
    wanted: bool = False
    """Whether there is anything to run."""
    autoscaled: Condition | None = None
    """How the autoscaler is doing; None without autoscaling."""
    serving_image: str = ""
    """The image that serves since the rollout is complete; empty while it is not."""
    replicas: int | None = None
    """Pods that there are; None while nothing is wanted."""
    ready_replicas: int | None = None
    """Pods that get requests; None while nothing is wanted."""
    desired: int | None = None
    """How many pods the Deployment is told to have; None if it does not say."""
    lookups: tuple[Lookup, ...] = ()
    """What to ask for."""
    requeue_after: float | None = None
    """Seconds until something is due."""


def step(
    service: GoService,
    now: datetime,
    facts: Facts,
    *,
    wanted: bool,
    touched: bool,
) -> RolloutStep:
    """How the pods are doing. `touched`: this very pass changes the Deployment."""
    live = facts.deployment
    if not wanted:
        return RolloutStep(Condition(Type.READY, "Unknown", Reason.RESOLVING), available(live))
    state = _state(service, now, facts, None if touched else live)
    return RolloutStep(
        state.ready,
        available(live),
        stuck=state.stuck,
        wanted=True,
        autoscaled=_autoscaled(service, facts),
        serving_image=live.image if live and state.ready.status == "True" else "",
        replicas=live.rollout.replicas if live else 0,
        ready_replicas=live.rollout.ready if live else 0,
        desired=live.replicas if live else None,
        lookups=state.lookups,
        requeue_after=state.requeue_after,
    )


def url(service: GoService) -> str:
    """Where the service answers inside the cluster; empty for a worker."""
    if not service.spec.ports:
        return ""
    port = service_port(service.spec.ports[0], first=True)
    return f"http://{service.name}.{service.namespace}.svc:{port}"


def available(deployment: LiveDeployment | None) -> Condition:
    """Whether enough pods of any version serve."""
    if deployment is not None and deployment.replicas == 0:
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE, "No pods are wanted.")
    if deployment is not None and deployment.rollout.is_available:
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE)
    return Condition(Type.AVAILABLE, "False", Reason.UNAVAILABLE, "Too few pods are ready.")


def _autoscaled(service: GoService, facts: Facts) -> Condition | None:
    if service.spec.autoscaling is None:
        return None
    if facts.scaling_inactive:
        reason = Reason.SCALING_INACTIVE
        return Condition(Type.AUTOSCALED, "False", reason, facts.scaling_inactive)
    return Condition(Type.AUTOSCALED, "True", Reason.SCALING)


@dataclass(frozen=True)
class _State:
    """Ready, and what follows from it."""

    ready: Condition
    """The condition."""
    stuck: bool = False
    """Whether a person must act."""
    lookups: tuple[Lookup, ...] = ()
    """What to ask for."""
    requeue_after: float | None = None
    """Seconds until the pods are to be asked for."""


def _state(service: GoService, now: datetime, facts: Facts, live: LiveDeployment | None) -> _State:
    where = f"Deployment {service.namespace}/{service.name}"
    on_its_way = f"{where} takes over the new version."
    if live is None:
        return _State(Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, on_its_way))
    rollout = live.rollout
    if is_complete(live):
        return _State(Condition(Type.READY, "True", Reason.SERVING, f"{live.image} serves."))
    if "PodSecurity" in rollout.refusal:
        message = (
            f"Namespace {service.namespace} does not accept the pods of {where}: {rollout.refusal}"
        )
        ready = Condition(Type.READY, "False", Reason.POD_SECURITY_VIOLATION, message)
        return _State(ready, stuck=True)
    still = now - (rollout.moved_at or now)
    lookup = Lookup(
        "Pod",
        service.namespace,
        label_selector=names.selector_text(service),
        occasion=f"{'deadline' if rollout.deadline_exceeded else 'still'} {live.generation}",
    )
    trouble = facts.pod_troubles.get(lookup, "") or rollout.refusal
    if rollout.deadline_exceeded:
        seconds = service.spec.rollout.progress_deadline_seconds
        show = f"kubectl describe pods -n {service.namespace} -l {names.selector_text(service)}"
        message = f"{where} has not moved for {seconds} s. {trouble} See: {show}"
        ready = Condition(Type.READY, "False", Reason.PROGRESS_DEADLINE_EXCEEDED, message)
        return _State(ready, stuck=True, lookups=(lookup,))
    message = f"{on_its_way} {trouble}".strip()
    ready = Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, message)
    if still >= LOOK_AFTER:
        return _State(ready, lookups=(lookup,))
    return _State(ready, requeue_after=(LOOK_AFTER - still).total_seconds() + 1)


def is_complete(deployment: LiveDeployment) -> bool:
    """Whether the newest template has taken over."""
    rollout = deployment.rollout
    if not rollout.seen:
        return False
    # Once it has, later changes of the count do not undo it.
    took_over = rollout.took_over and rollout.is_available and rollout.updated == rollout.replicas
    return took_over or (
        # As kubectl judges it: all wanted pods are of the newest template and available.
        rollout.updated >= rollout.wanted
        and rollout.replicas <= rollout.updated
        and rollout.available >= rollout.updated
    )
