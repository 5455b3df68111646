"""The first life of a service, from the first sight of it until it serves: plans, carried out.

The plans are the operator's own. What a cluster does with what they write is played here in the
plainest way: every build succeeds, every rollout ends.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from goservice import names
from goservice.api.resource import GoService
from goservice.decide import plan
from goservice.decide.observed import Observed, Resolution
from goservice.decide.writes import Apply, Create, Delete, Plan, Write
from goservice.manifest import Manifest
from goservice.settings import Settings
from tests.support import factories as f

COMMIT = "4f6e1c0b9d2a73855e0f1a2b3c4d5e6f70819203"
"""The commit that a first life builds."""
DIGEST = "sha256:" + "0" * 64
"""The image that its build pushes."""
BUILT = f.later(60)
"""When its build ends; it was ordered at `factories.NOW`."""
ROLLED_OUT = f.later(75)
"""When its pods are ready."""

Place = tuple[str, str]
"""An object's kind and name."""


class Stage(StrEnum):
    """How far a first life has come."""

    ORDERED = "ordered"
    """The build's Job is there, and no pod of it."""
    BUILDING = "building"
    """The build's pod is there, too; the kubelet has said nothing of it yet."""
    BUILT = "built"
    """The image is pushed; the operator has not seen it yet."""
    ROLLING_OUT = "rollingOut"
    """Everything is applied; no controller has looked at the Deployment yet."""
    SERVING = "serving"
    """The pods serve, and the status says so."""


@dataclass
class World:
    """What there is of one service, and how it came about."""

    service: GoService
    """The resource."""
    settings: Settings
    """The platform's settings."""
    children: dict[Place, Manifest] = field(default_factory=dict)
    """Its objects as a cluster shows them."""
    status: Manifest = field(default_factory=dict)
    """Its status as last written."""
    absent: frozenset[str] = frozenset()
    """Kinds that the cluster does not serve."""
    plans: list[Plan] = field(default_factory=list)
    """Every pass, the first one first."""

    def passes(self, now: datetime, commit: str = "") -> None:
        """One pass, carried out."""
        resolution = Resolution(commit) if commit else None
        observed = Observed(
            status=self.status,
            children=self.children,
            resolution=resolution,
            absent=self.absent,
        )
        decided = plan.decide(self.service, observed, self.settings, now)
        for write in decided.writes:
            self._carry_out(write, now)
        if decided.status is not None:
            self.status = copy.deepcopy(dict(decided.status))
        self.plans.append(decided)

    def _carry_out(self, write: Write, now: datetime) -> None:
        match write:
            case Create(manifest=manifest) | Apply(manifest=manifest, manager=names.OPERATOR):
                place = (manifest["kind"], manifest["metadata"]["name"])
                self.children[place] = _stored(manifest, now)
            case Apply(manifest=manifest):
                live = self.children[manifest["kind"], manifest["metadata"]["name"]]
                live["spec"] |= manifest["spec"]
            case Delete(kind=kind, name=name):
                del self.children[kind, name]
            case _:
                assert_never(write)

    def of_kind(self, kind: str) -> list[Manifest]:
        """The objects of a kind."""
        return [manifest for (its, _), manifest in self.children.items() if its == kind]

    def start_builds(self) -> None:
        """Every Job has a pod."""
        for job in self.of_kind("Job"):
            self._put(f.pod(job, init=[]))

    def end_builds(self, go: str) -> None:
        """Every build pushes its image. `go` is the go line of the module's go.mod."""
        for job in self.of_kind("Job"):
            says = {"fetch": _fetched(go), "build": DIGEST}
            first = job["spec"]["template"]["spec"]["initContainers"]
            ended = [f.terminated(c["name"], message=says.get(c["name"], "")) for c in first]
            self._put(f.pod(job, init=ended, main=[f.terminated("push")], phase="Succeeded"))
            complete = {
                "type": "Complete",
                "status": "True",
                "reason": "CompletionsReached",
                "lastTransitionTime": f.stamp(BUILT),
            }
            job["status"] = {"conditions": [complete], "completionTime": f.stamp(BUILT)}

    def roll_out(self) -> None:
        """Every Deployment's pods are ready."""
        for deployment in self.of_kind("Deployment"):
            self._put(f.settled(deployment))

    def _put(self, manifest: Manifest) -> None:
        self.children[manifest["kind"], manifest["metadata"]["name"]] = manifest


def first_life(
    service: GoService,
    settings: Settings,
    go: str,
    until: Stage = Stage.SERVING,
    absent: frozenset[str] = frozenset(),
) -> World:
    """The world of a service whose first life has come so far. `absent`: kinds that are not served."""
    world = World(service, settings, absent=absent)
    commit = "" if service.spec.image.digest else COMMIT
    world.passes(f.NOW)
    world.passes(f.NOW, commit)
    if until is Stage.ORDERED:
        return world
    world.start_builds()
    if until is Stage.BUILDING:
        return world
    world.end_builds(go)
    if until is Stage.BUILT:
        return world
    world.passes(BUILT, commit)
    if until is Stage.ROLLING_OUT:
        return world
    world.roll_out()
    world.passes(ROLLED_OUT, commit)
    return world


def _stored(manifest: Manifest, now: datetime) -> Manifest:
    """A new object as the API server stores it."""
    stored = copy.deepcopy(manifest)
    kind, name = stored["kind"], stored["metadata"]["name"]
    server_owned: dict[str, Any] = {"uid": uid_of(kind, name), "creationTimestamp": f.stamp(now)}
    if kind == "Deployment":
        server_owned["generation"] = 1
        stored["spec"].setdefault("replicas", 1)
    stored["metadata"] |= server_owned
    return stored


def uid_of(kind: str, name: str) -> str:
    """The uid that an object of a first life has."""
    return f"{kind}-{name}".lower()


def _fetched(go: str) -> str:
    """What the container `fetch` tells of the commit."""
    return json.dumps(
        {
            "commit": COMMIT,
            "time": "2026-11-24T11:59:00+00:00",
            "author": "A. Author",
            "subject": "Take payments",
            "go": go,
            "toolchain": "",
        }
    )
