"""The users: GoServices created at once or one by one, and a look at which of them are ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from benchmarks.bed import Bed
from goservice.manifest import Key, Manifest
from testbed.apiserver import http

PER_NAMESPACE = 100
"""Services in each namespace."""
AT_ONCE = 32
"""Creations under way at the most."""

SERVICES = "/apis/goservice.dev/v1alpha1/goservices"
"""The path of all GoServices."""
AUTOSCALED = {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}
"""The spec of a service with an autoscaler."""


def service(bed: Bed, namespace: str, name: str, **more: Any) -> Manifest:
    """A short GoService; each has a repository of its own, as the worst case."""
    return {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": {"git": {"url": bed.repository(f"{namespace}.{name}")}},
            "image": {"repository": f"registry.example.com/{namespace}/{name}"},
            **more,
        },
    }


def fleet(bed: Bed, prefix: str, count: int) -> list[Manifest]:
    """Many of them, a hundred in each namespace."""
    return [
        service(bed, f"{prefix}-{i // PER_NAMESPACE}", f"service-{i % PER_NAMESPACE}")
        for i in range(count)
    ]


async def namespaces(client: http.Client, services: Iterable[Manifest]) -> None:
    """Make the namespaces of some services."""
    for name in sorted({s["metadata"]["namespace"] for s in services}):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await client.send("POST", "/api/v1/namespaces", body)


async def create(client: http.Client, services: Iterable[Manifest]) -> list[Manifest]:
    """Create all of them, as fast as it goes; as they were made."""

    async def one(manifest: Manifest) -> Manifest:
        return await client.send("POST", http.collection(manifest, "goservices"), manifest)

    return await at_once(one, list(services), AT_ONCE)


async def at_once(
    act: Callable[[Any], Awaitable[Manifest]], items: list[Any], places: int
) -> list[Manifest]:
    """Do something with every item, some at a time."""
    rest = iter(items)
    results: list[Manifest] = []

    async def work() -> None:
        for item in rest:
            results.append(await act(item))  # noqa: PERF401

    async with asyncio.TaskGroup() as group:
        for _ in range(places):
            group.create_task(work())
    return results


class Tally:
    """Which services are ready, by a watch."""

    def __init__(self) -> None:
        self.ready: set[Key] = set()
        self.changed = asyncio.Event()

    async def follow(self, client: http.Client) -> None:
        """Keep counting."""
        async for change, manifest in client.watch(SERVICES):
            metadata = manifest["metadata"]
            key = (metadata["namespace"], metadata["name"])
            status = manifest.get("status") or {}
            conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
            if conditions.get("Ready") == "True" and change != "DELETED":
                self.ready.add(key)
                self.changed.set()

    async def wait(
        self, services: Iterable[Manifest], seconds: float, note: Callable[[str], None]
    ) -> None:
        """Until all of these are ready."""
        wanted = {(s["metadata"]["namespace"], s["metadata"]["name"]) for s in services}
        async with asyncio.timeout(seconds):
            while missing := wanted - self.ready:
                note(f"{len(wanted) - len(missing)} of {len(wanted)} ready")
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 1)
                await asyncio.sleep(0.5)
