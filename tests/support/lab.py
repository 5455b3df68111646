"""An operator on an in-memory cluster, whose controllers the test plays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from goservice import errors, names
from goservice.api.conditions import Type
from goservice.cluster.kinds import ACCESS, WATCHED
from goservice.loop.cache import Cache
from goservice.loop.reconcile import Reconciler
from goservice.manifest import find_condition
from goservice.metrics import Metrics
from goservice.settings import Settings
from goservice.sources.polling import Answer
from testbed.inmemory import world
from tests.support import factories as f

KEY = ("shop", "checkout")
"""Namespace and name of the service that tests submit first."""


class Git:
    """A repository that answers at once with what the test says."""

    def __init__(self) -> None:
        self.sha = f.COMMIT
        self.error: errors.SourceError | None = None
        self.heard = True
        """Whether there has been any answer."""
        self.moment = 1.0
        self.wanted: set[tuple[str, str]] = set()

    def known(self, url: str, revision: str | None) -> Answer | None:
        return Answer(self.sha, self.error, self.moment) if self.heard else None

    def want(
        self, url: str, revision: str | None, interval_seconds: float, key: tuple[str, str]
    ) -> None:
        self.wanted.add(key)

    def forget(self, key: tuple[str, str]) -> None:
        self.wanted.discard(key)

    def refresh_now(self, url: str, revision: str | None) -> float:
        self.moment += 1
        return self.moment


class Lab:
    """An operator on an in-memory cluster, and methods that do what its controllers would."""

    def __init__(self, settings: Settings = f.SETTINGS) -> None:
        self.world = world.World(access=ACCESS)
        self.git = Git()
        self.settings = settings
        self.now: datetime = f.NOW
        self.world.clock = lambda: f.stamp(self.now)
        self.cache = Cache()
        self.silent: set[str] = set()
        """Kinds whose watches send nothing."""
        self.woken: list[tuple[str, str]] = []
        self.metrics = Metrics()
        self.start()
        self.world.on_change(self._saw)

    def start(self) -> None:
        """A new operator process: what was remembered is lost, the cache is listed anew."""
        self.cache = Cache()
        for kind in WATCHED:
            for manifest in self.world.all(kind):
                self._saw("ADDED", manifest)
        self.operator = Reconciler(
            self.world,
            self.cache,
            self.git,
            self.settings,
            clock=lambda: self.now,
            wake=self.woken.append,
            metrics=self.metrics,
        )

    def _saw(self, event: str, manifest: dict[str, Any]) -> None:
        kind = manifest["kind"]
        ours = manifest["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.OPERATOR
        if kind in self.silent:
            return
        if kind != "GoService" and not ours:
            return
        if event == "DELETED":
            self.cache.drop(kind, manifest)
        else:
            self.cache.put(kind, manifest)

    def submit(self, name: str = "checkout", **changes: Any) -> None:
        body = f.body(**changes)
        body["metadata"]["name"] = name
        del body["metadata"]["uid"]
        self.world.add(body)

    async def settle(self, key: tuple[str, str] = KEY, passes: int = 10) -> None:
        """Passes until one sends nothing."""
        for _ in range(passes):
            before = len(self.world.writes)
            await self.operator.reconcile(key)
            if len(self.world.writes) == before:
                return
        raise AssertionError(f"not settled: {self.world.writes[-6:]}")

    def finish_build(
        self, digest: str = f.DIGEST, *, only: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> None:
        for job in self.world.all("Job"):
            if job.get("status", {}).get("conditions") or not only(job):
                continue
            metadata = job["metadata"]
            pod = f.pod(job)
            pod["metadata"]["labels"] = metadata["labels"]
            pod["status"]["initContainerStatuses"][1] = f.terminated("build", message=digest)
            for server_owned in ("uid", "creationTimestamp"):
                del pod["metadata"][server_owned]
            self.world.add(pod)
            self.world.set_status(
                "Pod", metadata["namespace"], pod["metadata"]["name"], pod["status"]
            )
            at = f.stamp(self.now)
            done = {
                "conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": at}],
                "completionTime": at,
            }
            self.world.set_status("Job", metadata["namespace"], metadata["name"], done)

    def roll_out(self, *, only: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        for live in self.world.all("Deployment"):
            if not only(live):
                continue
            shown = f.settled(live, generation=live["metadata"]["generation"])
            self.world.set_status(
                "Deployment",
                live["metadata"]["namespace"],
                live["metadata"]["name"],
                shown["status"],
            )

    async def serve(self) -> None:
        await self.settle()
        self.finish_build()
        await self.settle()
        self.roll_out()
        await self.settle()

    def status(self, key: tuple[str, str] = KEY) -> dict[str, Any]:
        live = self.world.find("GoService", *key) or self.world.all("GoService")[0]
        found: dict[str, Any] = live.get("status", {})
        return found

    def counted(self) -> dict[str, float]:
        """Ended builds by result and reason, and the seconds of all."""
        [builds] = self.metrics.builds_total.collect()
        [durations] = self.metrics.build_duration_seconds.collect()
        found = {
            f"{sample.labels['result']} {sample.labels['reason']}": sample.value
            for sample in builds.samples
            if sample.name.endswith("_total")
        }
        for sample in durations.samples:
            if sample.name.endswith(("_sum", "_count")):
                found[sample.name.rpartition("_")[2]] = sample.value
        return found

    def ready(self, key: tuple[str, str] = KEY) -> tuple[str, str]:
        found = find_condition(self.status(key), Type.READY)
        return found["status"], found["reason"]

    def message(self) -> str:
        """What Ready says, in its sentences."""
        return str(find_condition(self.status(), Type.READY)["message"])
