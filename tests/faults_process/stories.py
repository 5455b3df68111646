"""The stories that real operators go through, and what came of each run."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from goservice.api import resource
from goservice.cluster.kinds import WATCHED
from testbed.faults import Fault, Point, Script, Strike, role
from tests.faults import oracles
from tests.faults_process.lanes import Lane
from tests.faults_process.recorder import tallied
from tests.faults_process.stage import Stage

FIRST, NEWER, BROKEN, FIXED = (digit * 40 for digit in "1234")
"""The commits of the stories; BROKEN does not compile."""
POLL_SECONDS = 2
"""How often a service has its repository asked."""
QUIET_SECONDS = 3.0
"""For how long nothing is written once a story has converged."""
BOUND_SECONDS = 90.0
"""Within which it converges after the last fault or act of the user, once the operator runs. How long
it takes is printed; a busy machine needs three times as long without any fault."""
REFUSED_SECONDS = 60.0
"""For how long a refusal stands in the status before the writes are tried again
(reconcile.REFUSED_FOR)."""
PATIENCE_SECONDS = 120.0
"""After which a run is given up."""
SERVICES = "/apis/goservice.dev/v1alpha1/namespaces/%s/goservices"
"""The path of a namespace's GoServices."""


@dataclass(frozen=True)
class Run:
    """What came of one story."""

    story: str
    """Its name."""
    strikes: tuple[Strike, ...]
    """What was to happen."""
    fired: tuple[Strike, ...]
    """What did."""
    points: tuple[Point, ...]
    """Every write, in order."""
    end: Any
    """All objects but pods at the end, without what differs between equal runs."""
    counts: Any
    """Creations and deletions, object by object."""
    violations: tuple[str, ...]
    """Rules that were broken on the way."""
    seconds: float
    """From the last fault or act of the user, once the operator runs, to the last write."""
    late: str = ""
    """What did not come true in time; empty if all did."""

    @override
    def __str__(self) -> str:
        return f"{self.story} [{', '.join(map(str, self.strikes)) or 'undisturbed'}]"


