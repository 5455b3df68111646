"""Random worlds of one service that stand still: what the operator has to be silent in.

A world is a resource, a status, objects of any sort and what git and the other builds look like. Only
the operator acts in it, and time passes. `python -m tests.support.worlds --show SEED NUMBER` tells one.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from datetime import datetime, timedelta
from functools import cache, cached_property
from random import Random
from typing import Any

import hypothesis

from goservice import names
from goservice.api import parsing, resource
from goservice.api.conditions import Reason, Type
from goservice.api.resource import GoService
from goservice.decide import plan, refusals
from goservice.decide.observed import Fleet, Lookup, Observed, Resolution
from goservice.decide.writes import Apply, Create, Delete, Plan
from goservice.errors import InvalidSpec
from goservice.loop import lookups
from goservice.manifest import Manifest, format_time, owned
from goservice.objects import children, config_map
from goservice.objects.children import Wants
from goservice.objects.pod_template import Deployed
from tests.support import factories as f
from tests.support import generate

PASSES = 12
"""Passes after which a world that stands still is silent."""
DAY = timedelta(hours=24)
"""How long it is looked at after that, in simulated time."""
LOOK = timedelta(hours=7)
"""How much later a service is looked at that waits for nothing: each pass is a look at everything."""
MOST_IN_A_DAY = 6
"""Writes of that day: a try that was due later makes one Job, its file and what is said of it.

