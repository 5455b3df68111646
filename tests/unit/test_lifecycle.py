"""Lives of a service, made by chance: every plan settles at once, every status keeps the rules.

A life is a resource and a row of events: commits, builds that end in every way, rollouts, changed
specs, lost statuses, deleted Jobs, time. After each the plan is carried out on a world of plain
objects, as an API server would, until nothing is left to do.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import hypothesis
from hypothesis import strategies as st

from goservice.api import parsing, resource
from goservice.api.conditions import Reason, Type, known
from goservice.api.status import Status
from goservice.decide import plan
from goservice.decide.observed import Fleet, Observed, Resolution
from goservice.decide.writes import Apply, Create, Delete, Plan
from goservice.errors import InvalidSpec
from goservice.manifest import Manifest, format_time, owned
from goservice.objects import deployment
from tests.support import factories as f
from tests.support import generate
from tests.support.verdicts import kstatus

COMMITS = ("1" * 40, "2" * 40, "3" * 40)
PASSES = 4
"""Passes: two to make a build anew, one to act, one to remove what the status has recorded by then."""


@dataclasses.dataclass
class Life:
    """A service's world, and the hands of everybody else."""

    body: Manifest
    now: datetime = f.NOW
    status: Manifest = dataclasses.field(default_factory=dict)
    children: dict[tuple[str, str], Manifest] = dataclasses.field(default_factory=dict)
    resolution: Resolution | None = None
    fleet: Fleet = Fleet()
    foreign: frozenset[tuple[str, str]] = frozenset()
    refusal: str = ""

    @property
    def service(self) -> resource.GoService:
        return parsing.parse(self.body)

    @property
    def observed(self) -> Observed:
        return Observed(
            status=self.status,
            children=self.children,
            resolution=self.resolution,
            fleet=self.fleet,
            foreign=self.foreign,
            refusal=self.refusal,
        )

    def jobs(self) -> list[Manifest]:
        return [m for (kind, _), m in sorted(self.children.items()) if kind == "Job"]

    def deployment(self) -> Manifest | None:
        return self.children.get(("Deployment", self.body["metadata"]["name"]))

    # --- events: `number` decides the details ---

    def commit(self, number: int) -> None:
        fresh = bool(number % 2)
        self.resolution = Resolution(COMMITS[number % 3], fresh=fresh)

    def git_fails(self, number: int) -> None:
        reasons = (
            Reason.REVISION_NOT_FOUND,
            Reason.GIT_UNAVAILABLE,
            Reason.GIT_AUTHENTICATION_FAILED,
            Reason.FORBIDDEN_BY_PLATFORM,
        )
        known = self.resolution.sha if self.resolution else ""
        self.resolution = Resolution(known, reasons[number % 4], "git said no")

    def builds_end(self, number: int) -> None:
        for job in self.jobs():
            if not job.get("status", {}).get("conditions"):
                self._end(job, ENDS[number % len(ENDS)])

    def _end(
        self, job: Manifest, end: tuple[str, str, Callable[[Manifest], Manifest | None]]
    ) -> None:
        kind, reason, made = end
        at = format_time(self.now)
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": at}
        job["status"] = {"conditions": [condition]}
        pod = made(job)
        if pod is not None:
            self.children["Pod", pod["metadata"]["name"]] = pod

    def rolls_out(self, number: int) -> None:
        live = self.deployment()
        if live is not None:
            generation = live["metadata"]["generation"]
            live["status"] = f.settled(live, generation=generation)["status"]

    def rollout_sticks(self, number: int) -> None:
        live = self.deployment()
        if live is None:
            return
        serves = "True" if number % 2 else "False"
        live["status"] = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": 2,
            "updatedReplicas": 1,
            "conditions": [
                {"type": "Available", "status": serves},
                {
                    "type": "Progressing",
                    "status": "False",
                    "reason": "ProgressDeadlineExceeded",
                    "lastUpdateTime": format_time(self.now),
                },
            ],
        }

    def spec_changes(self, number: int) -> None:
        before = copy.deepcopy(self.body)
        self.body["spec"] |= copy.deepcopy(CHANGES[number % len(CHANGES)])
        try:
            parsing.parse(self.body)
        except InvalidSpec:
            self.body = before
            return
        if self.body != before:
            self.body["metadata"]["generation"] += 1
            self.foreign, self.refusal = frozenset(), ""

    def asks(self, number: int) -> None:
        annotation = (resource.REBUILD_ANNOTATION, resource.RESTART_ANNOTATION)[number % 2]
        self.body["metadata"]["annotations"] = {annotation: f"request {number % 5}"}

    def time_passes(self, number: int) -> None:
        self.now = self.now + (f.later(10 ** (number % 5)) - f.NOW)

    def loses_status(self, number: int) -> None:
        self.status = {}

    def operator_is_downgraded(self, number: int) -> None:
        for condition in self.status.get("conditions", ()):
            condition["reason"] = "FromTheFuture"
        for item in self.status.get("history", ()):
            if item["outcome"] != "Succeeded":
                item["outcome"] = "FromTheFuture"

    def jobs_go(self, number: int) -> None:
        for key, child in list(self.children.items()):
            if key[0] == "Pod" or (key[0] == "Job" and child.get("status", {}).get("conditions")):
                del self.children[key]

    def others_build(self, number: int) -> None:
        self.fleet = Fleet(running=number % 2 * 100)

    def name_is_taken(self, number: int) -> None:
        name = self.body["metadata"]["name"]
        self.foreign = frozenset({("Service", name)} if number % 2 else ())

    def is_refused(self, number: int) -> None:
        self.refusal = "denied by a policy" if number % 2 else ""

    # --- carrying out ---

    def carry_out(self, decided: Plan) -> None:
        """What an API server makes of a plan."""
        for write in decided.writes:
            match write:
                case Delete(kind=kind, name=name):
                    del self.children[kind, name]
                case Create(manifest=manifest):
                    self._create(copy.deepcopy(manifest))
                case Apply(manifest=manifest):
                    self._apply(copy.deepcopy(manifest))
        if decided.status is not None:
            self.status = json.loads(json.dumps(dict(decided.status)))

    def _create(self, manifest: Manifest) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        if key in self.children:
            # The Dockerfile of a Job that is gone, after a lost status: taken as it is.
            assert key[0] == "ConfigMap"
            assert self.children[key]["data"] == manifest["data"]
            return
        self._store(key, manifest)

    def _apply(self, manifest: Manifest) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        live = self.children.get(key)
        if live is None:
            assert owned(manifest, f.UID), "only the operator's own objects are made"
            self._store(key, manifest)
            return
        replicas = live["spec"].get("replicas") if key[0] == "Deployment" else None
        if "template" not in manifest.get("spec", {"template": 0}) and key[0] == "Deployment":
            live["spec"]["replicas"] = manifest["spec"]["replicas"]  # the handover
            return
        manifest["status"] = live.get("status", {})
        if replicas is not None:
            manifest["spec"].setdefault("replicas", replicas)
        metadata = live["metadata"]
        changed = manifest.get("spec") != live.get("spec")
        self._store(key, manifest, generation=metadata["generation"] + changed, uid=metadata["uid"])

    def _store(
        self, key: tuple[str, str], made: Manifest, generation: int = 1, uid: str = ""
    ) -> None:
        made["metadata"] |= {
            "uid": uid or "/".join(key),
            "generation": generation,
            "resourceVersion": "1",
            "creationTimestamp": format_time(self.now),
        }
        if key[0] == "Deployment":
            made["spec"].setdefault("replicas", 1)
        self.children[key] = made


