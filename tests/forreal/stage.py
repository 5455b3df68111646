"""What all lives share: an administrator's client, a witness, a node and a git server, at work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import http

from forreal.heads import Heads
from forreal.node import Node
from forreal.witness import Witness


@dataclass
class Stage:
    """Everything, and the tasks that run until it is left."""

    client: http.Client
    witness: Witness
    node: Node
    heads: Heads
    _group: asyncio.TaskGroup
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something until the end; an error of it ends everything."""
        self._tasks.append(self._group.create_task(work))

    def end(self) -> None:
        """Cancel what was started."""
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def staged(kubeconfig: Path) -> AsyncIterator[Stage]:
    """The stage, until it is left."""
    heads = Heads()
    await heads.open()
    async with http.connected(kubeconfig, "for-real") as client, asyncio.TaskGroup() as group:
        witness = Witness(client)
        stage = Stage(client, witness, Node(client, witness), heads, group)
        stage.start(witness.follow())
        stage.start(stage.node.play())
        yield stage
        stage.end()
    await heads.close()