Deletes are not counted: each needs an object that was made.
"""
DELETED = "delete"
"""How the log of a world begins to tell of an object that is gone."""
RESOURCES = 400
"""Different resources that the worlds share."""

TEXTS = ("", "x", "-1", "0", "00", "7", "99999999999999999999", "\u0663", "é\x1b[2J", "a" * 300)
MOMENTS = (
    "",
    "yesterday",
    "2026-11-24T11:00:00Z",
    "2026-11-24T12:00:30Z",
    "2027-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "0000-00-00T00:00:00Z",
)


@cache
def resources() -> tuple[Manifest, ...]:
    """Resources as an API server stores them; a few cannot be parsed.

    Drawn by a process of its own: hypothesis draws from the constants of the modules that are
    loaded, so a whole run of the tests and `--show` would see different worlds.
    """
    drawn = subprocess.run(
        [sys.executable, "-m", "tests.support.worlds", "--resources"],
        check=True,
        capture_output=True,
    )
    return tuple(json.loads(drawn.stdout))


def _draw() -> list[Manifest]:
    found: list[Manifest] = []

    @hypothesis.settings(
        max_examples=RESOURCES, derandomize=True, database=None, deadline=None,
        phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(made=generate.resources())
    def draw(made: Manifest) -> None:
        found.append(copy.deepcopy(made))

    draw()
    return found


@dataclasses.dataclass
class Still:
    """A world that only the operator moves."""

    body: Manifest
    status: Manifest
    children: dict[tuple[str, str], Manifest]
    hidden: dict[tuple[str, str], Manifest]
    """Objects that no watch shows: without our labels."""
    resolution: Resolution | None
    fleet: Fleet
    refusal: str
    absent: frozenset[str]
    now: datetime = f.NOW
    foreign: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    lookups: dict[Lookup, tuple[Manifest, ...]] = dataclasses.field(default_factory=dict)
    log: list[str] = dataclasses.field(default_factory=list)
    made: set[str] = dataclasses.field(default_factory=set)
    """Jobs that were ever there, by name."""
    faults: list[str] = dataclasses.field(default_factory=list)
    version: int = 0
    passes: int = 0
    at_rest: bool = False
    """Whether the last pass did nothing, and waits for nothing but a change."""

    def observed(self) -> Observed:
        """What a pass sees."""
        return Observed(
            status=self.status, children=self.children, resolution=self.resolution,
            fleet=self.fleet, lookups=dict(self.lookups), foreign=frozenset(self.foreign),
            refusal=self.refusal, absent=self.absent,
        )  # fmt: skip

    def decide(self) -> Plan:
        """One plan."""
        service = self.service
        if isinstance(service, InvalidSpec):
            return refusals.invalid(self.body, service, self.observed(), self.now)
        return plan.decide(service, self.observed(), f.SETTINGS, self.now)

    @cached_property
    def service(self) -> GoService | InvalidSpec:
        """The resource, which nobody changes; else why it cannot be parsed."""
        try:
            return parsing.parse(self.body)
        except InvalidSpec as error:
            return error

    def act(self) -> int:
        """One pass, and the wait for the next one; the writes that it made."""
        decided = self.decide()
        if not self.passes and decided != self.decide():
            self.faults.append("two rounds on the same world give two plans")
        self.passes += 1
        before = len(self.log)
        went_well = self._carry_out(decided)
        if went_well:
            if decided.status is not None:
                self.status = json.loads(json.dumps(dict(decided.status)))
                self.log.append("status " + _told(self.status))
                self._judge()
            self.log += [f"event {event.reason}" for event in decided.events]
        for lookup in decided.lookups:
            found = (m for (kind, _), m in sorted(self.children.items()) if kind == lookup.kind)
            lookups.remember(self.lookups, lookup, tuple(found))
        wait = 0.0 if decided.lookups else decided.requeue_after
        done = len(self.log) - before
        self.at_rest = went_well and wait is None and not done
        self.now += LOOK if wait is None else timedelta(seconds=max(wait, 0.0))
        return done

    def _judge(self) -> None:
        build = self.status.get("build") or {}
        name = build.get("name")
        if name and name not in self.made and name not in self.told:
            self.faults.append(f"status.build names {name}, which was never started")
        job = self.children.get(("Job", str(name)))
        over = {
            c.get("type")
            for c in (job or {}).get("status", {}).get("conditions") or ()
            if c.get("status") == "True"
        }
        recorded = {i.get("build") for i in self.status.get("history") or ()}
        if build.get("phase") == "Running" and name in recorded and not over and job is None:
            self.faults.append(f"{name} is over and shown as running")

    def __post_init__(self) -> None:
        self.made |= {name for kind, name in self.children if kind == "Job"}
        old = self.status.get("build") or {}
        self.told = {old.get("name")} if old.get("phase") != "Queued" else set()

    def _carry_out(self, decided: Plan) -> bool:
        """What an API server makes of a plan; whether all went well."""
        uid = self.body["metadata"]["uid"]
        for write in decided.writes:
            if isinstance(write, Delete):
                live = self.children.get((write.kind, write.name))
                there = live is not None and live["metadata"].get("uid") == write.uid
                self.log.append(f"{DELETED if there else 'vain delete'} {write.kind} {write.name}")
                if there:
                    del self.children[write.kind, write.name]
                continue
            made = copy.deepcopy(write.manifest)
            key = made["kind"], made["metadata"]["name"]
            live = self.children.get(key) or self.hidden.get(key)
            if live is not None and not owned(live, uid):
                self.foreign.add(key)
                return False
            if isinstance(write, Create):
                if live is None:
                    self.log.append(f"create {key[0]} {key[1]}")
                    if key[0] == "Job":
                        if key[1] in self.made:
                            self.faults.append(f"the name {key[1]} is used for two Jobs")
                        self.made.add(key[1])
                    self._store(key, made)
                elif key[0] == "Job":
                    self.faults.append(f"{key[1]} is there and is made again")
                continue
            assert isinstance(write, Apply)
            self.log.append(f"apply {key[0]} {key[1]}")
            self._store(key, _merged(live, made) if live else made)
        return True

    def _store(self, key: tuple[str, str], made: Manifest) -> None:
        self.version += 1
        before = made["metadata"].get("generation", 0)
        made["metadata"] |= {
            "uid": made["metadata"].get("uid") or f"uid-{self.version}",
            "generation": before + 1,
            "resourceVersion": str(self.version),
        }
        made["metadata"].setdefault("creationTimestamp", format_time(self.now))
        if key[0] == "Deployment":
            made["spec"].setdefault("replicas", 1)
        self.children[key] = made


def _merged(live: Manifest, made: Manifest) -> Manifest:
    """Enough of server-side apply: maps merge, everything else is replaced."""
    result = dict(live)
    for key, value in made.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _told(status: Manifest) -> str:
    ready: Manifest = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return (
        f"{ready.get('status')} {ready.get('reason')} build={status.get('build', {}).get('name')}"
    )


# --- making them ----------------------------------------------------------------------------------


def world(seed: int, number: int) -> Still:
    """One world; the same for the same two numbers."""
    chance = Random(f"{seed}/{number}")
    body = copy.deepcopy(chance.choice(resources()) if chance.random() < 0.5 else f.body())
    _vary(chance, body)
    try:
        service = parsing.parse(body)
    except InvalidSpec:
        service = f.service()
    commits = (f.COMMIT, f.NEWER, "3" * 40)
    found: dict[tuple[str, str], Manifest] = {}
    hidden: dict[tuple[str, str], Manifest] = {}
    jobs: list[Manifest] = []
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 6))):
        jobs += _job(chance, service, chance.choice(commits), found)
    _workload(chance, service, found, hidden, jobs)
    return Still(
        body=body,
        status=_status(chance, service, commits, jobs),
        children=found,
        hidden=hidden,
        resolution=_resolution(chance, commits),
        fleet=chance.choice((Fleet(), Fleet(), Fleet(10, 0), Fleet(9, 5), Fleet(100, 10))),
        refusal=chance.choice(("",) * 9 + ("denied by a policy",)),
        absent=frozenset(
            c.kind.kind for c in children.CHILDREN if c.optional and chance.random() < 0.2
        ),
    )


def _vary(chance: Random, body: Manifest) -> None:
    body["metadata"]["generation"] = chance.choice((1, 1, 2, 7))
    spec = body["spec"]
    if chance.random() < 0.1:
        spec["suspend"] = True
    if chance.random() < 0.1:
        spec.setdefault("image", {})["digest"] = f.DIGEST
    if chance.random() < 0.05:
        spec["replicas"] = chance.choice((0, 5, "many"))
    if chance.random() < 0.2:
        spec.setdefault("build", {})["history"] = {"succeeded": 1, "failed": 1}
    if chance.random() < 0.25:
        which = chance.choice((resource.REBUILD_ANNOTATION, resource.RESTART_ANNOTATION))
        body["metadata"].setdefault("annotations", {})[which] = chance.choice(TEXTS)


def _resolution(chance: Random, commits: tuple[str, ...]) -> Resolution | None:
    sha = chance.choice((*commits[:2], commits[0], ""))
    failed = (
        None,
        None,
        None,
        Reason.REVISION_NOT_FOUND,
        Reason.GIT_UNAVAILABLE,
        Reason.GIT_AUTHENTICATION_FAILED,
        Reason.FORBIDDEN_BY_PLATFORM,
    )
    reason = chance.choice(failed)
    if chance.random() < 0.1 or (not sha and reason is None):
        return None
    return Resolution(sha, reason, "git said no" if reason else "", fresh=chance.random() < 0.3)


def _owner(chance: Random, manifest: Manifest) -> None:
    """Whose it is: mostly ours."""
    kind = chance.random()
    if kind < 0.8:
        return
    references = manifest["metadata"].get("ownerReferences") or [{}]
    if kind < 0.9:
        references[0]["uid"] = "another"
    elif kind < 0.95:
        manifest["metadata"].pop("ownerReferences", None)
    else:
        references[0]["kind"] = "ReplicaSet"


def _job(chance: Random, service: Any, commit: str, found: dict[Any, Manifest]) -> list[Manifest]:
    if service.spec.source is None:
        return []
    attempt = chance.choice((1, 1, 2, 3, 12))
    ended, why = chance.choice(
        (
            ("", ""),
            ("Complete", ""),
            ("Failed", "BackoffLimitExceeded"),
            ("Failed", "DeadlineExceeded"),
            ("Failed", "Odd"),
        )
    )
    made = f.job(
        service, commit=commit, attempt=attempt, ended=ended, ended_reason=why,
        created=f.later(chance.choice((-100000, -600, -30, 0, 20))),
        finished=f.later(chance.choice((-90000, -60, 0, 600))),
        notes={names.TRIES: chance.choice(("1", "2", "5", "9", *TEXTS))},
    )  # fmt: skip
    made["metadata"].setdefault("namespace", service.namespace)
    if chance.random() < 0.15:
        notes = made["metadata"]["annotations"]
        notes[
            chance.choice(
                (
                    names.ATTEMPT,
                    names.INPUTS,
                    names.COMMIT,
                    names.TRIGGER,
                    names.GENERATION,
                    names.REBUILD_HANDLED,
                )
            )
        ] = chance.choice(TEXTS)
    if chance.random() < 0.1:
        made["spec"]["suspend"] = True
    if chance.random() < 0.05:
        made.pop("status", None)
    if chance.random() < 0.05:
        made["metadata"]["deletionTimestamp"] = format_time(f.NOW)
    _owner(chance, made)
    name = made["metadata"]["name"]
    fate = chance.random()
    if fate < 0.75:
        found["Job", name] = made
    if chance.random() < 0.7:
        files = config_map.build_files(service, f.SETTINGS, commit, "x", name)
        files["metadata"] |= {"uid": f"files-{name}", "resourceVersion": "1"}
        _owner(chance, files)
        found["ConfigMap", name] = files
    for index in range(chance.choice((0, 0, 1, 1, 2, 4)) if fate < 0.85 else 0):
        pod = _pod(chance, made)
        pod["metadata"]["name"] += str(index)
        found["Pod", pod["metadata"]["name"]] = pod
    return [made]


def _pod(chance: Random, job: Manifest) -> Manifest:
    words = (
        "undefined: x",
        '{"reason": "NoGoMod", "message": "no go.mod"}',
        "",
        "{",
        "[1]",
        "\x1b[2J",
        "null",
        f.DIGEST,
        "no space left on device",
        '{"commit": 3, "go": [], "time": {}}',
    )
    ends = [
        f.terminated(name, chance.choice((0, 0, 1, 137)), chance.choice(words))
        for name in ("fetch", "build")
    ]
    waiting = {
        "name": "build",
        "state": {
            "waiting": {
                "reason": chance.choice(
                    ("ImagePullBackOff", "PodInitializing", "CreateContainerConfigError")
                ),
                "message": "m",
            }
        },
    }
    running = {"name": "fetch", "state": {"running": {}}}
    shapes: tuple[Any, ...] = (
        (None, None), (ends, []), (ends[:1], []), ([waiting], []), ([running], []), ([], []),
        (ends, [f.terminated("push", chance.choice((0, 1)), chance.choice(words))]), ([{"name": "odd", "state": {}}], []),
    )  # fmt: skip
    init, main = chance.choice(shapes)
    more = chance.choice(
        (
            {},
            {"reason": "Evicted", "message": "low"},
            {"phase": "Failed"},
            {"phase": "Unknown"},
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]},
        )
    )
    made = f.pod(job, init=init, main=main, **more)
    if chance.random() < 0.05:
        made.pop("status")
    if chance.random() < 0.1:
        made["metadata"]["deletionTimestamp"] = format_time(f.NOW)
    return made


def _workload(
    chance: Random,
    service: Any,
    found: dict[Any, Manifest],
    hidden: dict[Any, Manifest],
    jobs: list[Manifest],
) -> None:
    if chance.random() < 0.4:
        return
    image = names.image(service, chance.choice((f.DIGEST, f.OTHER_DIGEST)))
    wants = Wants(
        service,
        f.SETTINGS,
        None,
        Deployed(image, service.spec.user.uid, service.spec.time_zone, ""),
    )
    for child in children.CHILDREN:
        if child.component != "app" or chance.random() < 0.15:
            continue
        made = child.wanted(wants)
        if made is None:
            continue
        made = copy.deepcopy(made)
        made["metadata"] |= {
            "uid": f"{child.kind.kind}-uid",
            "resourceVersion": "5",
            "generation": 1,
        }
        _owner(chance, made)
        if made["kind"] == "Deployment":
            made = _deployment(chance, made, jobs)
        place = made["kind"], made["metadata"]["name"]
        (hidden if chance.random() < 0.03 else found)[place] = made


def _deployment(chance: Random, made: Manifest, jobs: list[Manifest]) -> Manifest:
    made = f.settled(made, generation=chance.choice((1, 2)))
    notes = made["metadata"].setdefault("annotations", {})
    if jobs and chance.random() < 0.7:
        of = chance.choice(jobs)["metadata"]["annotations"]
        notes |= {key: of[key] for key in (names.COMMIT, names.INPUTS, names.ATTEMPT) if key in of}
    if chance.random() < 0.2:
        notes[
            chance.choice(
                (
                    names.ATTEMPT,
                    names.INPUTS,
                    names.TEMPLATE,
                    names.RENDERED,
                    names.REPLICAS_OF,
                    names.USER_ID,
                    names.GO_VERSION,
                )
            )
        ] = chance.choice(TEXTS)
    kind = chance.randrange(8)
    if kind == 0:
        made["status"] = {}
    elif kind == 1:
        made["status"]["observedGeneration"] = 0
    elif kind == 2:
        made["status"]["conditions"] = []
    elif kind == 3:
        made["status"] |= {"availableReplicas": 0, "readyReplicas": 0, "updatedReplicas": 0}
        made["status"]["conditions"][1] |= {"reason": "ProgressDeadlineExceeded", "status": "False"}
    elif kind == 4:
        made["spec"]["paused"] = True
    elif kind == 5:
        made["status"]["conditions"][1]["lastUpdateTime"] = chance.choice(MOMENTS)
        made["status"]["updatedReplicas"] = 0
    return made


def _status(
    chance: Random, service: Any, commits: tuple[str, ...], jobs: list[Manifest]
) -> Manifest:
    """As this or another version wrote it, partly lost, or whatever the schema lets stand."""
    if chance.random() < 0.2:
        return {}
    build_names = [job["metadata"]["name"] for job in jobs] + [
        "x",
        f"{service.name}-build-{'a' * 10}-3",
    ]
    if service.spec.source is not None:
        build_names.append(f.job(service, attempt=chance.choice((1, 4)))["metadata"]["name"])
    outcomes = (
        "Succeeded",
        "BuildFailed",
        "NodeLost",
        "Evicted",
        "RetriesExhausted",
        "FromTheFuture",
        "",
    )
    history = {}
    for name in chance.sample(build_names, chance.randrange(len(build_names) + 1)):
        item = {"build": name, "outcome": chance.choice(outcomes)}
        if chance.random() < 0.7:
            item["commit"] = chance.choice((*commits, "x"))
        if chance.random() < 0.7:
            item["builtAt"] = chance.choice(MOMENTS)
        if item["outcome"] == "Succeeded" or chance.random() < 0.1:
            item["image"] = chance.choice((names.image(service, f.DIGEST), "odd", "a@sha256:b"))
        history[name] = item
    conditions = [
        {"type": str(kind), "status": chance.choice(("True", "False", "Unknown")), "reason": str(chance.choice([*list(Reason)[:40], "FromTheFuture"])), "message": chance.choice(TEXTS), "lastTransitionTime": "2026-11-24T11:00:00Z"}
        for kind in (*Type, "Odd/Type") if chance.random() < 0.6
    ]  # fmt: skip
    whole: Manifest = {
        "observedGeneration": chance.choice((0, 1, 2, 9)),
        "conditions": conditions,
        "commit": {"sha": chance.choice((*commits, "x"))},
        "latestImage": "odd", "servingImage": "odd", "goVersion": chance.choice(TEXTS)[:64],
        "replicas": 3, "readyReplicas": 1, "selector": "a=b", "url": "u",
        "lastHandledRebuildAt": chance.choice(TEXTS)[:64],
        "lastHandledRestartAt": chance.choice(TEXTS)[:64],
        "history": list(history.values()),
        "build": {
            "name": chance.choice(build_names), "attempt": chance.choice((0, 1, 9)),
            "trigger": ["Odd"], "phase": chance.choice(("Queued", "Running", "Succeeded", "Failed")),
            "startedAt": chance.choice(MOMENTS), "reason": "Odd", "logTail": "t",
        },
        "dockerfile": {"configMap": "x"},
        "warnings": [{"field": "a", "message": "b"}],
    }  # fmt: skip
    if chance.random() < 0.3:
        whole["build"] = {"name": chance.choice(build_names)}
    lost = chance.choice((0.0, 0.0, 0.2, 0.5))
    return {key: value for key, value in whole.items() if chance.random() >= lost}


# --- judging them ---------------------------------------------------------------------------------


def faults(seed: int, number: int) -> list[str]:
    """What is wrong with the operator in one world; nothing if all is well."""
    still = world(seed, number)
    return judged(still)


def judged(still: Still) -> list[str]:
    """Let a world stand still, and tell what is wrong."""
    try:
        for _ in range(PASSES):
            still.act()
            if still.at_rest:
                break
        last = still.act()
        if last:
            still.faults.append(f"after {PASSES} passes it still writes: {still.log[-last:]}")
        before, until = len(still.log), still.now + DAY
        for _ in range(100):
            if still.now >= until:
                break
            still.act()
        later = sum(not one.startswith(DELETED) for one in still.log[before:])
        if later > MOST_IN_A_DAY:
            still.faults.append(f"{later} writes in a day: {still.log[-6:]}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a defect
        still.faults.append(f"raised {type(error).__name__}: {error}")
    return still.faults


def show(seed: int, number: int) -> str:
    """A world, what was done in it, and what is wrong."""
    before = world(seed, number)
    still = copy.deepcopy(before)
    wrong = judged(still)
    told = {
        "spec": before.body["spec"], "metadata": before.body["metadata"], "status": before.status,
        "objects": [
            {"kind": kind, "name": name, "owners": m["metadata"].get("ownerReferences"), "annotations": m["metadata"].get("annotations"), "status": m.get("status")}
            for (kind, name), m in before.children.items()
        ],
        "resolution": str(before.resolution), "fleet": str(before.fleet), "refusal": before.refusal,
        "absent": sorted(before.absent), "log": still.log, "wrong": wrong,
    }  # fmt: skip
    return json.dumps(told, indent=1, default=str)


if __name__ == "__main__":
    if sys.argv[1] == "--show":
        print(show(int(sys.argv[2]), int(sys.argv[3])))
    elif sys.argv[1] == "--resources":
        print(json.dumps(_draw()))
    else:
        seed, count = int(sys.argv[1]), int(sys.argv[2])
        wrong = 0
        for number in range(count):
            for fault in faults(seed, number):
                wrong += 1
                print(number, fault[:300])
        print(f"seed {seed}: {count} worlds, {wrong} faults")