@dataclass
class Service:
    """One GoService and its user."""

    stage: Stage
    """What it shares with the others."""
    lane: Lane
    """The operator that sees to it, and its namespace."""
    name: str
    """Of the GoService."""
    acted_at: float = 0.0
    """The second of the monotonic clock at which the user did something last."""
    patience: float = PATIENCE_SECONDS
    """Seconds until a wait is given up."""
    commit: str = ""
    """The newest of its repository."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.lane.name, self.name

    # --- what the user does -------------------------------------------------------------------------

    async def submit(self) -> None:
        """Create the GoService."""
        self.push(FIRST)
        git = {"url": self.stage.fake_git.url(self.name)}
        manifest = {
            "apiVersion": resource.API_VERSION,
            "kind": resource.KIND,
            "metadata": {"name": self.name, "namespace": self.lane.name},
            "spec": {
                "source": {"git": git, "pollIntervalSeconds": POLL_SECONDS},
                "image": {"repository": "registry.example.com/shop/checkout"},
            },
        }
        await self.stage.client.send("POST", SERVICES % self.lane.name, manifest)

    def push(self, commit: str) -> None:
        """Push a commit."""
        self.acted_at = time.monotonic()
        self.commit = self.stage.fake_git.commits[self.name] = commit

    async def until(self, what: str, found: Callable[[], Any]) -> None:
        """Wait for something to come true."""
        try:
            await self.stage.recorder.until(what, found, self.patience)
        except TimeoutError as error:
            said = self._body().get("status", {}).get("conditions")
            raise TimeoutError(f"{error}; it says {said}") from None

    # --- what there is ------------------------------------------------------------------------------

    def _body(self) -> dict[str, Any]:
        return self.stage.recorder.get(resource.KIND, *self.key)

    def _objects(self) -> list[dict[str, Any]]:
        return [m for kind in WATCHED for m in self.stage.recorder.all(kind, self.key)]

    def serves(self) -> bool:
        """Whether the newest commit and generation serve."""
        shown = self._body().get("status", {}).get("commit", {}).get("sha")
        return self.stage.recorder.ready(self.key) == ("True", "Serving") and shown == self.commit

    def says(self, reason: str) -> bool:
        """Whether the newest generation is said to be so."""
        return self.stage.recorder.ready(self.key)[1] == reason

    # --- running ------------------------------------------------------------------------------------

    async def run(self, story: Callable[[Service], Awaitable[None]], *strikes: Strike) -> Run:
        """Go through a story with these strikes, and see what comes of it."""
        refused = any(s.fault is Fault.FORBIDDEN for s in strikes)
        self.patience = PATIENCE_SECONDS + (REFUSED_SECONDS if refused else 0)
        requests = self.lane.requests(self.name)
        requests.struck_at = 0.0
        script = requests.script = Script({s.point: s.fault for s in strikes})
        self.stage.recorder.violations.pop(self.key, None)
        late = ""
        try:
            await story(self)
            await self._quiet()
        except TimeoutError as error:
            late = str(error)
        began = max(requests.struck_at, self.lane.struck_at, self.lane.ready_at, self.acted_at)
        seconds = max(0.0, requests.writes[-1][0] - began) if requests.writes else 0.0
        bound = BOUND_SECONDS + (REFUSED_SECONDS if refused else 0)
        if not late and seconds > bound:
            late = f"converged {seconds:.1f} s after the last fault, not within {bound:.0f} s"
        made = tallied(self.stage.recorder.counts[self.key], self.key)
        return Run(
            story.__name__.replace("_", " "),
            strikes,
            tuple(script.fired),
            tuple(script.reached),
            self._state(),
            made,
            (*self.stage.recorder.violations[self.key], *self.stage.recorder.strays(self.key)),
            seconds,
            late,
        )

    async def _quiet(self) -> None:
        """Wait until the operator is there and has written nothing for a while."""
        requests = self.lane.requests(self.name)
        async with asyncio.timeout(self.patience):
            await self.lane.ready()
            quiet_since = time.monotonic()
            while time.monotonic() - quiet_since < QUIET_SECONDS:
                await asyncio.sleep(0.1)
                for at, _ in requests.writes[-1:]:
                    quiet_since = max(quiet_since, at)

    def _state(self) -> Any:
        """All objects but pods, without what differs between equal services."""
        shown: dict[str, Any] = {}
        for manifest in self._objects():
            if manifest["kind"] == "Pod":
                continue
            label = f"{manifest['kind']}/{role(manifest['metadata']['name'])}"
            while label in shown:
                label += "+"
            manifest["metadata"].pop("managedFields", None)
            shown[label] = oracles.masked(manifest)
        text = json.dumps(shown, sort_keys=True)
        text = text.replace(self.name, "service").replace(self.lane.name, "lane")
        for chance, word in CHANCE.items():
            text = re.sub(chance, word, text)
        numbers: dict[str, str] = {}
        text = re.sub(HASH, lambda found: numbers.setdefault(found[0], f"#{len(numbers)}"), text)
        return json.loads(text)


CHANCE = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "a uid",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "a time",
    r"10\.96\.\d+\.\d+": "an address",
    r"ReplicaSet \\\"service-[0-9a-z]+": "ReplicaSet service",
}
"""What differs between equal runs, and the word that stands for it."""
HASH = r"(?<![0-9a-z])[0-9a-f]{10,}(?![0-9a-z])"
"""A hash differs from service to service, since the name is in it; equal ones must stay equal."""


async def create(service: Service) -> None:
    """A new GoService serves."""
    await service.submit()
    await service.until("it serves", service.serves)


async def new_commit(service: Service) -> None:
    """A new commit serves."""
    service.push(NEWER)
    await service.until("the new commit serves", service.serves)


async def build_fails_then_is_fixed(service: Service) -> None:
    """A commit does not compile, and the next one does."""
    service.push(BROKEN)
    await service.until("the failure is in the status", lambda: service.says("CompileFailed"))
    service.push(FIXED)
    await service.until("the fix serves", service.serves)


STORIES = (create, new_commit, build_fails_then_is_fixed)
"""Each begins where the one before it ended."""
