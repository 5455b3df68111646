"""A bare client of an API server: JSON over kept connections, and nothing else.

The load, the actor and the limit that the operator is compared with all use it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from goservice.manifest import Manifest

APPLY = "application/apply-patch+yaml"
"""Content type of a server-side apply."""
MERGE = "application/merge-patch+json"
"""Content type of a JSON merge patch."""
PLAIN = "application/json"
"""Content type of everything else."""
_LONGEST_LINE = 4 * 2**20
"""Bytes of the longest event of a watch; aiohttp's default of 64 KiB is less than one object may
have."""


class Client:
    """Requests to one API server. An answer that is not a success is an error."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(
        self,
        method: str,
        where: str,
        body: Any = None,
        content_type: str = PLAIN,
        accept: tuple[int, ...] = (),
    ) -> Manifest:
        """One request; `accept` are codes beside success that are no error."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.request(method, where, data=data, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300 and answer.status not in accept:
                raise RuntimeError(f"{method} {where}: {answer.status} {text[:500]!r}")
            found: Manifest = json.loads(text)
            return found

    async def watch(self, where: str, selector: str = "") -> AsyncIterator[tuple[str, Manifest]]:
        """What happens to the objects of a collection, from what is there now on, without end."""
        joint = f"&labelSelector={selector}" if selector else ""
        while True:
            try:
                found = await self.send("GET", f"{where}?resourceVersion=0{joint}")
                version = found["metadata"]["resourceVersion"]
                for item in found["items"]:
                    yield "ADDED", item
                address = f"{where}?watch=1&resourceVersion={version}&timeoutSeconds=3000{joint}"
                async with self._session.get(
                    address, timeout=aiohttp.ClientTimeout(total=None)
                ) as answer:
                    answer.raise_for_status()
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError, ValueError, RuntimeError):
                # A resource that was just defined is not served at once.
                await asyncio.sleep(0.5)


@asynccontextmanager
async def connected(kubeconfig: Path, agent: str) -> AsyncIterator[Client]:
    """A client of the server that a kubeconfig of `controlplane` names."""
    config = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
    token = config["users"][0]["user"]["token"]
    async with aiohttp.ClientSession(
        config["clusters"][0]["cluster"]["server"],
        headers={"Authorization": f"Bearer {token}", "User-Agent": agent},
        connector=aiohttp.TCPConnector(ssl=False, limit=64),
        timeout=aiohttp.ClientTimeout(total=120),
        read_bufsize=_LONGEST_LINE,
    ) as session:
        yield Client(session)


def collection(manifest: Mapping[str, Any], plural: str) -> str:
    """The path of the collection that an object is in."""
    version = manifest["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{manifest['metadata']['namespace']}/{plural}"