def _pod(**more: Any) -> Callable[[Manifest], Manifest]:
    return lambda job: f.pod(job, **copy.deepcopy(more))


def _fails_in(container: str, message: str, code: int = 1) -> Callable[[Manifest], Manifest]:
    def made(job: Manifest) -> Manifest:
        fetched = f.terminated("fetch", message=f.FETCHED % f.COMMIT)
        init = [fetched, f.terminated(container, code, message)]
        return f.pod(job, init=init if container == "build" else init[1:], main=[])

    return made


NO_MODULE = '{"reason": "NoGoMod", "message": "no go.mod"}'
ENDS: tuple[tuple[str, str, Callable[[Manifest], Manifest | None]], ...] = (
    ("Complete", "", _pod()),
    ("Complete", "", _pod()),
    ("Complete", "", lambda job: None),
    ("Failed", "BackoffLimitExceeded", lambda job: None),
    ("Failed", "DeadlineExceeded", lambda job: None),
    ("Failed", "BackoffLimitExceeded", _fails_in("build", "./a.go:1:1: undefined: x")),
    ("Failed", "BackoffLimitExceeded", _fails_in("build", "signal: killed", 137)),
    ("Failed", "BackoffLimitExceeded", _fails_in("build", "no space left on device")),
    ("Failed", "BackoffLimitExceeded", _fails_in("fetch", NO_MODULE)),
    ("Failed", "BackoffLimitExceeded", _fails_in("fetch", "\x1b[2J not JSON")),
    ("Failed", "", _pod(init=[], main=[], reason="Evicted", message="low on memory")),
)
"""How builds end: the Job's condition and reason, and its pod."""

