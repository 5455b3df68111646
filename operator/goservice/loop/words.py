"""What is kept of an object that others fill: the fields that are read, each text and list cut short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goservice.manifest import Manifest

LONGEST_TEXT = 4096
"""Characters of a text that is kept: the kubelet cuts a container's last words there."""
LONGEST_LIST = 16
"""Objects of a list that are kept: containers, conditions, owners."""
LONGEST_WORDS = 12_288
"""Characters of all texts of one object: as many of last words the kubelet leaves a pod."""
LONGEST_EVENT = 2048
"""Characters of all texts of an event, whose message has 1024 at the most."""

Mask = Mapping[str, "Mask | None"]
"""Fields that are read, and what is read below each; None: its value."""

CONDITIONS: Mask = dict.fromkeys(
    ("type", "status", "reason", "message", "lastTransitionTime", "lastUpdateTime")
)
"""What is read of a condition."""
OWNERS: Mask = dict.fromkeys(
    ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
)
"""What is read of an owner."""
METADATA: Mask = {
    **dict.fromkeys(("name", "namespace", "uid", "resourceVersion", "generation")),
    **dict.fromkeys(("creationTimestamp", "deletionTimestamp")),
    "ownerReferences": OWNERS,
}
"""What is read of metadata, beside labels and annotations of ours."""
STATE: Mask = {
    "running": {},
    "waiting": dict.fromkeys(("reason", "message")),
    "terminated": dict.fromkeys(("reason", "exitCode", "message")),
}
"""What is read of a container's state."""
CONTAINERS: Mask = {
    **dict.fromkeys(("name", "image", "ready", "restartCount")),
    "state": STATE,
    "lastState": STATE,
}
"""What is read of a container."""
STATUS: Mask = {
    **dict.fromkeys(("phase", "reason", "message", "completionTime", "observedGeneration")),
    **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")),
    "conditions": CONDITIONS,
    "initContainerStatuses": CONTAINERS,
    "containerStatuses": CONTAINERS,
}
"""What is read of the status of any child: of a pod, a Job, a Deployment, an autoscaler."""


def told(manifest: Manifest) -> Manifest:
    """A pod or an event without its spec, labels and annotations: at most some kilobytes."""
    kind = str(manifest.get("kind", ""))
    mask: Mask = {
        **dict.fromkeys(("kind", "reason", "message")),
        "metadata": METADATA,
        "status": STATUS,
    }
    found: Manifest = masked(manifest, mask, LONGEST_EVENT if kind == "Event" else LONGEST_WORDS)
    return found


def masked(value: Any, mask: Mask | None, longest: int = LONGEST_WORDS) -> Any:
    """The fields of a mask, in its order, until their texts have so many characters."""
    return _masked(value, mask, [longest])


def _masked(value: Any, mask: Mask | None, left: list[int]) -> Any:
    match value:
        case str():
            kept = value[: min(LONGEST_TEXT, left[0])]
            left[0] -= len(kept)
            return kept
        case list():
            return [_masked(one, mask, left) for one in value[:LONGEST_LIST]]
        case dict():
            fields = (mask or {}).items()
            return {key: _masked(value[key], below, left) for key, below in fields if key in value}
        case _:
            return value
