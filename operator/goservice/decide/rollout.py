"""The rollout step: how the service's pods are doing, and what to say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from goservice import names
from goservice.api.conditions import Condition, Reason, Type
from goservice.api.resource import GoService
from goservice.decide import pod_words
from goservice.decide.facts import Facts
from goservice.decide.live_deployment import LiveDeployment
from goservice.decide.observed import Lookup
from goservice.manifest import format_time, sentence
from goservice.objects.service import service_port

LOOKS = (timedelta(seconds=15), timedelta(seconds=60))
"""After so long without progress the pods are asked for."""
LOOK_AGAIN_EACH = timedelta(minutes=5)
"""The same, from then on, while something is not ready."""
GRACE = timedelta(seconds=30)
"""How long pods may be missing after a rollout before anything is said."""


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
        state.available,
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


def available(deployment: LiveDeployment | None, trouble: str = "") -> Condition:
    """Whether enough pods of any version serve."""
    if deployment is not None and deployment.replicas == 0:
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE, "No pods are wanted.")
    if deployment is not None and deployment.rollout.is_available:
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE)
    message = f"Too few pods are ready. {trouble}".strip()
    return Condition(Type.AVAILABLE, "False", Reason.UNAVAILABLE, message)


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
    available: Condition
    """Whether enough pods of any version serve."""
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
        ready = Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, on_its_way)
        return _State(ready, available(facts.deployment))
    if is_complete(live) or _is_only_counted_anew(facts, live):
        return _after_rollout(service, now, facts, live)
    rollout = live.rollout
    if "PodSecurity" in rollout.refusal:
        message = (
            f"Namespace {service.namespace} does not accept the pods of {where}: {rollout.refusal}"
        )
        ready = Condition(Type.READY, "False", Reason.POD_SECURITY_VIOLATION, message)
        return _State(ready, available(live), stuck=True)
    if rollout.is_paused and rollout.seen:
        message = (
            f"{where} is paused: the new version is not rolled out."
            f" Resume: kubectl rollout resume deployment/{service.name} -n {service.namespace}"
        )
        ready = Condition(Type.READY, "False", Reason.PAUSED, message)
        return _State(ready, available(live), stuck=True)
    since, exceeded = rollout.moved_at or now, rollout.deadline_exceeded
    seen = _look(service, now, facts, live, since, at_once=exceeded)
    trouble = seen.words or rollout.refusal
    if exceeded:
        seconds = service.spec.rollout.progress_deadline_seconds
        message = f"{where} has not moved for {seconds} s. {sentence(trouble)} {_show(service)}"
        ready = Condition(Type.READY, "False", Reason.PROGRESS_DEADLINE_EXCEEDED, message)
        return _State(ready, available(live), True, seen.lookups, seen.requeue_after)
    message = f"{on_its_way} {trouble}".strip()
    ready = Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, message)
    return _State(ready, available(live), False, seen.lookups, seen.requeue_after)


def _after_rollout(service: GoService, now: datetime, facts: Facts, live: LiveDeployment) -> _State:
    """The newest template has taken over: what comes later is no rollout."""
    serving = Condition(Type.READY, "True", Reason.SERVING, f"{live.image} serves.")
    enough = Condition(Type.AVAILABLE, "True", Reason.AVAILABLE)
    rollout = live.rollout
    if rollout.is_available or live.replicas == 0:
        return _State(serving, available(live))
    since = rollout.short_since or now
    seen = _look(service, now, facts, live, since, at_once=rollout.available == 0)
    if rollout.available == 0 and seen.down_since is not None:
        since = max(since, seen.down_since)
    before = facts.status.ready()
    told = before[1] == Reason.PODS_FAILING
    left = (since + GRACE - now).total_seconds()
    if left > 0 and not told:
        # A pod that is replaced, or a few more that are wanted, are no news yet.
        soon = min(left + 1, seen.requeue_after or left + 1)
        was = facts.status.condition(Type.AVAILABLE)
        return _State(serving, was or enough, False, seen.lookups, soon)
    trouble = seen.words or rollout.refusal
    short = available(live, trouble)
    if rollout.available > 0:
        return _State(serving, short, False, seen.lookups, seen.requeue_after)
    where = f"Deployment {service.namespace}/{service.name}"
    message = f"{where} has no ready pod. {sentence(trouble)} {_show(service)}"
    ready = Condition(Type.READY, "False", Reason.PODS_FAILING, message)
    return _State(ready, short, True, seen.lookups, seen.requeue_after)


def _show(service: GoService) -> str:
    show = f"kubectl describe pods -n {service.namespace} -l {names.selector_text(service)}"
    return f"See: {show}"


@dataclass(frozen=True)
class _Look:
    """What the newest look at the pods showed, and when the next one is due."""

    words: str = ""
    """What is wrong with them."""
    down_since: datetime | None = None
    """When the last of them ceased to be ready."""
    lookups: tuple[Lookup, ...] = ()
    """What to ask for."""
    requeue_after: float | None = None
    """Seconds until they are to be looked at again."""


def _look(
    service: GoService,
    now: datetime,
    facts: Facts,
    live: LiveDeployment,
    since: datetime,
    *,
    at_once: bool,
) -> _Look:
    """The pods, looked at 15 s and 60 s after `since`, then each 5 min, and whenever their counts change."""
    passed = max(now - since, timedelta())
    further = max((passed - LOOKS[-1]) // LOOK_AGAIN_EACH, 0)
    times = [*LOOKS, LOOKS[-1] + (further + 1) * LOOK_AGAIN_EACH]
    due = sum(passed >= time for time in LOOKS) + further
    after = next((time - passed).total_seconds() for time in times if time > passed) + 1
    rollout = live.rollout
    if not due and not at_once:
        return _Look(requeue_after=after)
    counts = f"{rollout.replicas}/{rollout.updated}/{rollout.ready}/{rollout.available}"
    pods = Lookup(
        "Pod",
        service.namespace,
        label_selector=names.selector_text(service),
        occasion=f"{live.generation} {counts} {format_time(since)} {due}",
    )
    seen = facts.pods.get(pods)
    if seen is None or seen.trouble is None or not seen.trouble.asks:
        words = seen.words if seen else ""
        return _Look(words, seen.down_since if seen else None, (pods,), after)
    events = Lookup(
        "Event",
        service.namespace,
        field_selector=f"involvedObject.uid={seen.trouble.asks}",
        occasion=pods.occasion,
    )
    port = service.spec.ports[0].port if service.spec.ports else None
    told = pod_words.from_probe((h.message for h in facts.happenings.get(events, ())), port)
    trouble = replace(seen.trouble, words=told) if told else seen.trouble
    return _Look(replace(seen, trouble=trouble).words, seen.down_since, (pods, events), after)


def _is_only_counted_anew(facts: Facts, live: LiveDeployment) -> bool:
    """Whether the same image serves, and the Deployment's controller has not seen a new number yet.

    A new template of ours is told as a rollout in the very pass that applies it.
    """
    before = facts.status
    return (
        not live.rollout.seen
        and before.ready() == ("True", Reason.SERVING)
        and before.serving_image == live.image
    )


def is_complete(deployment: LiveDeployment) -> bool:
    """Whether the newest template has taken over."""
    rollout = deployment.rollout
    if not rollout.seen:
        return False
    # Once it has, later changes of the count and lost pods do not undo it.
    took_over = rollout.took_over and rollout.updated == rollout.replicas
    return took_over or (
        # As kubectl judges it: all wanted pods are of the newest template and available.
        rollout.updated >= rollout.wanted
        and rollout.replicas <= rollout.updated
        and rollout.available >= rollout.updated
    )
