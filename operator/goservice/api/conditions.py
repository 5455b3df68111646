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
    CLAIM_NOT_FOUND = "ClaimNotFound"
    POD_SECURITY_VIOLATION = "PodSecurityViolation"
    CLUSTER_REFUSED = "ClusterRefused"
    SUCCEEDED = "Succeeded"
    RESOLVED = "Resolved"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    SCALING = "Scaling"
    SCALING_INACTIVE = "ScalingInactive"


SAYS: Mapping[Type, str] = {
    Type.READY: "This generation and commit serve (True), something is on its way (Unknown), a person must act (False).",
    Type.RECONCILING: "Only while True: something is on its way.",
    Type.STALLED: "Only while True: a person must act. The message says what to do.",
    Type.SOURCE_RESOLVED: "The newest commit is known. A failing poll turns only this False.",
    Type.BUILT: "The newest commit's image exists. Absent while image.digest is set, as SourceResolved is.",
    Type.AVAILABLE: "Enough pods serve, of whichever version.",
    Type.AUTOSCALED: "The autoscaler works. Absent without autoscaling.",
}

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
    Reason.CLAIM_NOT_FOUND: "The claim that the build's caches lie on is missing; it goes on once it is there.",
    Reason.POD_SECURITY_VIOLATION: "The namespace's Pod Security level refuses the pods.",
    Reason.CLUSTER_REFUSED: "The API server refuses an object; the message has its words.",
    Reason.SUCCEEDED: "The newest build succeeded.",
    Reason.RESOLVED: "The newest commit is known.",
    Reason.AVAILABLE: "Enough pods are ready.",
    Reason.UNAVAILABLE: "Too few pods are ready.",
    Reason.SCALING: "The autoscaler is at work.",
    Reason.SCALING_INACTIVE: "The autoscaler cannot work; the message has its words.",
}

ADVICE: Mapping[Reason, str] = {
    Reason.RESOLVING: "Wait.",
    Reason.BUILD_QUEUED: "Wait, or ask the platform team for a higher `builds.maxConcurrent`.",
    Reason.BUILDING: "Wait; follow it: `goservice logs NAME -f`.",
    Reason.ROLLING_OUT: "Wait. After 15 s without progress the message says what holds up a pod.",
    Reason.SERVING: "Nothing.",
    Reason.SUSPENDED: "Set `suspend: false` to go on.",
    Reason.INVALID_SPEC: "Correct the field; `goservice validate -f FILE` finds all of them at once.",
    Reason.FORBIDDEN_BY_PLATFORM: "Use an allowed value, or ask the platform team to allow yours.",
    Reason.NOT_OWNED: "Rename the GoService, or delete the other object. Looked at again each minute.",
    Reason.CPU_REQUEST_MISSING: "Set `resources.requests.cpu`, such as 100m.",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "Read what the message says of the pods. The old version serves on; correct the spec or push a commit.",
    Reason.REVISION_NOT_FOUND: "Correct `source.git.revision`, or push the branch or tag. Asked again at each poll.",
    Reason.GIT_AUTHENTICATION_FAILED: "Correct `source.git.url`; only public repositories can be fetched. Asked again at each poll.",
    Reason.GIT_UNAVAILABLE: "Wait. If it lasts: is the git server up, and may the cluster reach it?",
    Reason.UNSAFE_SOURCE: "Mend what the message names: a link that leads out of the repository, an address that redirects.",
    Reason.NO_GO_MOD: "Set `source.git.directory` to the folder that has go.mod.",
    Reason.NO_MAIN_PACKAGE: "Set `build.package` to a folder with `package main`, such as ./cmd/checkout.",
    Reason.GO_VERSION_TOO_OLD: "Set `build.builderImage` to a newer Go, or lower the go line of go.mod.",
    Reason.MODULE_DOWNLOAD_FAILED: "Read the log tail. Look at go.mod, go.sum (`go mod tidy`) and `build.modules.proxy`. Private modules cannot be had.",
    Reason.COMPILE_FAILED: "The log tail has the compiler's words. Correct the code and push.",
    Reason.BASE_IMAGE_NOT_FOUND: "Correct `build.builderImage` or `build.baseImage`; it must be pullable without a login.",
    Reason.PUSH_DENIED: "See that the Secret of `image.pushSecretRef` may write to `image.repository`, then `goservice rebuild NAME`.",
    Reason.OUT_OF_MEMORY: "Raise `build.resources.limits.memory`.",
    Reason.DEADLINE_EXCEEDED: "Raise `build.timeoutSeconds`, or see in the log what hangs.",
    Reason.BUILD_FAILED: "Read the log tail, then the whole log: `goservice logs NAME`.",
    Reason.EVICTED: "Wait; if it comes back, raise `build.resources.requests`.",
    Reason.NODE_LOST: "Wait.",
    Reason.DISK_FULL: "Wait; if it comes back, raise `build.resources.limits.ephemeral-storage`, or ask the platform team for higher size limits.",
    Reason.REGISTRY_UNAVAILABLE: "Wait. If it lasts: is the registry up, and may the cluster reach it?",
    Reason.RETRIES_EXHAUSTED: "The message says what failed. Once that is mended: `goservice rebuild NAME`.",
    Reason.SECRET_NOT_FOUND: "Create the Secret that the message names.",
    Reason.CLAIM_NOT_FOUND: "Create the PersistentVolumeClaim that the message names, or set `build.cache.size` to have one made.",
    Reason.POD_SECURITY_VIOLATION: "Builds need level `baseline` (operations.md, Namespaces). Or build in another namespace and set `image.digest` here.",
    Reason.CLUSTER_REFUSED: "Mend what the message says: a quota, a policy, a missing right. Tried again each minute.",
    Reason.SUCCEEDED: "Nothing.",
    Reason.RESOLVED: "Nothing.",
    Reason.AVAILABLE: "Nothing.",
    Reason.UNAVAILABLE: "Read Ready's message.",
    Reason.SCALING: "Nothing.",
    Reason.SCALING_INACTIVE: "Wait for the first metrics; if they never come, `kubectl top pods` tells whether metrics-server works.",
}
"""What a person does about it. Fields are those of spec; NAME is the service."""


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
