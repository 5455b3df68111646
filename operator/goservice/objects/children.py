"""The table of everything that a service has: one row for each kind of child and part it plays.

Whoever needs "all kinds" reads this table: what is watched, applied, rendered and granted, what an
uninstall finds, and what the tests go through. A new child is one file beside this one and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from goservice import names
from goservice.api.conditions import Type
from goservice.api.resource import GoService
from goservice.manifest import Kind, Manifest
from goservice.objects import (
    config_map,
    deployment,
    horizontal_pod_autoscaler,
    job,
    persistent_volume_claim,
    pod_disruption_budget,
    service,
    service_account,
)
from goservice.objects.pod_template import Deployed
from goservice.settings import Settings


@dataclass(frozen=True)
class BuildOrder:
    """One build: what its objects are named after and made of."""

    commit: str
    """The full commit, 40 hex digits."""
    inputs: str
    """The hash of the build's inputs."""
    attempt: int
    """Counts builds of the same inputs, from 1."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the Job that outlive the pass."""


@dataclass(frozen=True)
class Wants:
    """What children are made of, in one pass."""

    service: GoService
    """The resource."""
    settings: Settings
    """The platform's settings."""
    order: BuildOrder | None = None
    """The build that is to start; None if none is."""
    deployed: Deployed | None = None
    """What the pods are to run; None while there is no image."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the Deployment: what it remembers of its image."""


class Upkeep(Enum):
    """When a child is written."""

    WATCHED = auto()
    """Never: somebody else makes it of ours."""
    CREATED = auto()
    """Created once for each build, under a name of its own, and deleted with the history."""
    BEFORE_BUILD = auto()
    """Applied before a build starts, where there is none."""
    WHILE_BUILDING = auto()
    """Made when a build starts, and applied from then on when it is wanted otherwise. Never deleted."""
    APPLIED = auto()
    """Applied whenever the live one does not cover it; deleted when it is not wanted any more."""
    ROLLED_OUT = auto()
    """As APPLIED, with a pod template that stays while its inputs do, and replicas that change hands."""


READ = frozenset({"list", "watch"})
"""The verbs of what is only watched."""
MADE_ONCE = READ | {"get", "create", "delete"}
"""One `get` tells whose an object is that the watches do not show."""
KEPT = READ | {"get", "create", "patch"}
"""An apply that creates is checked for `create` too, one that changes only for `patch`."""
REMOVED = KEPT | {"delete"}
"""The verbs of what is deleted when it is not wanted any more."""


Component = Literal["app", "build"]
"""Values of the label app.kubernetes.io/component: what runs, and what builds."""


@dataclass(frozen=True)
class Child:
    """A row: one kind of object, in one part."""

    kind: Kind
    """How it is addressed."""
    component: Component
    """The part that it plays."""
    verbs: frozenset[str]
    """What the operator asks of the kind; the role of the install grants it."""
    upkeep: Upkeep
    """When it is written."""
    why: str = field(kw_only=True)
    """What the operator needs its verbs for: a sentence or two for the docs."""
    wanted: Callable[[Wants], Manifest | None] = lambda _: None
    """The object; None if there is to be none."""
    name: Callable[[GoService], str] = lambda service: service.name
    """Its name, for those that have one name for all time."""
    grown: Callable[[Manifest, Manifest], Manifest] = lambda _, wanted: wanted
    """What is wanted beside this live one, where others may make it larger and nobody smaller."""
    goes_first: bool = False
    """Whether an unwanted one is deleted before the others are applied."""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Further labels that the watch selects on. Where a kind has several rows, the first one's count."""
    unread: str = ""
    """The largest part of the object, where no pass reads it: it is not kept in memory."""
    large: bool = False
    """Whether anybody may fill an object of the kind with a MiB: lists of it come in small pages."""
    optional: Type | None = None
    """The condition that says so where the cluster does not serve the kind. None: the API is always there."""

    def __post_init__(self) -> None:
        """A kind that may be absent must be APPLIED: only such a row can be skipped in a pass without harm."""
        assert self.optional is None or self.upkeep is Upkeep.APPLIED


def _order(wants: Wants) -> BuildOrder:
    assert wants.order is not None
    return wants.order


def _config_map(wants: Wants) -> Manifest:
    order = _order(wants)
    build = names.build(wants.service, order.inputs, order.attempt)
    return config_map.build_files(wants.service, wants.settings, order.commit, order.inputs, build)


def _job(wants: Wants) -> Manifest:
    order = _order(wants)
    return job.build_job(
        wants.service,
        wants.settings,
        order.commit,
        order.inputs,
        attempt=order.attempt,
        notes=order.notes,
    )


