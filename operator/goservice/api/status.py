"""What the operator says about a service: the shape of `status`.

It exists for the CRD's schema and its words. The operator writes plain mappings; the bounds here
are generous, since a status that the API server refuses would be said to nobody.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from goservice.api.fields import Model, Reserved, Text, listing

Count = Annotated[int, Field(ge=0, le=2147483647)]
Generation = Annotated[int, Field(ge=0, le=9007199254740991, json_schema_extra={"format": "int64"})]
Sha = Annotated[str, Field(max_length=64)]
ImageByDigest = Annotated[str, Field(max_length=512)]
Moment = Annotated[str, Field(max_length=64)]
Request = Annotated[str, Field(max_length=64)]


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class StatusCondition(Model):
    """One finding about the service, in the shape of metav1.Condition."""

    type: Annotated[
        str,
        Text(
            r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])",
            316,
            "a condition type in CamelCase",
        ),
    ]
    """Ready, Reconciling, Stalled, SourceResolved, Built, Available or Autoscaled."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Generation | None = None
    """The generation of the resource that the condition speaks of."""
    last_transition_time: Annotated[
        str, Field(max_length=64, json_schema_extra={"format": "date-time"})
    ]
    """When `status` changed last."""
    reason: Annotated[
        str, Text(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", 1024, "a reason in CamelCase")
    ]
    """Why, in one CamelCase word."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, in sentences."""


class Commit(Model):
    """A commit of the repository."""

    sha: Sha
    """Its full hash."""
    time: Moment | None = None
    """When it was committed."""
    author: Annotated[str, Field(max_length=512)] | None = None
    """Who wrote it."""
    message: Annotated[str, Field(max_length=512)] | None = None
    """The first line of its message."""


class BuildPhase(StrEnum):
    """How far a build is."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class BuildStatus(Model):
    """The newest build."""

    name: Annotated[str, Field(max_length=253)]
    """The name of its Job and its ConfigMap."""
    attempt: Count | None = None
    """Which attempt at the same inputs it is."""
    trigger: Annotated[list[Annotated[str, Field(max_length=64)]], listing(max_length=8)] | None = (
        None
    )
    """Why it was started: FirstBuild, NewCommit, SpecChanged, SettingsChanged, RebuildRequested or Retry."""
    phase: BuildPhase | None = None
    """How far it is."""
    started_at: Moment | None = None
    """When it was started."""
    finished_at: Moment | None = None
    """When it ended."""
    reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why it failed, in one word."""
    log_tail: Annotated[str, Field(max_length=8192)] | None = None
    """The last lines of the container that failed."""
    logs_command: Annotated[str, Field(max_length=1024)] | None = None
    """The command that shows the whole log."""


class Built(Model):
    """A finished build."""

    build: Annotated[str, Field(max_length=253)]
    """The build's name."""
    image: ImageByDigest | None = None
    """The image that it made, if it made one."""
    arch: Annotated[str, Field(max_length=64)] | None = None
    """The architecture that the image is made for, such as arm64: its pods go to nodes of that one."""
    untagged: bool | None = None
    """Whether the registry refused the image its tag, so that its digest alone names it."""
    commit: Sha | None = None
    """The commit that it was made from."""
    built_at: Moment | None = None
    """When it ended."""
    outcome: Annotated[str, Field(max_length=1024)]
    """Succeeded, or the reason of the failure."""


class RenderedDockerfile(Model):
    """Where the Dockerfile of the newest build can be read."""

    config_map: Annotated[str, Field(max_length=253)]
    """The ConfigMap with the keys Dockerfile and Dockerfile.dockerignore."""
    hash: Annotated[Annotated[str, Field(max_length=64)] | None, Reserved()] = None
    """The hash of its text. Reserved: nothing writes it yet."""


class Warned(Model):
    """Something that works and should be looked at."""

    field: Annotated[str, Field(max_length=253)]
    """The field that it is about: of the spec, or of an object (`Deployment: spec.…`)."""
    message: Annotated[str, Field(max_length=1024)]
    """What about it."""


class Status(Model):
    """What was found and done; written by the operator alone."""

    observed_generation: Generation | None = None
    """The generation of the resource that was acted upon last."""
    conditions: Annotated[list[StatusCondition], listing(("type",), max_length=16)] | None = None
    """The findings. Ready sums them up; Reconciling and Stalled exist only while True."""
    commit: Commit | None = None
    """The newest commit that is known."""
    latest_image: ImageByDigest | None = None
    """The image of the last successful build."""
    serving_image: ImageByDigest | None = None
    """The image of the last Deployment that was rolled out completely."""
    build: BuildStatus | None = None
    """The newest build."""
    go_version: Annotated[str, Field(max_length=64)] | None = None
    """The go line of the module's go.mod."""
    replicas: Count | None = None
    """Pods that there are."""
    ready_replicas: Count | None = None
    """Pods that get requests."""
    selector: Annotated[str, Field(max_length=512)] | None = None
    """The label selector of the service's pods, for kubectl scale and autoscalers."""
    url: Annotated[str, Field(max_length=512)] | None = None
    """Where the service answers inside the cluster."""
    history: Annotated[list[Built], listing(("build",), max_length=10)] | None = None
    """The newest finished builds."""
    dockerfile: RenderedDockerfile | None = None
    """Where the rendered Dockerfile can be read."""
    last_handled_rebuild_at: Request | None = None
    """The value of the annotation goservice.dev/rebuild-requested-at that was answered last."""
    last_handled_restart_at: Request | None = None
    """The value of the annotation goservice.dev/restart-requested-at that was answered last."""
    warnings: Annotated[list[Warned], listing(max_length=16)] | None = None
    """What works and should be looked at."""
