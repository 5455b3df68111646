"""Plays the node for all services: builds end and pods become ready, always in the same order.

A build ends once the service says that it builds, and a pod becomes ready once it says that it
rolls out: each write for a service then comes in every run, whatever the machine's speed.
"""

from __future__ import annotations

from typing import Any

from goservice import names
from testbed.apiserver import http, podstatus
from tests.faults_process.recorder import Recorder, service_of

LOG = "# example.com/checkout\n./main.go:3:1: undefined: x\n"
"""What the compiler says of a broken commit."""


class Node:
    """Writes pod statuses as a kubelet would."""

    def __init__(self, client: http.Client, recorder: Recorder) -> None:
        self.broken: set[str] = set()
        """Commits that do not compile."""
        self.holds: set[tuple[str, str]] = set()
        """Services whose builds do not end."""
        self._client = client
        self._recorder = recorder
        self._done: set[str] = set()

    async def play(self) -> None:
        """Act on each pod once, until cancelled."""
        while True:
            for pod in self._recorder.all("Pod"):
                if pod["metadata"]["uid"] not in self._done and (status := self._status(pod)):
                    self._done.add(pod["metadata"]["uid"])
                    await self._write(pod, status)
            await self._recorder.news()

    def _status(self, pod: dict[str, Any]) -> dict[str, Any] | None:
        """What becomes of a pod now; None if nothing does yet."""
        service = service_of(pod)
        reason = self._recorder.ready(service)[1]
        labels = pod["metadata"]["labels"]
        if labels[names.COMPONENT] != "build":
            return podstatus.serving() if reason == "RollingOut" else None
        job = labels["batch.kubernetes.io/job-name"]
        if reason != "Building" or service in self.holds:
            return None
        notes = self._recorder.get("Job", service[0], job)["metadata"]["annotations"]
        commit = notes[names.COMMIT]
        if commit in self.broken:
            return podstatus.not_built(commit, LOG)
        result = podstatus.built(commit, job)
        pushed = result["initContainerStatuses"][1]["state"]["terminated"]["message"]
        self._recorder.pushed.add(pushed)
        return result

    async def _write(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        where = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        await self._client.send("PATCH", where, {"status": status}, http.MERGE, accept=(404,))
