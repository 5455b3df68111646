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
from goservice.decide import pod_words
from goservice.decide.attempts import Attempt, Past, builds_of, ends_of, highest_attempts, past_of
from goservice.decide.last_status import LastStatus, last_status
from goservice.decide.live_deployment import LiveDeployment, deployment_of
from goservice.decide.observed import Applied, Lookup, Observed
from goservice.decide.pod_words import PodsSeen
from goservice.manifest import Manifest, clean, condition_of, owned
from goservice.objects.children import CHILDREN, Upkeep
from goservice.objects.metadata import belongs

TAKEN_UP = frozenset(
    child.kind.kind for child in CHILDREN if child.upkeep in (Upkeep.APPLIED, Upkeep.ROLLED_OUT)
) | {"PersistentVolumeClaim"}
"""Kinds of which an object with our labels that nobody owns is ours again: --cascade=orphan left it."""


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
    """The highest attempt of each hash of inputs that any Job, another's ConfigMap or the status names."""
    build_files: Mapping[str, str]
    """The uids of its builds' ConfigMaps, by name."""
    own: Mapping[tuple[str, str], Manifest]
    """Its objects, by kind and name: what is to be applied is held against them."""
    answers: Mapping[tuple[str, str], Applied]
    """What the API server made of our own applies, by kind and name."""
    pending_rebuild: bool
    """Whether a rebuild is asked for that no build has answered yet."""
    happenings: Mapping[Lookup, tuple[Happening, ...]]
    """What each lookup of events found, in the API server's order."""
    pods: Mapping[Lookup, PodsSeen]
    """What each lookup of pods showed."""


@dataclass(frozen=True)
class Unreadable:
    """What is there of a resource that cannot be parsed."""

    generation: int
    """Of its spec."""
    status: LastStatus
    """What its status said last."""
    deployment: LiveDeployment | None
    """Its Deployment."""


def owned_by(observed: Observed, uid: str) -> dict[tuple[str, str], Manifest]:
    """The objects that a resource with this uid controls."""
    return {place: found for place, found in observed.children.items() if owned(found, uid)}


def of_unreadable(body: Manifest, observed: Observed) -> Unreadable:
    """What can be told of a resource that cannot be parsed."""
    metadata = body.get("metadata", {})
    name, uid = str(metadata.get("name", "")), str(metadata.get("uid", ""))
    return Unreadable(
        generation=int(metadata.get("generation") or 1),
        status=last_status(observed.status),
        deployment=deployment_of(owned_by(observed, uid), name),
    )


def of(service: GoService, observed: Observed, builder: Engine) -> Facts:
    """Everything that a pass decides upon, parsed. `builder` knows what its builds come to."""
    own = {
        place: manifest
        for place, manifest in observed.children.items()
        if owned(manifest, service.uid) or (place[0] in TAKEN_UP and belongs(manifest, service))
    }
    deployment = deployment_of(own, service.name)
    status = last_status(observed.status)
    past = past_of(service, deployment, status)
    builds = builds_of(service, observed, builder, ends_of(past, status))
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
        answers=observed.answers,
        pending_rebuild=bool(asked) and asked not in answered,
        happenings={
            lookup: tuple(map(_happening, found))
            for lookup, found in observed.lookups.items()
            if lookup.kind == "Event"
        },
        pods={
            lookup: pod_words.look(found)
            for lookup, found in observed.lookups.items()
            if lookup.kind == "Pod"
        },
    )
