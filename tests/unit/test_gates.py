"""Workers begin when every gate is open, and nothing makes a pass around them."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import goservice
from goservice import metrics
from goservice.cluster.kinds import WATCHED
from goservice.loop.gates import Gates, StartGate
from goservice.watch.operator import Operator
from testbed.inmemory.world import World
from tests.support import factories as f

KEY = ("shop", "checkout")
LEADING = "another operator leads"


@asynccontextmanager
async def running(cluster: World, *gates: StartGate) -> AsyncIterator[Operator]:
    """An operator with everything that it starts by itself, and a service that waits for a pass."""
    cluster.add({**f.body(), "spec": {**f.body()["spec"], "suspend": True}})
    subject = Operator(f.SETTINGS, cluster, metrics.Metrics(), gates=gates)
    tasks = subject.start()
    try:
        yield subject
    finally:
        subject.queue.shutdown()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await subject.sources.close()


def open_watches(subject: Operator) -> None:
    for kind in WATCHED:
        for path in subject.watches.paths(kind):
            subject.watches.opened(path)


async def settled(subject: Operator) -> None:
    """Let every task of the operator go as far as it can."""
    for _ in range(500):
        await asyncio.sleep(0)


async def test_a_second_gate_holds_the_workers_back_and_is_named() -> None:
    cluster = World()
    leading = StartGate("leading", lambda: LEADING)
    async with running(cluster, leading) as subject:
        subject.queue.add(KEY)
        await settled(subject)
        assert subject.ready().startswith("there is no watch yet of GoService, ")
        assert subject.ready().endswith(f"; {LEADING}")
        open_watches(subject)
        await settled(subject)
        assert subject.synced.is_open
        assert subject.ready() == LEADING
        assert subject.queue.depth == 1
        assert cluster.writes == []
        leading.open()
        await settled(subject)
        assert subject.ready() == ""
        assert subject.queue.depth == 0
        assert cluster.writes[0] == ("apply_status", "GoService", "checkout")


async def test_a_second_gate_that_opens_first_does_not_open_the_others() -> None:
    cluster = World()
    leading = StartGate("leading", lambda: LEADING)
    leading.open()
    async with running(cluster, leading) as subject:
        subject.queue.add(KEY)
        await settled(subject)
        assert subject.ready().startswith("there is no watch yet of GoService, ")
        assert LEADING not in subject.ready()
        assert cluster.writes == []
        open_watches(subject)
        await settled(subject)
        assert cluster.writes


async def test_no_gate_no_wait() -> None:
    gates = Gates(())
    assert gates.why_closed() == ""
    await asyncio.wait_for(gates.all_open(), 1)


# --- nobody goes around ---------------------------------------------------------------------------


def calls(attribute: str) -> dict[str, ast.AsyncFunctionDef]:
    """Every function of the product that calls a method of this name, by its file and name."""
    root = Path(goservice.__file__).parent
    found = {}
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.AsyncFunctionDef):
                continue
            inner = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
            if any(isinstance(func, ast.Attribute) and func.attr == attribute for func in inner):
                found[f"{file.relative_to(root)} {node.name}"] = node
    return found


def test_passes_are_made_in_one_place_whose_first_step_waits_for_the_gates() -> None:
    """Another place that calls `reconcile`, or a worker that does something first, fails here."""
    [(place, worker)] = calls("reconcile").items()
    assert place == "watch/operator.py work"
    first = worker.body[1]  # after the docstring
    assert ast.unparse(first) == "await self.gates.all_open()"
