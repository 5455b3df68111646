"""Condition types, the closed list of reasons, and how conditions are merged.

The rules are kstatus': `Reconciling` and `Stalled` exist only while True, every condition carries
the generation that it speaks of, and `lastTransitionTime` moves only when the status does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Type(StrEnum):
    """What a condition speaks of."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SOURCE_RESOLVED = "SourceResolved"
    BUILT = "Built"
    AVAILABLE = "Available"
    AUTOSCALED = "Autoscaled"


class Reason(StrEnum):
    """Why a condition is as it is. The list is part of the API: nothing is ever renamed."""

    RESOLVING = "Resolving"
    BUILD_QUEUED = "BuildQueued"
    BUILDING = "Building"
    ROLLING_OUT = "RollingOut"
    SERVING = "Serving"
    SUSPENDED = "Suspended"
    INVALID_SPEC = "InvalidSpec"
    FORBIDDEN_BY_PLATFORM = "ForbiddenByPlatform"
    NOT_OWNED = "NotOwned"
    CPU_REQUEST_MISSING = "CPURequestMissing"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    REVISION_NOT_FOUND = "RevisionNotFound"
    GIT_AUTHENTICATION_FAILED = "GitAuthenticationFailed"
    GIT_UNAVAILABLE = "GitUnavailable"
    UNSAFE_SOURCE = "UnsafeSource"
    NO_GO_MOD = "NoGoMod"
    NO_MAIN_PACKAGE = "NoMainPackage"
    GO_VERSION_TOO_OLD = "GoVersionTooOld"
    MODULE_DOWNLOAD_FAILED = "ModuleDownloadFailed"
    COMPILE_FAILED = "CompileFailed"
    BASE_IMAGE_NOT_FOUND = "BaseImageNotFound"
    PUSH_DENIED = "PushDenied"
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BUILD_FAILED = "BuildFailed"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    DISK_FULL = "DiskFull"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    POD_SECURITY_VIOLATION = "PodSecurityViolation"
    CLUSTER_REFUSED = "ClusterRefused"
    SUCCEEDED = "Succeeded"
    RESOLVED = "Resolved"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    SCALING = "Scaling"
    SCALING_INACTIVE = "ScalingInactive"


MEANING: Mapping[Reason, str] = {
    Reason.RESOLVING: "The repository is being asked for the newest commit.",
    Reason.BUILD_QUEUED: "The build waits for a place; the platform bounds how many run at once.",
    Reason.BUILDING: "The image is being built.",
    Reason.ROLLING_OUT: "The new version is taking over.",
    Reason.SERVING: "This generation and commit serve.",
    Reason.SUSPENDED: "spec.suspend is true: nothing is built or changed.",
    Reason.INVALID_SPEC: "The resource cannot be acted upon as written; the message names the field.",
    Reason.FORBIDDEN_BY_PLATFORM: "The platform's settings refuse a value; the message names it.",
    Reason.NOT_OWNED: "An object of the needed name exists and is not this service's.",
    Reason.CPU_REQUEST_MISSING: "Autoscaling by CPU needs a CPU request.",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "The rollout has not moved for rollout.progressDeadlineSeconds.",
    Reason.REVISION_NOT_FOUND: "The repository does not have the revision.",
    Reason.GIT_AUTHENTICATION_FAILED: "The repository asks for credentials, or does not exist.",
    Reason.GIT_UNAVAILABLE: "The repository does not answer; asked again.",
    Reason.UNSAFE_SOURCE: "The repository or its address is not safe to fetch; the message says why.",
    Reason.NO_GO_MOD: "There is no go.mod in source.git.directory.",
    Reason.NO_MAIN_PACKAGE: "build.package is not a main package.",
    Reason.GO_VERSION_TOO_OLD: "go.mod asks for a newer Go than the builder image has.",
    Reason.MODULE_DOWNLOAD_FAILED: "A module could not be downloaded.",
    Reason.COMPILE_FAILED: "The program does not compile.",
    Reason.BASE_IMAGE_NOT_FOUND: "The builder or base image cannot be pulled.",
    Reason.PUSH_DENIED: "The registry refuses the push.",
    Reason.OUT_OF_MEMORY: "The build ran out of memory; raise build.resources.limits.memory.",
    Reason.DEADLINE_EXCEEDED: "The build took longer than build.timeoutSeconds.",
    Reason.BUILD_FAILED: "The build failed for a reason that the log tail shows.",
    Reason.EVICTED: "The build's pod was evicted; tried again.",
    Reason.NODE_LOST: "The build's node went away; tried again.",
    Reason.DISK_FULL: "The build ran out of disk space; tried again.",
    Reason.REGISTRY_UNAVAILABLE: "The registry does not answer; tried again.",
    Reason.RETRIES_EXHAUSTED: "A platform failure came back five times.",
    Reason.SECRET_NOT_FOUND: "A Secret that the build needs is missing; it goes on once it is there.",
    Reason.POD_SECURITY_VIOLATION: "The namespace's Pod Security level refuses the pods.",
    Reason.CLUSTER_REFUSED: "The API server refuses an object; the message has its words.",
    Reason.SUCCEEDED: "The newest build succeeded.",
    Reason.RESOLVED: "The newest commit is known.",
    Reason.AVAILABLE: "Enough pods are ready.",
    Reason.UNAVAILABLE: "Too few pods are ready.",
    Reason.SCALING: "The autoscaler is at work.",
    Reason.SCALING_INACTIVE: "The autoscaler cannot work; the message has its words.",
}


def known(text: object) -> Reason | None:
    """The reason that a text names; None if a newer version wrote it."""
    return next((reason for reason in Reason if reason == text), None)


@dataclass(frozen=True)
class Condition:
    """One finding. `status` is True, False or Unknown."""

    type: Type
    status: str
    reason: Reason
    message: str = ""


def merged(
    current: Iterable[Mapping[str, Any]],
    wanted: Iterable[Condition],
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """The conditions as they go into the status, in the order of `Type`."""
    before = {str(c.get("type")): c for c in current}
    result = []
    for condition in sorted(wanted, key=lambda c: list(Type).index(c.type)):
        old = before.get(condition.type, {})
        unchanged = old.get("status") == condition.status
        since = old.get("lastTransitionTime") if unchanged else None
        result.append(
            {
                "type": str(condition.type),
                "status": condition.status,
                "observedGeneration": generation,
                "lastTransitionTime": since or timestamp(now),
                "reason": str(condition.reason),
                "message": condition.message[:1024],
            }
        )
    return result


def find(status: Mapping[str, Any], kind: Type) -> Mapping[str, Any]:
    """A condition of a status, or an empty one."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC to the second, as the API server writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
