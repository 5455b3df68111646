"""A process that plays the node: build pods end with a digest at once, service pods become ready.

It writes pod statuses as a kubelet would and leaves everything else to the controllers, so that
what is measured is the control plane. It builds and serves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import http

WORKERS = 24
SELECTOR = "app.kubernetes.io/managed-by=goservice-operator"


async def play(kubeconfig: Path) -> None:
    """Act on every pod, once, until ended."""
    pods: asyncio.Queue[http.Manifest] = asyncio.Queue()
    async with http.connected(kubeconfig, "bench-actor") as client, asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(_work(client, pods))
        async for change, pod in client.watch("/api/v1/pods", SELECTOR):
            if change == "ADDED" and pod["status"].get("phase") == "Pending":
                pods.put_nowait(pod)


async def _work(client: http.Client, pods: asyncio.Queue[http.Manifest]) -> None:
    while True:
        pod = await pods.get()
        metadata = pod["metadata"]
        build = metadata["labels"]["app.kubernetes.io/component"] == "build"
        where = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        status = _built(pod) if build else _serving()
        await client.send("PATCH", where, {"status": status}, http.MERGE, accept=(404, 409))


def _built(pod: http.Manifest) -> http.Manifest:
    arguments = pod["spec"]["initContainers"][0]["args"]
    commit = next(a.partition("=")[2] for a in arguments if a.startswith("--commit="))
    job = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    report = {"commit": commit, "time": _now(), "author": "A", "subject": "S", "go": "1.26"}
    digest = "sha256:" + hashlib.sha256(job.encode()).hexdigest()
    return {
        "phase": "Succeeded",
        "initContainerStatuses": [_ended("fetch", json.dumps(report)), _ended("build", digest)],
        "containerStatuses": [_ended("push", "")],
    }


def _serving() -> http.Manifest:
    container = {
        "name": "app",
        "image": "x",
        "imageID": "x",
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": _now()}},
    }
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
    return {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}


def _ended(name: str, message: str) -> dict[str, Any]:
    state = {
        "exitCode": 0,
        "reason": "Completed",
        "message": message,
        "startedAt": _now(),
        "finishedAt": _now(),
        "containerID": "actor://none",
    }
    return {
        "name": name,
        "image": "x",
        "imageID": "x",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": state},
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1])))
