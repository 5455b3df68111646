"""The Deployment that is there, parsed: how far its rollout is, and what it remembers of its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from goservice import names
from goservice.build.outcome import architecture, is_digest
from goservice.manifest import (
    Manifest,
    annotation,
    clean,
    condition_of,
    parse_number,
    parse_time,
)
from goservice.objects.deployment import image_of
from goservice.objects.pod_template import Deployed

LONGEST_REQUEST = 64
"""Characters of a request's value that count."""

LONGEST_TAG = 128
"""Characters that a tag may have."""

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
    short_since: datetime | None
    """Since when too few do; None while enough do."""
    is_paused: bool
    """Whether somebody has paused it: nothing of a new template is rolled out."""
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
    """What its pods run: repository@sha256:…, as it was applied where only its repository was rewritten."""
    applied_image: str
    """The image that was applied last, whatever somebody has made of it."""
    user_id: str
    """The uid that the image is made for, as text; empty if it is not known."""
    time_zone: str
    """The image's time zone; empty if it is not known."""
    go: str
    """The module's go line; empty if it is not known."""
    arch: str
    """The architecture that its image is made for; empty if it is not known."""
    untagged: str
    """The tag that the registry refused to its image; empty if it took it."""
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
    applied: str
    """The hash of the object as it was applied last."""
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
        live.applied_image,
        parse_number(live.user_id, uid),
        live.time_zone or time_zone,
        live.go[:LONGEST_GO_LINE],
        live.arch,
    )


_MEMORY = (
    names.COMMIT,
    names.INPUTS,
    names.ATTEMPT,
    names.GO_VERSION,
    names.ARCH,
    names.UNTAGGED,
    names.REBUILD_HANDLED,
)
"""Annotations by which a Deployment remembers its image, so that a lost status rebuilds nothing."""


def deployment_of(own: Mapping[tuple[str, str], Manifest], name: str) -> LiveDeployment | None:
    """The Deployment of this name among a resource's own objects, if it is there."""
    live = own.get(("Deployment", name))
    if live is None:
        return None
    spec, metadata = live.get("spec") or {}, live["metadata"]
    return LiveDeployment(
        image=_image(live),
        applied_image=_applied_image(live),
        user_id=annotation(live, names.USER_ID),
        time_zone=annotation(live, names.TIME_ZONE),
        go=annotation(live, names.GO_VERSION),
        arch=architecture(annotation(live, names.ARCH)),
        untagged=annotation(live, names.UNTAGGED)[:LONGEST_TAG],
        commit=annotation(live, names.COMMIT),
        inputs=annotation(live, names.INPUTS),
        attempt=parse_number(annotation(live, names.ATTEMPT), 1),
        memory={key: annotation(live, key) for key in _MEMORY if annotation(live, key)},
        rebuild_handled=annotation(live, names.REBUILD_HANDLED),
        restart_handled=annotation(live, names.RESTART_HANDLED)[:LONGEST_REQUEST],
        applied=annotation(live, names.APPLIED),
        template_inputs=annotation(live, names.TEMPLATE),
        rendered=annotation(live, names.RENDERED),
        template=spec.get("template") or {},
        generation=metadata.get("generation", 1),
        replicas=spec.get("replicas"),
        replicas_of=annotation(live, names.REPLICAS_OF),
        rollout=_rollout(live),
    )


def _applied_image(live: Manifest) -> str:
    noted = annotation(live, names.IMAGE)
    return noted if is_digest(noted.partition("@")[2]) else image_of(live)


def _image(live: Manifest) -> str:
    """What runs; a webhook that names a mirror of the registry makes no other image of it."""
    runs, noted = image_of(live), _applied_image(live)
    return noted if runs.partition("@")[2] == noted.partition("@")[2] else runs


def _rollout(live: Manifest) -> RolloutState:
    status = live.get("status", {})
    progress = condition_of(live, "Progressing")
    refused = condition_of(live, "ReplicaFailure")
    available = condition_of(live, "Available")
    is_available = available.get("status") == "True"
    return RolloutState(
        seen=status.get("observedGeneration", 0) >= live["metadata"].get("generation", 1),
        wanted=live.get("spec", {}).get("replicas", 1),
        replicas=int(status.get("replicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        is_available=is_available,
        short_since=None if is_available else parse_time(available.get("lastTransitionTime")),
        is_paused=live.get("spec", {}).get("paused") is True,
        took_over=progress.get("reason") == "NewReplicaSetAvailable"
        and progress.get("status") == "True",
        deadline_exceeded=progress.get("reason") == "ProgressDeadlineExceeded",
        moved_at=parse_time(progress.get("lastUpdateTime")),
        refusal=clean(str(refused.get("message"))) if refused.get("status") == "True" else "",
    )
