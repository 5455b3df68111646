"""The API server as one operator process meets it: answers fail, are lost, or are its last."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from goservice import errors
from goservice.cluster.answers import refusal
from goservice.cluster.protocol import MANAGER, Manifests
from goservice.manifest import Manifest
from testbed.faults import CODES, Fault, Script
from testbed.inmemory.world import World

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
"""Virtual seconds until the client gives an answer up."""
LATENCY = 0.01
"""Virtual seconds of a request."""


class Killed(BaseException):
    """The process is no more; no handler of the operator may catch this."""


class FaultyServer:
    """A `goservice.cluster.Cluster` for one process of the operator."""

    def __init__(self, world: World, script: Script, on_kill: Callable[[], None]) -> None:
        self._world = world
        self._script = script
        self._on_kill = on_kill
        self.dead = False

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return await self._meet("get", kind, name, lambda: self._world.get(kind, namespace, name))

    async def list(
        self,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        most: int | None = None,
    ) -> Manifests:
        return await self._meet(
            "list",
            kind,
            "",
            lambda: self._world.list(
                kind,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                most=most,
            ),
        )

    async def pages(
        self, kind: str, namespace: str | None, *, label_selector: str = ""
    ) -> AsyncIterator[Manifests]:
        yield await self.list(kind, namespace, label_selector=label_selector)

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> Manifest:
        name = manifest["metadata"]["name"]
        return await self._meet(
            "apply" if manager == MANAGER else "hand over",
            manifest["kind"],
            name,
            lambda: self._world.apply(manifest, manager=manager),
        )

    async def apply_status(self, manifest: Manifest) -> Manifest:
        name = manifest["metadata"]["name"]
        return await self._meet(
            "apply_status",
            manifest["kind"],
            name,
            lambda: self._world.apply_status(manifest),
        )

    async def create(self, manifest: Manifest) -> Manifest:
        name = manifest["metadata"]["name"]
        return await self._meet(
            "create", manifest["kind"], name, lambda: self._world.create(manifest)
        )

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str | None,
    ) -> None:
        await self._meet(
            "delete",
            kind,
            name,
            lambda: self._world.delete(kind, namespace, name, uid=uid),
        )

    async def patch_merge(self, *_: Any, **__: Any) -> Manifest:
        raise NotImplementedError("the operator sends no merge patch")

    def logs(self, *_: Any, **__: Any) -> AsyncIterator[str]:
        raise NotImplementedError("the operator reads no logs")

    async def can_i(self, *_: Any, **__: Any) -> bool:
        raise NotImplementedError("the operator's passes do not ask what they may do")

    async def serves(self, kind: str) -> bool:
        raise NotImplementedError("no kind of the table is optional")

    async def _meet(self, verb: str, kind: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self._alive()
        fault = self._script.arrive(verb, kind, name)
        if fault is Fault.KILLED_BEFORE:
            self.kill()
        if fault in CODES:
            raise answer(f"{verb} {kind} {name}", fault)
        if fault is Fault.RESET:
            raise errors.Unavailable(f"{verb} {kind} {name}: connection reset")
        if fault is Fault.TIMEOUT:
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise errors.Unavailable(f"{verb} {kind} {name}: no answer in time")
        await asyncio.sleep(LATENCY)
        self._alive()
        result = await call()
        if fault is Fault.KILLED_AFTER:
            self.kill()
        if fault is Fault.LOST:
            raise errors.Unavailable(f"{verb} {kind} {name}: the answer was lost")
        self._alive()
        return result

    def kill(self) -> None:
        """End this process here and now."""
        self.dead = True
        self._on_kill()
        raise Killed

    def _alive(self) -> None:
        if self.dead:
            raise Killed


def answer(what: str, fault: Fault) -> errors.ClusterError:
    """The error that the client makes of such an answer."""
    code, reason = CODES[fault]
    body = json.dumps({"reason": reason, "message": f"a fault of the test ({fault})"}).encode()
    headers = {"Retry-After": "7"} if fault is Fault.TOO_MANY else {}
    return refusal(what, code, headers, body)
