"""What all services share: an administrator's client, a recorder, a node and a git server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.apiserver import http
from tests.faults_process.fake_git import FakeGit
from tests.faults_process.node import Node
from tests.faults_process.recorder import Recorder


@dataclass
class Stage:
    """Everything, and the tasks that run until it is left."""

    client: http.Client
    """The administrator's."""
    recorder: Recorder
    """Sees every change."""
    node: Node
    """Plays the kubelet."""
    fake_git: FakeGit
    """Has every repository."""
    _group: asyncio.TaskGroup
    """Ends all tasks with the first that fails."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """What `end` cancels."""

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
    fake_git = FakeGit()
    await fake_git.open()
    async with http.connected(kubeconfig, "faults-process") as client, asyncio.TaskGroup() as group:
        recorder = Recorder()
        stage = Stage(client, recorder, Node(client, recorder), fake_git, group)
        stage.start(recorder.follow(client))
        stage.start(stage.node.play())
        yield stage
        stage.end()
    await fake_git.close()
