"""A real API server as the conformance suite asks it: kopf's part and an administrator's, by HTTP."""

import json
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from goservice.cluster import client, kinds
from goservice.cluster.answers import refusal
from goservice.cluster.kinds import path
from goservice.manifest import Kind, Manifest

WATCH_SECONDS = "75"
"""The server sends a bookmark each minute."""


class RealServer:
    """The operator's own client, and what goes beyond it."""

    def __init__(self, kubeconfig: Path, known: Mapping[str, Kind] = kinds.KINDS) -> None:
        """`known`: how each kind is addressed."""
        self._known = known
        self._kubeconfig = kubeconfig
        self._stack = AsyncExitStack()
        config = yaml.safe_load(kubeconfig.read_text())
        self._address = config["clusters"][0]["cluster"]["server"]
        self._token = config["users"][0]["user"]["token"]

    async def __aenter__(self) -> "RealServer":
        connection = client.connect(kubeconfig=str(self._kubeconfig), kinds=self._known)
        self._client = await self._stack.enter_async_context(connection)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        session = aiohttp.ClientSession(
            self._address,
            headers={"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=context),
        )
        self._session = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def __getattr__(self, name: str) -> Any:
        """Everything that the operator calls goes through the operator's client."""
        return getattr(self._client, name)

    async def page(
        self, kind: str, namespace: str, limit: int, token: str = ""
    ) -> tuple[list[Manifest], str, str]:
        query = {"limit": str(limit), **({"continue": token} if token else {})}
        answer = await self._ask("GET", path(self._known[kind], namespace, ""), query)
        metadata = answer["metadata"]
        return answer["items"], metadata.get("continue", ""), metadata["resourceVersion"]

    async def watch(
        self, kind: str, namespace: str, since: str, *, label_selector: str = ""
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        query = {
            "watch": "true",
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
            "labelSelector": label_selector,
        }
        where = path(self._known[kind], namespace, "")
        async with self._session.get(where, params=query) as response:
            if response.status != 200:
                raise refusal("watch", response.status, response.headers, await response.read())
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    code = int(event["object"]["code"])
                    raise refusal("watch", code, {}, json.dumps(event["object"]).encode())
                yield event["type"], event["object"]

    async def delete_orphaning(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object, but not what it owns."""
        query = {"propagationPolicy": "Orphan"}
        await self._ask("DELETE", path(self._known[kind], namespace, name), query)

    async def make_namespace(self, name: str) -> None:
        """Create a namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self._ask("POST", "/api/v1/namespaces", {}, body)

    async def end_namespace(self, name: str) -> None:
        await self._ask("DELETE", f"/api/v1/namespaces/{name}", {})

    async def _ask(
        self, method: str, where: str, query: dict[str, str], body: Manifest | None = None
    ) -> Manifest:
        async with self._session.request(method, where, params=query, json=body) as response:
            data = await response.read()
            if response.status >= 300:
                raise refusal(f"{method} {where}", response.status, response.headers, data)
            answer: Manifest = json.loads(data)
            return answer
