"""logs: the newest build's words, container by container, with a word while there are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import click

from goservice.api.conditions import Reason, Type
from goservice.api.status import BuildPhase
from goservice.build.engine import ENGINES, Engine
from goservice.cli import target as targets
from goservice.cli.target import Target
from goservice.cli.words import Trouble, log_line, one_line, paint, say
from goservice.cluster.protocol import Cluster
from goservice.manifest import find_condition

PATIENCE = 2.0
"""Seconds of silence after which the command says what it waits for."""


@click.command()
@targets.name_argument
@targets.options
@click.option("-f", "--follow", is_flag=True, help="Go on as the build goes on.")
def logs(name: str, target: Target, follow: bool) -> None:
    """Print the newest build's log.

    With --follow it also waits for a build's pod and its containers; what it waits for goes to
    stderr after 2 seconds.

    \b
    Examples:
      goservice logs checkout -n shop
      goservice logs checkout -n shop --follow
      goservice logs checkout -n shop > build.log
    """
    targets.ask(target, lambda cluster, where: show(cluster, where, name, follow=follow))


class Waiting:
    """Says on stderr what is waited for, once it has taken a while and whenever it changes."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._until = time.monotonic() + patience
        self._said = ""

    def on(self, what: str) -> None:
        """`what` is still not there."""
        if time.monotonic() >= self._until and what != self._said:
            self._said = what
            say(paint(f"waiting for {what}", dim=True), err=True)


async def show(
    cluster: Cluster,
    where: str,
    name: str,
    *,
    follow: bool,
    patience: float = PATIENCE,
    engines: Mapping[str, Engine] = ENGINES,
) -> int:
    """The log of the newest build, to its end or as far as it has come."""
    waiting = Waiting(patience)
    build = await _build(cluster, where, name, follow, waiting)
    pod = await _pod(cluster, where, build, follow, waiting)
    for container in await _containers(cluster, where, pod, engines):
        if not await _has_started(cluster, where, pod, container, follow, Waiting(patience)):
            return 0
        say(paint(f"--- {container}", bold=True))
        async for line in cluster.logs(where, pod, container, follow=follow):
            say(log_line(line))
    return 0


async def _build(cluster: Cluster, where: str, name: str, follow: bool, waiting: Waiting) -> str:
    """The name of the newest build that has a Job."""
    while True:
        body = await targets.find_service(cluster, where, name)
        status = body.get("status") or {}
        build = status.get("build") or {}
        # Versions before this one said so of a build that was not started.
        queued = build.get("phase") == BuildPhase.QUEUED
        queued = queued or find_condition(status, Type.BUILT).get("reason") == Reason.BUILD_QUEUED
        if build and not queued:
            return str(build["name"])
        if (body.get("spec", {}).get("image") or {}).get("digest"):
            raise Trouble(f"goservice {where}/{name} builds nothing: spec.image.digest is set")
        if not follow:
            why = "is queued" if queued else "does not exist yet"
            raise Trouble(
                f"the build of goservice {where}/{name} {why};"
                f" wait for it: goservice logs {name} -n {where} --follow"
            )
        waiting.on("the build's turn" if queued else "a build")
        await asyncio.sleep(1)


async def _pod(cluster: Cluster, where: str, build: str, follow: bool, waiting: Waiting) -> str:
    while True:
        pods = await cluster.list(
            "Pod", where, label_selector=f"batch.kubernetes.io/job-name={build}"
        )
        if pods:
            return str(pods[-1]["metadata"]["name"])
        jobs = await cluster.list("Job", where, field_selector=f"metadata.name={build}")
        ended = [
            condition
            for job in jobs
            for condition in job.get("status", {}).get("conditions") or ()
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
        ]
        if not jobs or ended:
            raise Trouble(
                f"the log of build {where}/{build} is gone with its pod;"
                " status.build.logTail keeps a failed build's last lines"
            )
        if not follow:
            raise Trouble(f"build {where}/{build} has no pod yet; wait for it: add --follow")
        waiting.on(f"the pod of Job {where}/{build}")
        await asyncio.sleep(1)


async def _containers(
    cluster: Cluster, where: str, pod: str, engines: Mapping[str, Engine]
) -> list[str]:
    """The pod's containers in the order in which they run; what others put into it is left out."""
    spec = (await cluster.get("Pod", where, pod)).get("spec", {})
    every = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    ours = {name for builder in engines.values() for name in builder.container_names}
    return [container["name"] for container in every if container["name"] in ours]


async def _has_started(
    cluster: Cluster, where: str, pod: str, container: str, follow: bool, waiting: Waiting
) -> bool:
    while True:
        found = (await cluster.get("Pod", where, pod)).get("status", {})
        every = [*found.get("initContainerStatuses", ()), *found.get("containerStatuses", ())]
        state: dict[str, Any] = next(
            (c.get("state", {}) for c in every if c["name"] == container), {}
        )
        if "running" in state or "terminated" in state:
            return True
        if not follow or found.get("phase") in ("Succeeded", "Failed"):
            return False
        waiting.on(f"container {container}{_why(found, state)}")
        await asyncio.sleep(1)


def _why(found: dict[str, Any], state: dict[str, Any]) -> str:
    """Why a container does not start, in the scheduler's or the kubelet's words."""
    for condition in found.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f": {one_line(condition.get('message', ''))[:300]}"
    waiting = state.get("waiting", {})
    words = ": ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
    return f": {one_line(words)[:300]}" if words else ""
