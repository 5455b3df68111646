"""A breadth-first walk over every state of world and operator that small steps can reach.

A state is the world, what is on its way to the operator, and the operator's memory. From each one
every step is tried: a pass of the operator, whole or ended by a crash at any of its requests; the
arrival of the next event of any watch; a controller's next act; an edit of the user. States that
differ only by uids, versions and times are one. Time stands still, so nothing waits for it.
"""

import hashlib
import json
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from goservice import errors, names
from goservice.api import parsing, resource
from goservice.cluster.kinds import ACCESS, WATCHED
from goservice.loop.cache import Cache
from goservice.loop.reconcile import Memory, Reconciler
from goservice.manifest import Manifest
from goservice.objects import deployment
from goservice.sources.polling import Answer
from testbed.inmemory.world import Request, World
from tests.faults.actors import digest
from tests.faults.oracles import TIMES
from tests.faults.server import Killed
from tests.support import factories

NAMESPACE, NAME = KEY = ("shop", "checkout")
"""The GoService of every walk."""
OTHER = "other"
"""A service whose build holds the only place when a walk begins with a full platform."""
SETTINGS = factories.SETTINGS.model_copy(
    update={"builds": factories.SETTINGS.builds.model_copy(update={"max_concurrent": 1})}
)
"""One build at once."""
CRASHES = 2
"""Ends of the operator's process in one walk."""
EDITS = 1
"""Edits of the user in one walk."""


class Git:
    """A repository that has answered already."""

    def known(self, url: str, revision: str | None) -> Answer:
        return Answer(factories.COMMIT, None, 1.0)

    def want(self, url: str, revision: str | None, interval_seconds: int, key: Any) -> None: ...
    def forget(self, key: Any) -> None: ...
    def refresh_now(self, url: str, revision: str | None) -> float:
        return 0.0


@dataclass
class State:
    """Everything that decides what comes next; it can be pickled."""

    world: bytes
    """The objects, as `World.snapshot` gives them."""
    cache: Cache
    """What the operator has seen."""
    memory: Memory
    """What it knows beside the objects."""
    streams: dict[str, list[tuple[str | None, Manifest]]] = field(default_factory=dict)
    """Events on their way, by kind."""
    crashes: int = CRASHES
    """How many may still come."""
    edits: int = EDITS
    """How many may still come."""
    jobs: tuple[str, ...] = ()
    """Every Job that was ever made."""


@dataclass
class Walk:
    """What a walk has seen."""

    states: int = 0
    """Different ones."""
    steps: int = 0
    """Tried from them."""
    ended: int = 0
    """States in which nothing is left to do."""
    violations: list[str] = field(default_factory=list)
    """Rules that a step broke."""
    complete: bool = False
    """Whether every state that can be reached was."""
    ends: set[str] = field(default_factory=set)
    """How the ends look; one sentence each."""


def walk(most: int, crashes: int = CRASHES, edits: int = EDITS, *, full: bool = False) -> Walk:
    """Walk until no new state is found, or so many were. `full`: another build holds the only place."""
    result = Walk()
    first = replace(beginning(full=full), crashes=crashes, edits=edits)
    seen = {canonical(first)}
    queue = deque([pickle.dumps(first)])
    while queue and result.states < most and len(result.violations) < 5:
        frozen = queue.popleft()
        result.states += 1
        here, moved = canonical(pickle.loads(frozen)), False
        for what, state in steps(frozen, result.violations):
            result.steps += 1
            key = canonical(state)
            moved = moved or (key != here and not what.startswith("crash"))
            if key not in seen:
                seen.add(key)
                queue.append(pickle.dumps(state))
        if not moved:
            result.ended += 1
            result.ends.add(_end(frozen, result.violations))
    result.complete = not queue
    return result


def beginning(*, full: bool = False) -> State:
    """A GoService that the operator has just seen; `full`: while another's build runs."""
    world = World(access=ACCESS)
    body = factories.body()
    del body["metadata"]["uid"], body["metadata"]["generation"]
    made = world.add(body)
    cache = Cache()
    cache.put(resource.KIND, made)
    if full:
        other = factories.body()
        other["metadata"]["name"] = OTHER
        del other["metadata"]["uid"], other["metadata"]["generation"]
        theirs = world.add(other)
        job = factories.job(parsing.parse(theirs))
        del job["metadata"]["uid"], job["metadata"]["creationTimestamp"], job["status"]
        cache.put(resource.KIND, theirs)
        cache.put("Job", world.add(job))
    return State(world.snapshot(), cache, Memory())


# --- steps ------------------------------------------------------------------------------------------


def steps(frozen: bytes, violations: list[str]) -> Iterator[tuple[str, State]]:
    """Every state that one step leads to, with the step's name."""
    state: State = pickle.loads(frozen)
    requests = Bench(pickle.loads(frozen)).make_pass(None)
    yield from _checked("pass", requests, violations)
    if state.crashes:
        for point in range(requests.count):
            for after in (False, True):
                bench = Bench(pickle.loads(frozen)).make_pass((point, after))
                yield from _checked(f"crash {point}", bench, violations)
    for kind, events in state.streams.items():
        if events:
            bench = Bench(pickle.loads(frozen))
            bench.deliver(kind)
            yield from _checked(f"event {kind}", bench, violations)
    for what, act in ACTS.items():
        bench = Bench(pickle.loads(frozen))
        if act(bench):
            yield from _checked(what, bench, violations)


