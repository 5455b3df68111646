"""A process that plays the node: build pods end with a digest at once, service pods become ready.

It writes pod statuses as a kubelet would and leaves everything else to the controllers, so that
what is measured is the control plane. It builds and serves nothing.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from goservice.manifest import Manifest
from testbed.apiserver import http, podstatus

WORKERS = 24
"""Status writes under way at the most."""
SELECTOR = "app.kubernetes.io/managed-by=goservice-operator"
"""The objects that the operator made."""


async def play(kubeconfig: Path) -> None:
    """Act on every pod, once, until ended."""
    pods: asyncio.Queue[Manifest] = asyncio.Queue()
    async with http.connected(kubeconfig, "bench-actor") as client, asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(_work(client, pods))
        async for change, pod in client.watch("/api/v1/pods", SELECTOR):
            if change == "ADDED" and pod["status"].get("phase") == "Pending":
                pods.put_nowait(pod)


async def _work(client: http.Client, pods: asyncio.Queue[Manifest]) -> None:
    while True:
        pod = await pods.get()
        metadata = pod["metadata"]
        build = metadata["labels"]["app.kubernetes.io/component"] == "build"
        where = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        status = _built(pod) if build else podstatus.serving()
        await client.send("PATCH", where, {"status": status}, http.MERGE, accept=(404, 409))


def _built(pod: Manifest) -> Manifest:
    arguments = pod["spec"]["initContainers"][0]["args"]
    commit = next(a.partition("=")[2] for a in arguments if a.startswith("--commit="))
    return podstatus.built(commit, pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1])))
