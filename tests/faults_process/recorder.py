"""Sees every change of the services' objects on the real API server, and what each one broke."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from goservice import names
from goservice.api import resource
from goservice.cluster.kinds import KINDS, WATCHED, path
from goservice.manifest import Key, Manifest, condition_of, owned
from goservice.objects import children
from testbed.apiserver import http
from testbed.faults import role

OURS = f"{names.MANAGED_BY}={names.OPERATOR}"
"""Selects what the operator made."""


class Recorder:
    """What there is, what was made and removed, and which rules were broken, by service."""

    def __init__(self) -> None:
        self.pushed: set[str] = set()
        """The digests of successful builds."""
        self.violations: defaultdict[Key, list[str]] = defaultdict(list)
        self.counts: defaultdict[Key, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        """Creations and deletions by change, kind and object."""
        self._objects: dict[str, dict[tuple[str, str], Manifest]] = {kind: {} for kind in WATCHED}
        self._changed = asyncio.Event()

    async def follow(self, client: http.Client) -> None:
        """Look on, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in WATCHED:
                group.create_task(self._follow(client, kind))

    async def _follow(self, client: http.Client, kind: str) -> None:
        where = path(KINDS[kind], None, "")
        async for change, manifest in client.watch(where, "" if kind == resource.KIND else OURS):
            if change != "BOOKMARK":
                self.saw(kind, change, {**manifest, "kind": kind})

    async def until(self, what: str, found: Callable[[], Any], seconds: float) -> None:
        """Wait for something to come true."""
        try:
            async with asyncio.timeout(seconds):
                while not found():
                    await self.news()
        except TimeoutError:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}") from None

    async def news(self) -> None:
        """Wait for any change."""
        self._changed.clear()
        await self._changed.wait()

    # --- what there is ------------------------------------------------------------------------------

    def all(self, kind: str, service: Key | None = None) -> list[Manifest]:
        """The objects of a kind, of one service or of all, in the order in which they were made."""
        found = self._objects[kind].values()
        return [m for m in found if service is None or service_of(m) == service]

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """An object; empty if there is none."""
        return self._objects[kind].get((namespace, name), {})

    def ready(self, service: Key) -> tuple[str, str]:
        """Ready's status and reason if it speaks of the newest generation."""
        body = self.get(resource.KIND, *service)
        if not body or body.get("status", {}).get("observedGeneration") != _generation(body):
            return "", ""
        found = condition_of(body, "Ready")
        return found.get("status", ""), found.get("reason", "")

    def strays(self, service: Key) -> list[str]:
        """The objects of a service that do not belong to its resource as it is now."""
        uid = self.get(resource.KIND, *service)["metadata"]["uid"]
        found = [
            m for kind in children.CHILD_KINDS if kind != "Pod" for m in self.all(kind, service)
        ]
        wrong = [m for m in found if not owned(m, uid)]
        return [f"{m['kind']} {m['metadata']['name']} has another owner" for m in wrong]

    # --- at every change ----------------------------------------------------------------------------

    def saw(self, kind: str, change: str, manifest: Manifest) -> None:
        """Take in one change."""
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        before = self._objects[kind].get(key)
        service = service_of(manifest)
        again = before is not None and before["metadata"]["uid"] == metadata["uid"]
        if change == "DELETED":
            self._objects[kind].pop(key, None)
        else:
            self._objects[kind][key] = manifest
        if change == "DELETED" or not again:
            self.counts[service][
                "DELETED" if change == "DELETED" else "ADDED", kind, _called(manifest)
            ] += 1
        match kind:
            case "Job":
                broken = self._two_builds(change, manifest, before)
            case "Deployment":
                broken = self._unserved(change, manifest, before)
            case _:
                broken = ""
        if broken:
            self.violations[service].append(broken)
        self._changed.set()

    def _two_builds(self, change: str, job: Manifest, _before: Manifest | None) -> str:
        running = [j for j in self.all("Job", service_of(job)) if not _ended(j)]
        return f"{len(running)} builds run at once" if len(running) > 1 else ""

    def _unserved(self, change: str, deployment: Manifest, before: Manifest | None) -> str:
        if change == "DELETED":
            namespace, name = service_of(deployment)
            body = self.get(resource.KIND, namespace, name)
            asked = not body or "deletionTimestamp" in body["metadata"]
            return "" if asked else "the Deployment was deleted"
        wanted = deployment["spec"]
        image = wanted["template"]["spec"]["containers"][0]["image"]
        if image.partition("@")[2] not in self.pushed:
            return f"no build made {image}"
        fell = before is not None and wanted["replicas"] < before["spec"]["replicas"]
        return "the Deployment was scaled down" if fell else ""


def service_of(manifest: Manifest) -> Key:
    """The GoService that an object is or belongs to."""
    metadata = manifest["metadata"]
    if manifest["kind"] == resource.KIND:
        return metadata["namespace"], metadata["name"]
    return metadata["namespace"], metadata["labels"][names.SERVICE]


def _called(manifest: Manifest) -> str:
    """Its name, or for a pod what it is for: a pod's name is chance."""
    metadata = manifest["metadata"]
    if manifest["kind"] != "Pod":
        return str(metadata["name"])
    return str(metadata["labels"].get("batch.kubernetes.io/job-name", "a pod of the service"))


def _ended(job: Manifest) -> bool:
    return any(condition_of(job, end).get("status") == "True" for end in ("Complete", "Failed"))


def _generation(body: Manifest) -> int:
    return int(body["metadata"]["generation"])


def tallied(counts: Counter[tuple[str, str, str]], service: Key) -> list[tuple[str, str, str, int]]:
    """Creations and deletions, object by object, without what differs between services."""
    return sorted(
        (change, kind, role(name.replace(service[1], "service")), count)
        for (change, kind, name), count in counts.items()
    )
