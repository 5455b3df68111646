"""What is there, parsed once: typed values, taken from objects and from the status.

With its parts (`live_deployment`, `last_status`, `attempts`) it is all of `decide` that reads a
manifest or the status by its keys: the steps read facts.
What others may have written (a pod's author, a person with kubectl) is taken for what it is: a text
that is no number of ours, no digest or no time counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from goservice.api.resource import GoService
from goservice.build.engine import Engine
from goservice.build.outcome import LONGEST_WORDS
from goservice.build.pod import is_in_trouble, why_waiting
from goservice.decide.attempts import Attempt, Past, builds_of, highest_attempts, past_of
from goservice.decide.last_status import LastStatus, last_status
from goservice.decide.live_deployment import LiveDeployment, deployment_of
from goservice.decide.observed import Lookup, Observed
from goservice.manifest import Manifest, clean, condition_of, owned


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
    past: Past
    """Builds that the Deployment and the status remember, by the hash of their inputs."""
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
        deployment=deployment_of(observed, name, uid),
    )


def of(service: GoService, observed: Observed, builder: Engine) -> Facts:
    """Everything that a pass decides upon, parsed. `builder` knows what its builds come to."""
    own = {place: m for place, m in observed.children.items() if owned(m, service.uid)}
    deployment = deployment_of(observed, service.name, service.uid)
    status = last_status(observed.status)
    past = past_of(service, deployment, status)
    builds = builds_of(service, observed, builder, past)
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
        past=past,
        highest_attempts=highest_attempts(service, observed, status),
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
