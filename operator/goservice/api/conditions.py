"""Condition types, the closed list of reasons, and how conditions are merged.

A type and a reason are one row each: its name in the API and all that is known of it. The rules are
kstatus': `Reconciling` and `Stalled` exist only while True, every condition carries the generation
that it speaks of, and `lastTransitionTime` moves only when the status does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import Any, Literal, Self, get_args

from goservice.manifest import format_time

LONGEST_MESSAGE = 1024
"""Characters of a condition's message that are written."""


class After(Enum):
    """What happens after a reason was told."""

    NOTHING = auto()
    """All is well: nobody needs to do anything."""
    WAIT = auto()
    """It goes on by itself, at once or when something outside is mended."""
    RETRY = auto()
    """The platform failed, not the user's input: the build is tried again, a few times."""
    LOOK_AGAIN = auto()
    """The cluster stands against it: looked at again each minute."""
    STOP = auto()
    """A person must act."""


class Type(StrEnum):
    """What a condition speaks of; each member is its name and what it says."""

    says: str
    """One sentence for the docs."""

    def __new__(cls, name: str, says: str) -> Self:
        """A member that is equal to its name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.says = says
        return member

    READY = (
        "Ready",
        "This generation and commit serve (True), something is on its way (Unknown), a person must act (False).",
    )
    RECONCILING = (
        "Reconciling",
        "Only while True: something is on its way.",
    )
    STALLED = (
        "Stalled",
        "Only while True: a person must act. The message says what to do.",
    )
    SOURCE_RESOLVED = (
        "SourceResolved",
        "The newest commit is known. A failing poll turns only this False.",
    )
    BUILT = (
        "Built",
        "The newest commit's image exists. Absent while image.digest is set, as SourceResolved is.",
    )
    AVAILABLE = (
        "Available",
        "Enough pods serve, of whichever version.",
    )
    SUSPENDED = (
        "Suspended",
        "Only while True: spec.suspend is true. Ready is there beside it only where it was True.",
    )
    AUTOSCALED = (
        "Autoscaled",
        "The autoscaler works. Absent without autoscaling.",
    )


class Reason(StrEnum):
    """Why a condition is as it is. The list is part of the API: nothing is ever renamed.

    Each member is its name, what happens after it, what it means, and what a person does about it
    (fields are those of spec; NAME is the service).
    """

    after: After
    """What happens next, which decides whether a build is tried again."""
    meaning: str
    """One sentence for the docs."""
    advice: str
    """One sentence or two for the docs."""

    def __new__(cls, name: str, after: After, meaning: str, advice: str) -> Self:
        """A member that is equal to its name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.after, member.meaning, member.advice = after, meaning, advice
        return member

    RESOLVING = (
        "Resolving",
        After.WAIT,
        "The repository is being asked for the newest commit.",
        "Wait.",
    )
    BUILD_QUEUED = (
        "BuildQueued",
        After.WAIT,
        "The build waits for a place; the platform bounds how many run at once.",
        "Wait, or ask the platform team for a higher `builds.maxConcurrent`.",
    )
    BUILDING = (
        "Building",
        After.WAIT,
        "The image is being built.",
        "Wait; follow it: `goservice logs NAME -f`.",
    )
    ROLLING_OUT = (
        "RollingOut",
        After.WAIT,
        "The new version is taking over.",
        "Wait. After 15 s without progress the message says what holds up a pod.",
    )
    SERVING = (
        "Serving",
        After.NOTHING,
        "This generation and commit serve.",
        "Nothing.",
    )
    SUSPENDED = (
        "Suspended",
        After.WAIT,
        "spec.suspend is true: nothing is built or changed.",
        "Set `suspend: false` to go on.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        After.STOP,
        "The resource cannot be acted upon as written; the message names the field.",
        "Correct the field; `goservice validate -f FILE` finds all of them at once.",
    )
    FORBIDDEN_BY_PLATFORM = (
        "ForbiddenByPlatform",
        After.STOP,
        "The platform's settings refuse a value; the message names it.",
        "Use an allowed value, or ask the platform team to allow yours.",
    )
    NOT_OWNED = (
        "NotOwned",
        After.LOOK_AGAIN,
        "An object of the needed name exists and is not this service's.",
        "Rename the GoService, or delete the other object. Looked at again each minute.",
    )
    CPU_REQUEST_MISSING = (
        "CPURequestMissing",
        After.STOP,
        "Autoscaling by CPU needs a CPU request.",
        "Set `resources.requests.cpu`, such as 100m.",
    )
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        After.STOP,
        "The rollout has not moved for rollout.progressDeadlineSeconds.",
        "Read what the message says of the pods. The old version serves on; correct the spec or push a commit.",
    )
    PODS_FAILING = (
        "PodsFailing",
        After.STOP,
        "The version that served has had no ready pod for 30 s.",
        "Read what the message says of the pods. It goes back to Serving by itself once one is ready.",
    )
    PAUSED = (
        "Paused",
        After.STOP,
        "Somebody has paused the Deployment: the new version is not rolled out.",
        "`kubectl rollout resume deployment/NAME`.",
    )
    REVISION_NOT_FOUND = (
        "RevisionNotFound",
        After.STOP,
        "The repository does not have the revision.",
        "Correct `source.git.revision`, or push the branch or tag. Asked again at each poll.",
    )
    GIT_AUTHENTICATION_FAILED = (
        "GitAuthenticationFailed",
        After.STOP,
        "The repository asks for credentials, or does not exist.",
        "Correct `source.git.url`; only public repositories can be fetched. Asked again at each poll.",
    )
    GIT_UNAVAILABLE = (
        "GitUnavailable",
        After.RETRY,
        "The repository does not answer; asked again.",
        "Wait. If it lasts: is the git server up, and may the cluster reach it?",
    )
    UNSAFE_SOURCE = (
        "UnsafeSource",
        After.STOP,
        "The repository cannot be taken as it is; the message says why.",
        "Mend what the message names: a link that leads out of the repository, a file in Git LFS, an address that redirects, a kind of server or repository that is not supported.",
    )
    NO_GO_MOD = (
        "NoGoMod",
        After.STOP,
        "There is no go.mod in source.git.directory.",
        "Set `source.git.directory` to the folder that has go.mod.",
    )
    NO_MAIN_PACKAGE = (
        "NoMainPackage",
        After.STOP,
        "build.package is not a main package.",
        "Set `build.package` to a folder with `package main`, such as ./cmd/checkout.",
    )
    GO_VERSION_TOO_OLD = (
        "GoVersionTooOld",
        After.STOP,
        "go.mod asks for a newer Go than the builder image has.",
        "Set `build.builderImage` to a newer Go, or lower the go line of go.mod.",
    )
    MODULE_DOWNLOAD_FAILED = (
        "ModuleDownloadFailed",
        After.STOP,
        "A module could not be downloaded.",
        "Read the log tail. Look at go.mod, go.sum (`go mod tidy`) and `build.modules.proxy`. Private modules cannot be had.",
    )
    COMPILE_FAILED = (
        "CompileFailed",
        After.STOP,
        "The program does not compile.",
        "The log tail has the compiler's words. Correct the code and push.",
    )
    BASE_IMAGE_NOT_FOUND = (
        "BaseImageNotFound",
        After.STOP,
        "The builder or base image cannot be pulled.",
        "Correct `build.builderImage` or `build.baseImage`; it must be pullable without a login.",
    )
    PUSH_DENIED = (
        "PushDenied",
        After.STOP,
        "The registry refuses the push.",
        "See that the Secret of `image.pushSecretRef` may write to `image.repository`, then `goservice rebuild NAME`.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        After.STOP,
        "The build ran out of memory; raise build.resources.limits.memory.",
        "Raise `build.resources.limits.memory`.",
    )
    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        After.STOP,
        "The build took longer than build.timeoutSeconds.",
        "Raise `build.timeoutSeconds`, or see in the log what hangs.",
    )
    BUILD_FAILED = (
        "BuildFailed",
        After.STOP,
        "The build failed for a reason that the log tail shows.",
        "Read the log tail, then the whole log: `goservice logs NAME`.",
    )
    EVICTED = (
        "Evicted",
        After.RETRY,
        "The build's pod was evicted; tried again.",
        "Wait; if it comes back, raise `build.resources.requests`.",
    )
    NODE_LOST = (
        "NodeLost",
        After.RETRY,
        "The build's node went away; tried again.",
        "Wait.",
    )
    NOT_STARTED = (
        "NotStarted",
        After.RETRY,
        "The build's pod could not start within its time; tried again.",
        "Read what the message says it waited for: a node with room, a Secret, a claim.",
    )
    DISK_FULL = (
        "DiskFull",
        After.RETRY,
        "The build ran out of disk space; tried again.",
        "Wait; if it comes back, raise `build.resources.limits.ephemeral-storage`, or ask the platform team for higher size limits.",
    )
    REGISTRY_UNAVAILABLE = (
        "RegistryUnavailable",
        After.RETRY,
        "The registry does not answer; tried again.",
        "Wait. If it lasts: is the registry up, and may the cluster reach it?",
    )
    RETRIES_EXHAUSTED = (
        "RetriesExhausted",
        After.STOP,
        "A platform failure came back five times.",
        "The message says what failed. Once that is mended: `goservice rebuild NAME`.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        After.WAIT,
        "A Secret that the build needs is missing; it goes on once it is there.",
        "Create the Secret that the message names.",
    )
    CLAIM_NOT_FOUND = (
        "ClaimNotFound",
        After.WAIT,
        "The claim that the build's caches lie on is missing; it goes on once it is there.",
        "Create the PersistentVolumeClaim that the message names, or set `build.cache.size` to have one made.",
    )
    POD_SECURITY_VIOLATION = (
        "PodSecurityViolation",
        After.WAIT,
        "The namespace's Pod Security level refuses the pods.",
        "Builds need level `baseline` (operations.md, Namespaces). Or build in another namespace and set `image.digest` here.",
    )
    CLUSTER_REFUSED = (
        "ClusterRefused",
        After.LOOK_AGAIN,
        "The API server refuses an object; the message has its words.",
        "Mend what the message says: a quota, a policy, a missing right. Tried again each minute.",
    )
    API_NOT_SERVED = (
        "APINotServed",
        After.WAIT,
        "The cluster does not serve an API that the spec asks for; the message names it.",
        "Have the platform team install it; it goes on by itself.",
    )
    SUCCEEDED = (
        "Succeeded",
        After.NOTHING,
        "The newest build succeeded.",
        "Nothing.",
    )
    RESOLVED = (
        "Resolved",
        After.NOTHING,
        "The newest commit is known.",
        "Nothing.",
    )
    AVAILABLE = (
        "Available",
        After.NOTHING,
        "Enough pods are ready.",
        "Nothing.",
    )
    UNAVAILABLE = (
        "Unavailable",
        After.WAIT,
        "Too few pods are ready.",
        "Read Ready's message.",
    )
    SCALING = (
        "Scaling",
        After.NOTHING,
        "The autoscaler is at work.",
        "Nothing.",
    )
    SCALING_INACTIVE = (
        "ScalingInactive",
        After.WAIT,
        "The autoscaler cannot work; the message has its words.",
        "Wait for the first metrics; if they never come, `kubectl top pods` tells whether metrics-server works.",
    )


def known(text: object) -> Reason | None:
    """The reason that a text names; None if a newer version wrote it."""
    return next((reason for reason in Reason if reason == text), None)


Verdict = Literal["True", "False", "Unknown"]
"""The values of a condition's status."""


def verdict(text: object) -> Verdict | None:
    """The value of a status that a text names; None if it names none."""
    return next((value for value in get_args(Verdict) if value == text), None)


@dataclass(frozen=True)
class Condition:
    """One finding about a service."""

    type: Type
    """What it speaks of."""
    status: Verdict
    """Whether it holds."""
    reason: Reason
    """Why, in one word."""
    message: str = ""
    """Why, in sentences; may be longer than what is written."""


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
                "lastTransitionTime": since or format_time(now),
                "reason": str(condition.reason),
                "message": condition.message[:LONGEST_MESSAGE],
            }
        )
    return result
