"""One run: a world, its controllers, an operator that may be killed, and what the user does."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from typing_extensions import override

from goservice import metrics
from goservice.api import conditions, resource
from goservice.cluster.kinds import ACCESS
from goservice.manifest import Manifest, find_condition
from goservice.sources.git import Found
from goservice.sources.polling import Sources
from goservice.watch.operator import Operator
from testbed.faults import Script
from testbed.inmemory.world import World
from tests.faults.actors import Actors, digest
from tests.faults.oracles import Recorder
from tests.faults.server import FaultyServer, Killed
from tests.faults.streams import Watches
from tests.faults.virtual import VirtualLoop
from tests.support import factories

NAMESPACE, NAME = KEY = ("shop", "checkout")
"""The GoService of all scenarios."""
RESTART_AFTER = 1.0
"""Virtual seconds from the end of the operator's process to the next one."""
COLLECTED_AFTER = 3.0
"""Virtual seconds from an owner's deletion to that of what it owned."""
SETTINGS = factories.SETTINGS.model_copy(
    update={
        "client": factories.SETTINGS.client.model_copy(update={"workers": 2}),
        "builds": factories.SETTINGS.builds.model_copy(update={"max_concurrent": 1}),
    }
)
"""Two workers: enough that passes run side by side; one build at once, so that another fills the platform."""
COUNTERS = metrics.Metrics()
"""One for all runs: no oracle reads them."""


@dataclass(frozen=True)
class Start:
    """A world to begin with, and what goes with it."""

    snapshot: bytes
    """The objects, as `World.snapshot` gives them."""
    commit: str = factories.COMMIT
    """The newest of the repository."""
    pushed: frozenset[str] = frozenset()
    """Digests of the builds before."""
    seconds: float = 0.0
    """Virtual time that has passed."""


@dataclass
class Logged(logging.Handler):
    """Errors that the operator logs: it does so for its own defects only."""

    lines: list[str] = field(default_factory=list)
    """As they would be printed."""

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    __hash__ = logging.Handler.__hash__

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Repository(Sources):
    """The operator's sources with one repository behind them, which knows its newest commit."""

    def __init__(self, rig: "Rig") -> None:
        super().__init__(clock=rig.loop.time, chance=lambda: 0.5)
        self._rig = rig

    @override
    async def look(self, url: str, revision: str | None) -> Found:
        return Found(self._rig.commit)


class Rig:
    """Everything of one run."""

    def __init__(self, loop: VirtualLoop, start: Start, script: Script, bound: float) -> None:
        self.loop = loop
        self.script = script
        self.bound = bound
        self.commit = start.commit
        self.world = World(access=ACCESS)
        self.world.restore(start.snapshot)
        self.world.clock = self.stamp
        self.world.defer = lambda collect: self.loop.call_later(
            COLLECTED_AFTER, self._as_collector, collect
        )
        self.actors = Actors(loop, self.world, self.stamp)
        self.actors.pushed |= start.pushed
        self.actors.catch_up()
        self.recorder = Recorder(self.world, self.actors)
        self.watches = Watches(loop, self.world, script)
        self.watches.restart = self.kill
        self.crashes: list[BaseException] = []
        self._changed = asyncio.Event()
        self._server: FaultyServer | None = None
        self._dying = asyncio.Event()
        self.world.on_change(lambda *_: self._changed.set())
        self._supervisor = loop.create_task(self._supervise())

    # --- the operator's process, again and again ---

    async def _supervise(self) -> None:
        while True:
            self._dying.clear()
            self._server = FaultyServer(self.world, self.script, self._dying.set)
            operator = Operator(
                SETTINGS,
                self._server,
                COUNTERS,
                sources=Repository(self),
                now=lambda: factories.NOW + timedelta(seconds=self.loop.time()),
                monotonic=self.loop.time,
                chance=lambda: 0.5,
            )
            tasks = operator.start()
            self.watches.connect(operator)
            try:
                await self._dying.wait()
            finally:
                self.watches.disconnect()
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                self.crashes += [
                    end
                    for end in ends
                    if isinstance(end, BaseException)
                    and not isinstance(end, Killed | asyncio.CancelledError)
                ]
            await asyncio.sleep(RESTART_AFTER)

    @property
    def killed(self) -> bool:
        """Whether the operator's process has just ended."""
        return self._dying.is_set()

    def kill(self) -> None:
        """End the operator's process from outside."""
        if self._server is not None:
            self._server.dead = True
        self._dying.set()

    async def close(self) -> None:
        """End everything."""
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)

    # --- what the user does ---

    def submit(self, name: str = NAME, **changes: Any) -> None:
        """Create the GoService, or another one beside it."""
        body = factories.body(**changes)
        body["metadata"]["name"] = name
        del body["metadata"]["uid"], body["metadata"]["generation"]
        with self.actors.writing("user"):
            self.world.add(body)

    def edit(self, **changes: Any) -> None:
        """Change fields of its spec; None takes one away."""

        def change(live: Manifest) -> None:
            live["spec"].update(changes)
            live["spec"] = {key: value for key, value in live["spec"].items() if value is not None}

        with self.actors.writing("user"):
            self.world.edit(resource.KIND, *KEY, change)

    def delete(self) -> None:
        """Delete the GoService."""
        with self.actors.writing("user"):
            self.world.remove(resource.KIND, *KEY)

    async def until(self, what: str, found: Callable[[], object]) -> None:
        """Wait for something to come true, in bounded virtual time."""
        try:
            async with asyncio.timeout(self.bound):
                while not found():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {self.bound:.0f} s: {what}; {self.said()}") from None

    # --- what there is ---

    def service(self, name: str = NAME) -> Manifest:
        """The GoService, or another one, empty if there is none."""
        return self.world.find(resource.KIND, NAMESPACE, name) or {}

    def deployment(self) -> Manifest:
        """The Deployment, empty if there is none."""
        return self.world.find("Deployment", *KEY) or {}

    def said(self) -> tuple[str, str, str]:
        """Ready's status and reason if it speaks of the newest generation, and its message."""
        body = self.service()
        status = body.get("status", {})
        ready = find_condition(status, conditions.Type.READY)
        if not ready or status.get("observedGeneration") != body["metadata"]["generation"]:
            return "", "", str(ready.get("message", ""))
        return ready["status"], ready["reason"], ready["message"]

    def says(self, reason: str) -> bool:
        """Whether the newest generation is said to be so."""
        return self.said()[1] == reason

    def serves(self) -> bool:
        """Whether the newest commit and generation serve."""
        commit = self.service().get("status", {}).get("commit", {}).get("sha")
        return self.says("Serving") and commit == self.commit

    def building(self) -> bool:
        """Whether a build runs."""
        return any(not j.get("status", {}).get("conditions") for j in self.world.all("Job"))

    def stamp(self) -> str:
        """The time as the API server writes it."""
        return factories.stamp(factories.NOW + timedelta(seconds=self.loop.time()))

    def _as_collector(self, collect: Callable[[], None]) -> None:
        with self.actors.writing("collector"):
            collect()


__all__ = ["KEY", "NAME", "NAMESPACE", "Rig", "Start", "digest"]