def _checked(what: str, bench: "Bench", violations: list[str]) -> Iterator[tuple[str, State]]:
    violations += [f"{what}: {fault}" for fault in bench.faults]
    yield what, bench.state()


class Bench:
    """A state in which one step can be made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.world = World(access=ACCESS)
        self.world.restore(state.world)
        self.world.clock = lambda: factories.stamp(factories.NOW)
        self.faults: list[str] = []
        self.count = 0
        """Requests of the pass."""
        self.by_operator = False
        self.world.on_change(self._changed)

    def state(self) -> State:
        """The state after the step, without the events that are no news to the operator."""
        for kind, events in self._state.streams.items():
            while events and self._is_known(kind, *events[0]):
                events.pop(0)
        self._state.world = self.world.snapshot()
        return self._state

    def _is_known(self, kind: str, change: str | None, manifest: Manifest) -> bool:
        """Whether the cache holds this state of the object, or a newer one: the event of our own
        write comes after its answer, and when it comes makes no difference."""
        held = self._state.cache.get(kind, (NAMESPACE, manifest["metadata"]["name"]))
        if change == "DELETED" or held is None:
            return False
        return _version(held) >= _version(manifest)

    def make_pass(self, strike: tuple[int, bool] | None) -> "Bench":
        """One pass; with a strike the process ends in it, at that request."""
        at, after = strike or (-1, False)

        def before(request: Request) -> None:
            if self.count == at and not after:
                raise Killed
            self.count += 1

        def behind(request: Request) -> None:
            if self.count == at + 1 and after and strike:
                raise Killed

        self.world.before, self.world.after = before, behind
        reconciler = Reconciler(
            self.world, self._state.cache, Git(), SETTINGS, clock=lambda: factories.NOW
        )
        reconciler._memory = {KEY: self._state.memory}
        self.by_operator = True
        killed = _finish(reconciler.reconcile(KEY))
        self.by_operator = False
        self.world.before = self.world.after = None
        # A service that is gone is forgotten by the reconciler: so is what was known of it.
        self._state.memory = reconciler._memory.get(KEY, Memory())
        if killed:
            self._state.crashes -= 1
            self._restart()
        return self

    def deliver(self, kind: str) -> None:
        """The next event of a watch arrives."""
        change, manifest = self._state.streams[kind].pop(0)
        if change == "DELETED":
            self._state.cache.drop(kind, manifest)
        else:
            self._state.cache.put(kind, manifest)

    def edit(self) -> bool:
        """The user changes the environment, once."""
        service = self.world.find(resource.KIND, *KEY)
        if not self._state.edits or service is None:
            return False
        self._state.edits -= 1
        variables = [{"name": "A", "value": "b"}]
        self.world.edit(resource.KIND, *KEY, lambda live: live["spec"].update(env=variables))
        return True

    def _restart(self) -> None:
        self._state.cache, self._state.memory, self._state.streams = Cache(), Memory(), {}
        for kind in WATCHED:
            for manifest in self.world.all(kind):
                self._state.cache.put(kind, manifest)

    def _changed(self, change: str, manifest: Manifest) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in WATCHED:
            self._state.streams.setdefault(kind, []).append((change, manifest))
        if kind == "Job" and change == "ADDED":
            if name in self._state.jobs:
                self.faults.append(f"Job {name} was made twice")
            self._state.jobs += (name,)
            if len(_running(self.world)) + len(_running(self.world, OTHER)) > 1:
                self.faults.append("two builds run at once")
        if kind == "Deployment" and change == "DELETED":
            self.faults.append("the Deployment was deleted")
        if kind == "Deployment":
            image = deployment.image_of(manifest).partition("@")[2]
            pushed = {
                digest(_inputs(j)) for j in _jobs(self.world) if j not in _running(self.world)
            }
            if image not in pushed:
                self.faults.append(f"{image} comes from nowhere")


def _finish(pass_: Any) -> bool:
    """Run a pass to its end without a loop: nothing in it waits. Say whether it was killed."""
    try:
        while True:
            pass_.send(None)
    except StopIteration:
        return False
    except errors.GoServiceError:
        return False
    except Killed:
        return True


def _running(world: World, service: str = NAME) -> list[Manifest]:
    return [j for j in _jobs(world, service) if not j.get("status", {}).get("conditions")]


def _jobs(world: World, service: str = NAME) -> list[Manifest]:
    return [j for j in world.all("Job") if j["metadata"]["labels"][names.SERVICE] == service]


def _inputs(job: Manifest) -> str:
    return str(job["metadata"]["annotations"][names.INPUTS])


def _start_pod(bench: Bench) -> bool:
    for job in _running(bench.world):
        pod = _pod(job)
        if bench.world.find("Pod", NAMESPACE, pod["metadata"]["name"]) is None:
            bench.world.add(pod)
            return True
    return False


def _end_pod(bench: Bench) -> bool:
    for job in _running(bench.world):
        pod = _pod(job)
        live = bench.world.find("Pod", NAMESPACE, pod["metadata"]["name"])
        if live is not None and not live.get("status"):
            bench.world.set_status("Pod", NAMESPACE, pod["metadata"]["name"], pod["status"])
            return True
    return False


def _end_job(bench: Bench) -> bool:
    for job in _running(bench.world):
        pod = bench.world.find("Pod", NAMESPACE, _pod(job)["metadata"]["name"])
        if pod is not None and pod.get("status"):
            at = factories.stamp(factories.NOW)
            done = {"type": "Complete", "status": "True", "lastTransitionTime": at}
            status = {"conditions": [done], "completionTime": at}
            bench.world.set_status("Job", NAMESPACE, job["metadata"]["name"], status)
            return True
    return False


def _end_other(bench: Bench) -> bool:
    for job in _running(bench.world, OTHER):
        at = factories.stamp(factories.NOW)
        done = {"type": "Complete", "status": "True", "lastTransitionTime": at}
        status = {"conditions": [done], "completionTime": at}
        bench.world.set_status("Job", NAMESPACE, job["metadata"]["name"], status)
        return True
    return False


def _roll_out(bench: Bench) -> bool:
    live = bench.world.find("Deployment", *KEY)
    generation = live["metadata"]["generation"] if live else 0
    if live is None or live.get("status", {}).get("observedGeneration") == generation:
        return False
    shown = factories.settled(live, generation=generation)
    bench.world.set_status("Deployment", *KEY, shown["status"])
    return True


def _pod(job: Manifest) -> Manifest:
    pod = factories.pod(job)
    del pod["metadata"]["uid"], pod["metadata"]["creationTimestamp"]
    pod["metadata"]["labels"] = job["metadata"]["labels"]
    pod["status"]["initContainerStatuses"][1] = factories.terminated(
        "build", message=digest(_inputs(job))
    )
    return pod


ACTS: dict[str, Callable[[Bench], bool]] = {
    "the pod starts": _start_pod,
    "the pod ends": _end_pod,
    "the Job ends": _end_job,
    "the other build ends": _end_other,
    "the rollout ends": _roll_out,
    "the user edits": Bench.edit,
}
"""Steps of others than the operator, by name: whether there was something to do."""


# --- states -----------------------------------------------------------------------------------------


def canonical(state: State) -> bytes:
    """The same bytes for states that differ by uids, versions and times only.

    Versions are put in order and numbered: older and newer stay what they are.
    """
    objects: dict[Any, Manifest] = pickle.loads(state.world)[0]
    held = [m for (kind, _, _), m in sorted(objects.items()) if kind in WATCHED]
    known = {
        kind: [state.cache.get(kind, key) for key in sorted(state.cache.keys(kind))]
        for kind in WATCHED
    }
    memory = {**state.memory.__dict__, "present": sorted(state.memory.present)}
    memory["foreign"] = sorted(state.memory.foreign)
    memory["lookups"] = sorted((repr(q), a) for q, a in state.memory.lookups.items())
    memory["applied"] = sorted(state.memory.applied.items())
    tree = [held, known, memory, state.streams, state.crashes, state.edits, state.jobs]
    versions: set[str] = set()
    _collect(tree, versions)
    versions |= {version for _, version in state.memory.applied.values() if version}
    rank = {v: str(n) for n, v in enumerate(sorted(versions, key=int))}
    memory["applied"] = [
        (place, (applied, rank.get(version, ""))) for place, (applied, version) in memory["applied"]
    ]
    uids: dict[str, str] = {}
    text = json.dumps(_plain(tree, rank, uids), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


def _collect(value: Any, versions: set[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("resourceVersion"), str):
            versions.add(value["resourceVersion"])
        for inner in value.values():
            _collect(inner, versions)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, versions)


def _plain(value: Any, rank: dict[str, str], uids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        result = {}
        for key, inner in value.items():
            if key == "resourceVersion":
                result[key] = rank[inner]
            elif key in ("uid", "checked_uid") and isinstance(inner, str):
                result[key] = uids.setdefault(inner, f"uid {len(uids)}") if inner else ""
            elif key not in TIMES:
                result[str(key)] = _plain(inner, rank, uids)
        return result
    if isinstance(value, list | tuple):
        return [_plain(inner, rank, uids) for inner in value]
    return value


def _end(frozen: bytes, violations: list[str]) -> str:
    """How a state in which nothing is left to do looks; every one must be the same and serve."""
    state: State = pickle.loads(frozen)
    world = World()
    world.restore(state.world)
    status = (world.find(resource.KIND, *KEY) or {}).get("status", {})
    reasons = {c["type"]: f"{c['status']} {c['reason']}" for c in status.get("conditions", ())}
    jobs, ready = len(_jobs(world)), reasons.get("Ready", "")
    if jobs != 1 or ready != "True Serving":
        violations.append(f"it ends with {jobs} Jobs and Ready {ready!r}")
    return f"{ready}, {jobs} Job, edited {not state.edits}"
