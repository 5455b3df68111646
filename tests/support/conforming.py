"""What the conformance suite asks a server for, its objects, and its count of assertions."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import pytest

from goservice import errors
from goservice.cluster.kinds import KINDS
from goservice.cluster.protocol import Cluster
from goservice.manifest import Kind, Manifest
from testbed.inmemory.world import World

Change = tuple[str, Manifest]
"""Type and object of a watch's event."""

NOT_SERVED = {
    "Ghost": Kind("example.com/v1", "Ghost", "ghosts"),
    "Phantom": Kind("batch/v1", "Phantom", "phantoms"),
}
"""Kinds that no server has: of a group that nobody serves, and of one that is served."""
ADDRESSED = {**KINDS, **NOT_SERVED}
"""The kinds that a server of the suite must know how to address."""

SOON = 90.0
"""Seconds in which a real controller has surely acted, and a real watch has sent a bookmark."""


class Server(Cluster, Protocol):
    """What the suite asks beyond the operator's client: kopf's part, and an administrator's."""

    async def page(
        self, kind: str, namespace: str, limit: int, token: str = ""
    ) -> tuple[list[Manifest], str, str]:
        """Some objects, the token for the next page (empty after the last) and the version."""
        ...

    def watch(
        self, kind: str, namespace: str, since: str, *, label_selector: str = ""
    ) -> AsyncGenerator[Change, None]:
        """Changes after a version, with bookmarks; Gone if it is too old."""
        ...

    async def delete_orphaning(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object as `kubectl delete --cascade=orphan` does: what it owns stays."""
        ...

    async def end_namespace(self, name: str) -> None:
        """Begin to delete a namespace."""
        ...


def in_memory() -> World:
    """The world, as the suite asks it."""
    world = World(kinds=ADDRESSED)
    world.absent = set(NOT_SERVED)
    return world


class Check:
    """Counts assertions."""

    def __init__(self) -> None:
        self.count = 0

    def that(self, holds: object, what: object = "") -> None:
        """Assert, and count."""
        assert holds, what
        self.count += 1

    @contextmanager
    def refused(self, error: type[errors.ClusterError], match: str | None = None) -> Iterator[None]:
        """Assert that what is inside is refused so, and count."""
        with pytest.raises(error, match=match) as found:
            yield
        assert type(found.value) is error, f"{found.value!r} is not exactly {error.__name__}"
        self.count += 1


def deployment(namespace: str, replicas: int | None = None, **metadata: Any) -> Manifest:
    """The smallest Deployment that a server accepts."""
    labels = {"goservice.dev/service": "checkout"}
    container = {"name": "app", "image": "registry.example.com/a@sha256:" + "a" * 64}
    wanted: Manifest = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        wanted["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": namespace, **metadata},
        "spec": wanted,
    }


def only_replicas(namespace: str, replicas: int) -> Manifest:
    """The Deployment as the handover manager applies it."""
    return {**deployment(namespace), "spec": {"replicas": replicas}}


def config(namespace: str, name: str = "checkout", **metadata: Any) -> Manifest:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": {"Dockerfile": "FROM scratch\n"},
    }


def service(namespace: str) -> Manifest:
    """A GoService."""
    return {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": "checkout", "namespace": namespace},
        "spec": {
            "source": {"git": {"url": "https://git.example.com/shop/checkout.git"}},
            "image": {"repository": "registry.example.com/shop/checkout"},
        },
    }


def status(made: Manifest, **fields: Any) -> Manifest:
    """An apply of a GoService's status, bound to its uid."""
    metadata = {field: made["metadata"][field] for field in ("name", "namespace", "uid")}
    return {
        "apiVersion": made["apiVersion"],
        "kind": made["kind"],
        "metadata": metadata,
        "status": fields,
    }


def version(manifest: Manifest) -> int:
    """The resourceVersion, which is a number that grows."""
    return int(manifest["metadata"]["resourceVersion"])


def reference(owner: Manifest) -> Manifest:
    """The owner reference to a GoService."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


async def gone(cluster: Server, kind: str, namespace: str, name: str) -> bool:
    """Whether an object disappears soon: at once in memory, when a controller comes in a real one."""
    for _ in range(int(SOON * 5)):
        try:
            await cluster.get(kind, namespace, name)
        except errors.NotFound:
            return True
        await asyncio.sleep(0.2)
    return False


async def changes(
    watch: AsyncGenerator[Change, None], count: int, *, bookmarks: bool = False
) -> list[Change]:
    """So many changes of a watch, or so many bookmarks."""
    found: list[Change] = []
    async with asyncio.timeout(SOON), aclosing(watch) as events:
        async for change in events:
            if (change[0] == "BOOKMARK") == bookmarks:
                found.append(change)
            if len(found) == count:
                break
    return found