def _deployment(wants: Wants) -> Manifest:
    assert wants.deployed is not None
    return deployment.deployment(wants.service, wants.settings, wants.deployed, wants.notes)


CHILDREN: tuple[Child, ...] = (
    Child(
        Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        "build",
        KEPT,
        Upkeep.WHILE_BUILDING,
        lambda wants: persistent_volume_claim.cache_claim(wants.service),
        names.cache_claim,
        grown=persistent_volume_claim.grown,
        why="The claim of `build.cache.size`. Never deleted here: its owner's deletion does that, or you.",
    ),
    Child(
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        "build",
        KEPT,
        Upkeep.BEFORE_BUILD,
        lambda wants: service_account.build_account(wants.service),
        names.build_account,
        why="One for builds, without token and rights.",
    ),
    Child(
        Kind("v1", "ConfigMap", "configmaps"),
        "build",
        MADE_ONCE,
        Upkeep.CREATED,
        _config_map,
        large=True,
        unread="data",
        why="The rendered Dockerfile. `list` shows all ConfigMaps to the operator; it watches only its own label.",
    ),
    Child(
        Kind("batch/v1", "Job", "jobs"),
        "build",
        MADE_ONCE,
        Upkeep.CREATED,
        _job,
        unread="spec",
        large=True,
        why="Builds, and taking old ones away. Whoever may create Jobs may run pods: this is the strongest right here.",
    ),
    Child(
        Kind("v1", "Pod", "pods"),
        "build",
        READ,
        Upkeep.WATCHED,
        # Of the pods only those that build: the service's own are asked for when a rollout stands still.
        selector={names.COMPONENT: "build"},
        unread="spec",
        large=True,
        why="How a build ended, why a rollout stands still.",
    ),
    Child(
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        "app",
        KEPT,
        Upkeep.APPLIED,
        lambda wants: service_account.account(wants.service),
        why="One for the service's pods, without token and rights.",
    ),
    Child(
        Kind("apps/v1", "Deployment", "deployments"),
        "app",
        KEPT,
        Upkeep.ROLLED_OUT,
        _deployment,
        large=True,
        why="The service. Never deleted: its owner's deletion does that.",
    ),
    Child(
        Kind("v1", "Service", "services"),
        "app",
        REMOVED,
        Upkeep.APPLIED,
        lambda wants: service.service(wants.service),
        why="The Service; a worker loses it.",
    ),
    Child(
        Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        "app",
        REMOVED,
        Upkeep.APPLIED,
        lambda wants: horizontal_pod_autoscaler.autoscaler(wants.service),
        # It must not write replicas while the Deployment takes them back.
        goes_first=True,
        why="Where `autoscaling` is set, and taking it away.",
    ),
    Child(
        Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        "app",
        REMOVED,
        Upkeep.APPLIED,
        lambda wants: pod_disruption_budget.disruption_budget(wants.service),
        why="Where there can be two pods, and taking it away.",
    ),
)
"""Every child, in the order in which they are written, watched and shown."""


def kinds_of(children: Iterable[Child]) -> dict[str, Kind]:
    """The kinds of a table by their name, each once, in its order."""
    return {child.kind.kind: child.kind for child in children}


CHILD_KINDS: Mapping[str, Kind] = kinds_of(CHILDREN)
"""The kinds of the table by their name, each once, in its order."""
UNREAD: Mapping[str, str] = {child.kind.kind: child.unread for child in CHILDREN if child.unread}
"""By kind: the key of the part of an object that no pass reads."""


LARGE: frozenset[str] = frozenset(child.kind.kind for child in CHILDREN if child.large)
"""The kinds whose lists come in small pages."""


def optional_kinds(children: Iterable[Child]) -> tuple[str, ...]:
    """The kinds of a table that a cluster may not serve, each once, in its order."""
    return tuple(dict.fromkeys(child.kind.kind for child in children if child.optional))


def of_component(component: Component, children: Sequence[Child] = CHILDREN) -> tuple[Child, ...]:
    """The rows of one part: `app` or `build`."""
    return tuple(child for child in children if child.component == component)


def watch_selector(kind: str, children: Sequence[Child] = CHILDREN) -> str:
    """The label selector of what is watched of a kind: our own objects, and of some kinds only a part."""
    labels = {names.MANAGED_BY: names.OPERATOR}
    labels |= next((child.selector for child in children if child.kind.kind == kind), {})
    return ",".join(f"{key}={value}" for key, value in labels.items())


def rendered(wants: Wants) -> list[Manifest]:
    """Every object of a service as it would be made first: of a build, if one is ordered, and of what runs."""
    build = of_component("build") if wants.order else ()
    rows = (*build, *of_component("app"))
    return [made for child in rows if (made := child.wanted(wants)) is not None]
