"""The Deployment that is there, parsed: how far its rollout is, and what it remembers of its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from goservice import names
from goservice.decide.observed import Observed
from goservice.manifest import (
    Manifest,
    annotation,
    clean,
    condition_of,
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


def deployment_of(observed: Observed, name: str, uid: str) -> LiveDeployment | None:
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