CHANGES: tuple[Manifest, ...] = (
    {"replicas": 0}, {"replicas": 3}, {"suspend": True}, {"suspend": False}, {"ports": []},
    {"ports": [{"name": "web", "port": 9000}]}, {"timeZone": "Asia/Tokyo"}, {"args": ["--a"]},
    {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, {"autoscaling": {"maxReplicas": 1}},
    {"build": {"tags": ["changed"]}}, {"build": {"history": {"succeeded": 1, "failed": 1}}},
    {"image": {"repository": "r.example.com/b"}}, {"env": [{"name": "A", "value": "b"}]},
    {"image": {"repository": "r.example.com/b", "digest": f.OTHER_DIGEST}},
    {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}}}, {"probes": {}},
)  # fmt: skip

EVENTS: tuple[Callable[[Life, int], None], ...] = (
    Life.commit, Life.commit, Life.builds_end, Life.builds_end, Life.builds_end, Life.rolls_out,
    Life.rolls_out, Life.rollout_sticks, Life.git_fails, Life.spec_changes, Life.spec_changes,
    Life.asks, Life.time_passes, Life.loses_status, Life.jobs_go, Life.others_build,
    Life.name_is_taken, Life.is_refused, Life.operator_is_downgraded,
)  # fmt: skip

STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 59)), min_size=1, max_size=6)


@hypothesis.given(made=generate.resources(), steps=STEPS)
def test_every_plan_settles_and_every_status_keeps_the_rules(
    made: Manifest, steps: list[tuple[Callable[[Life, int], None], int]]
) -> None:
    try:
        parsing.parse(made)
    except InvalidSpec:
        hypothesis.reject()
    life = Life(made)
    for event, number in [(Life.commit, 0), *steps]:
        event(life, number)
        settles(life)


def settles(life: Life) -> None:
    """Carry out what is due; after that nothing is. A build that goes is made anew in the next pass."""
    goes = True
    for _ in range(PASSES):
        decided = plan.decide(life.service, life.observed, f.SETTINGS, life.now)
        if not goes:
            assert all(isinstance(write, Delete) for write in decided.writes), decided.writes
        if decided.status is not None:
            keeps_the_rules(life, decided.status)
        life.carry_out(decided)
        goes = any(isinstance(write, Delete) and write.kind == "Job" for write in decided.writes)
    again = plan.decide(life.service, life.observed, f.SETTINGS, life.now)
    assert again.writes == ()
    assert again.status is None
    assert again.events == ()


