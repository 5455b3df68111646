"""The deploy step: which objects of the running service to apply, and how it is doing.

An object is applied only when the live one does not cover what is wanted, so a pass with nothing to
do sends nothing. The pod template stays as it is while its inputs do: a new operator version
restarts no pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from goservice import names, resources
from goservice.api.conditions import Condition, Reason, Type
from goservice.api.resource import GoService
from goservice.build import kaniko
from goservice.observed import Observed, Question, annotation, condition, covers, moment
from goservice.settings import Settings

Manifest = dict[str, Any]

LOOK_AFTER = timedelta(seconds=15)
"""How long a rollout may stand still before its pods are looked at."""


@dataclass(frozen=True)
class Item:
    """One object to apply, or to delete."""

    manifest: Manifest
    manager: str = names.OPERATOR
    delete: bool = False


@dataclass(frozen=True)
class Workload:
    """What the step found and wants."""

    ready: Condition
    available: Condition
    stuck: bool = False
    wanted: bool = False
    """Whether there is anything to run."""
    autoscaled: Condition | None = None
    writes: tuple[Item, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    desired: int | None = None
    """How many replicas the Deployment is told to have."""
    questions: tuple[Question, ...] = ()
    again: float | None = None


def step(
    service: GoService,
    observed: Observed,
    settings: Settings,
    now: datetime,
    running: resources.Running | None,
    notes: Mapping[str, str],
) -> Workload:
    """The workload for what is to run; nothing at all while there is no image."""
    deployment = observed.child("Deployment", service.name, service.uid)
    fields: dict[str, Any] = {"selector": names.selector_text(service)}
    if service.spec.ports:
        port = resources.service_port(service.spec.ports[0], first=True)
        fields["url"] = f"http://{service.name}.{service.namespace}.svc:{port}"
    if running is None:
        ready = Condition(Type.READY, "Unknown", Reason.RESOLVING)
        return Workload(ready, available(deployment), fields=fields)
    writes = tuple(_writes(service, observed, settings, running, notes))
    touched = any(item.manifest["kind"] == "Deployment" for item in writes)
    ready, stuck, questions, again = _rollout(service, observed, now, deployment, touched)
    status = (deployment or {}).get("status", {})
    fields["replicas"] = int(status.get("replicas", 0))
    fields["readyReplicas"] = int(status.get("readyReplicas", 0))
    if ready.status == "True":
        fields["servingImage"] = resources.image_of(deployment)
    return Workload(
        ready,
        available(deployment),
        stuck=stuck,
        wanted=True,
        autoscaled=_autoscaled(service, observed),
        writes=writes,
        fields=fields,
        desired=(deployment or {}).get("spec", {}).get("replicas"),
        questions=questions,
        again=again,
    )


def _writes(
    service: GoService,
    observed: Observed,
    settings: Settings,
    running: resources.Running,
    notes: Mapping[str, str],
) -> Iterable[Item]:
    scaling = service.spec.autoscaling is not None
    if not scaling:
        yield from _unwanted(service, observed, "HorizontalPodAutoscaler")
    yield from _apply(service, observed, resources.account(service))
    yield from _deployment(service, observed, settings, running, notes)
    if service.spec.ports:
        yield from _apply(service, observed, resources.service(service))
    else:
        yield from _unwanted(service, observed, "Service")
    if scaling:
        yield from _apply(service, observed, resources.autoscaler(service))
    if resources.guaranteed_replicas(service) >= 2:
        yield from _apply(service, observed, resources.disruption_budget(service))
    else:
        yield from _unwanted(service, observed, "PodDisruptionBudget")


def _apply(service: GoService, observed: Observed, wanted: Manifest) -> Iterable[Item]:
    marked = _marked(wanted, names.digest_of(wanted))
    live = observed.child(wanted["kind"], wanted["metadata"]["name"], service.uid)
    if live is None or not covers(live, marked):
        yield Item(marked)


def _marked(wanted: Manifest, digest: str) -> Manifest:
    """The object with the hash of itself, so that a field that is no longer wanted is seen."""
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def _unwanted(service: GoService, observed: Observed, kind: str) -> Iterable[Item]:
    live = observed.child(kind, service.name, service.uid)
    if live is not None:
        yield Item({"kind": kind, "metadata": live["metadata"]}, delete=True)


def _deployment(
    service: GoService,
    observed: Observed,
    settings: Settings,
    running: resources.Running,
    notes: Mapping[str, str],
) -> Iterable[Item]:
    live = observed.child("Deployment", service.name, service.uid)
    scaling = service.spec.autoscaling
    rendered = names.digest_of(resources.pod_template(service, settings, running))
    inputs = resources.template_inputs(service, settings, running)
    kept = _template_to_keep(live, inputs, rendered)
    owner = "Autoscaler" if scaling else "GoService"
    restart = service.restart_requested_at
    every = {
        **notes,
        names.TEMPLATE: inputs,
        names.USER_ID: str(running.uid),
        names.TIME_ZONE: running.time_zone,
        names.REPLICAS_OF: owner,
        **({names.RESTART_HANDLED: restart} if restart else {}),
    }
    wanted = resources.deployment(service, settings, running, every, kept_template=kept)
    digest = names.digest_of({**wanted, "spec": {**wanted["spec"], "template": inputs}})
    every[names.RENDERED] = annotation(live, names.RENDERED) if kept else rendered
    marked = _marked({**wanted, "metadata": {**wanted["metadata"], "annotations": every}}, digest)
    if live is not None and covers(live, marked):
        return
    if scaling is None:
        yield Item(marked)
        return
    least = scaling.min_replicas
    if live is None:
        yield Item(marked)
        if least > 1:
            yield Item(resources.handover(service, least), manager=names.HANDOVER)
    else:
        if annotation(live, names.REPLICAS_OF) != owner:
            count = max(int(live["spec"].get("replicas", 1)), least)
            yield Item(resources.handover(service, count), manager=names.HANDOVER)
        yield Item(marked)


def _template_to_keep(live: Manifest | None, inputs: str, rendered: str) -> Manifest | None:
    """The live template, when its inputs are the wanted ones and another version rendered it."""
    if live is None or annotation(live, names.TEMPLATE) != inputs:
        return None
    if annotation(live, names.RENDERED) == rendered:
        return None
    template: Manifest = live["spec"]["template"]
    return template


def available(deployment: Mapping[str, Any] | None) -> Condition:
    """Whether enough pods of any version serve."""
    if deployment is None:
        return Condition(Type.AVAILABLE, "False", Reason.UNAVAILABLE, "Too few pods are ready.")
    if deployment.get("spec", {}).get("replicas") == 0:
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE, "No pods are wanted.")
    if condition(deployment, "Available").get("status") == "True":
        return Condition(Type.AVAILABLE, "True", Reason.AVAILABLE)
    return Condition(Type.AVAILABLE, "False", Reason.UNAVAILABLE, "Too few pods are ready.")


def _autoscaled(service: GoService, observed: Observed) -> Condition | None:
    if service.spec.autoscaling is None:
        return None
    live = observed.child("HorizontalPodAutoscaler", service.name, service.uid)
    active = condition(live, "ScalingActive")
    if active.get("status") == "False":
        message = kaniko.clean(f"{active.get('reason')}: {active.get('message')}")
        return Condition(Type.AUTOSCALED, "False", Reason.SCALING_INACTIVE, message)
    return Condition(Type.AUTOSCALED, "True", Reason.SCALING)


def rolled_out(deployment: Mapping[str, Any]) -> bool:
    """Whether all wanted pods are of the newest template and available, as kubectl judges it."""
    status = deployment.get("status", {})
    wanted = deployment.get("spec", {}).get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("replicas", 0) <= status.get("updatedReplicas", 0)
        and status.get("availableReplicas", 0) >= status.get("updatedReplicas", 0)
    )


def _rollout(
    service: GoService,
    observed: Observed,
    now: datetime,
    deployment: Manifest | None,
    touched: bool,
) -> tuple[Condition, bool, tuple[Question, ...], float | None]:
    """Ready as the Deployment stands, whether it is stuck, what to ask and when to look again."""
    where = f"Deployment {service.namespace}/{service.name}"
    if deployment is None or touched:
        message = f"{where} takes over the new version."
        return Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, message), False, (), None
    if _complete(deployment) or rolled_out(deployment):
        image = resources.image_of(deployment)
        message = f"{image} serves."
        return Condition(Type.READY, "True", Reason.SERVING, message), False, (), None
    refusal = condition(deployment, "ReplicaFailure")
    if refusal.get("status") == "True" and "PodSecurity" in str(refusal.get("message")):
        words = kaniko.clean(str(refusal["message"]))
        message = f"Namespace {service.namespace} does not accept the pods of {where}: {words}"
        ready = Condition(Type.READY, "False", Reason.POD_SECURITY_VIOLATION, message)
        return ready, True, (), None
    progress = condition(deployment, "Progressing")
    exceeded = progress.get("reason") == "ProgressDeadlineExceeded"
    still = now - (moment(progress.get("lastUpdateTime")) or now)
    occasion = "deadline" if exceeded else "still"
    generation = deployment["metadata"].get("generation", 1)
    question = Question(
        "Pod",
        service.namespace,
        label_selector=names.selector_text(service),
        occasion=f"{occasion} {generation}",
    )
    trouble = pod_trouble(observed.answers.get(question, ()))
    if not trouble and refusal.get("status") == "True":
        trouble = kaniko.clean(str(refusal.get("message")))
    if exceeded:
        seconds = service.spec.rollout.progress_deadline_seconds
        show = f"kubectl describe pods -n {service.namespace} -l {names.selector_text(service)}"
        message = f"{where} has not moved for {seconds} s. {trouble} See: {show}"
        ready = Condition(Type.READY, "False", Reason.PROGRESS_DEADLINE_EXCEEDED, message)
        return ready, True, (question,), None
    message = f"{where} takes over the new version."
    ready = Condition(Type.READY, "Unknown", Reason.ROLLING_OUT, f"{message} {trouble}".strip())
    if still >= LOOK_AFTER:
        return ready, False, (question,), None
    return ready, False, (), (LOOK_AFTER - still).total_seconds() + 1


def _complete(deployment: Mapping[str, Any]) -> bool:
    """Whether the newest template has taken over once: later changes of the count do not undo it."""
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return False
    progress = condition(deployment, "Progressing")
    enough = condition(deployment, "Available").get("status") == "True"
    done = progress.get("reason") == "NewReplicaSetAvailable" and progress.get("status") == "True"
    return done and enough and status.get("updatedReplicas", 0) == status.get("replicas", 0)


def pod_trouble(pods: Iterable[Mapping[str, Any]]) -> str:
    """Why pods are not ready, in the kubelet's or the scheduler's words; empty if nothing is wrong."""
    for pod in pods:
        status = pod.get("status", {})
        name = pod.get("metadata", {}).get("name", "")
        for container in status.get("containerStatuses", ()):
            state = container.get("state", {})
            waiting = state.get("waiting", {})
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                words = kaniko.waits(waiting)
                last = container.get("lastState", {}).get("terminated", {})
                code = f" (last exit code {last['exitCode']})" if "exitCode" in last else ""
                return f"Pod {name}: {words}{code}."
            if "running" in state and not container.get("ready"):
                return f"Pod {name}: its readiness probe does not pass."
        for found in status.get("conditions", ()):
            if found.get("type") == "PodScheduled" and found.get("status") == "False":
                return f"Pod {name}: {kaniko.clean(str(found.get('message')))[:300]}"
    return ""