# --- the rules of a status -------------------------------------------------------------------------

ALWAYS = {"True", "False", "Unknown", None}
SERVING = frozenset({Reason.SERVING})
ON_THE_WAY = frozenset({Reason.RESOLVING, Reason.BUILDING, Reason.BUILD_QUEUED})
WORKLOAD = frozenset(
    {
        Reason.ROLLING_OUT,
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        Reason.POD_SECURITY_VIOLATION,
        Reason.PODS_FAILING,
        Reason.PAUSED,
    }
)
FAULTS = frozenset(
    {
        Reason.FORBIDDEN_BY_PLATFORM, Reason.CPU_REQUEST_MISSING, Reason.NOT_OWNED,
        Reason.CLUSTER_REFUSED,
    }
)  # fmt: skip
SOURCE = frozenset(
    {Reason.REVISION_NOT_FOUND, Reason.GIT_AUTHENTICATION_FAILED, Reason.GIT_UNAVAILABLE}
)


def keeps_the_rules(life: Life, status: Mapping[str, Any]) -> None:
    """kstatus' rules and the truth table, for a status that is about to be written."""
    Status.model_validate_json(json.dumps(dict(status)), strict=True)
    conditions = {c["type"]: c for c in status["conditions"]}
    assert len(conditions) == len(status["conditions"])
    assert list(conditions) == [kind for kind in Type if kind in conditions]
    before = {c["type"]: c for c in life.status.get("conditions", ())}
    for kind, condition in conditions.items():
        assert condition["observedGeneration"] == status["observedGeneration"]
        assert known(condition["reason"]) is not None
        if kind in before and before[kind]["status"] == condition["status"]:
            assert condition["lastTransitionTime"] == before[kind]["lastTransitionTime"]
        else:
            assert condition["lastTransitionTime"] == format_time(life.now)
    assert status["observedGeneration"] == life.body["metadata"]["generation"]
    if "Suspended" in conditions:
        assert {"Reconciling", "Stalled"}.isdisjoint(conditions)
        assert kstatus(conditions) == "Current"
        assert conditions.get("Ready", {"status": "True"})["status"] == "True"
    else:
        is_a_row_of_the_table(
            {kind: c["status"] for kind, c in conditions.items()}, conditions["Ready"]
        )
        wanted = {"True": "Current", "False": "Failed", "Unknown": "InProgress"}
        assert kstatus(conditions) == wanted[conditions["Ready"]["status"]]
    if status.get("servingImage") != life.status.get("servingImage"):
        assert status["servingImage"] == deployment.image_of(life.deployment())


def is_a_row_of_the_table(found: Mapping[str, str], ready: Mapping[str, Any]) -> None:
    """The truth table of conditions, row by row, by the reason of Ready."""
    reason = known(ready["reason"])
    row = (found["Ready"], found.get("Reconciling"), found.get("Stalled"))
    built = found.get("Built")
    assert found["Available"] in ("True", "False")
    going, stalled = ("Unknown", "True", None), ("False", None, "True")
    if reason in SERVING:
        assert row == ("True", None, None)
        assert built in ("True", None)
        assert found["Available"] == "True"
    elif reason in ON_THE_WAY:
        assert row == going
        assert built == "Unknown"
    elif reason == Reason.ROLLING_OUT:
        assert row == going
        assert built in ("True", None)
    elif reason in WORKLOAD:
        assert row == stalled
        assert built in ("True", None)
    elif reason in FAULTS:
        assert row == stalled
    elif reason in SOURCE and built == "Unknown" and row == stalled:
        assert reason != Reason.GIT_UNAVAILABLE
    else:
        # A failed build: stopped, or tried again.
        assert (row, built) in ((stalled, "False"), (going, "Unknown"))
