"""The measurements, in the order in which they are made.

Each gives a dict of plain numbers: what is printed and what is stored are made of it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import audit, load, machine
from benchmarks.bed import Bed
from goservice.manifest import Manifest
from testbed.apiserver import http
from testbed.node import progress

Figures = dict[str, Any]
"""Plain numbers, as they are stored."""

QUIET_SECONDS = 3.0
"""Without any write: what was begun before is over."""
WORKERS = 16
"""How many requests the bare client has under way: the operator's default number of workers."""
TEMPLATE = "bench-template"
"""The service whose writes the bare client sends again for others."""
SCALED = "bench-scaled"
"""The namespace of the services with an autoscaler."""
LONGEST_SECONDS = 3600.0
"""Until a measurement is given up; 10 000 services at once take the longest."""


@dataclass
class Campaign:
    """One control plane, its operator and what is needed to ask both."""

    bed: Bed
    """What it runs on."""
    client: http.Client
    """The administrator's, which plays the users."""
    tally: load.Tally
    """Which services are ready."""
    log: audit.Log
    """Where every figure comes from."""
    recorded: list[audit.Request] = field(default_factory=list)
    """The operator's writes for one plain service, in order."""

    # --- one lifecycle ----------------------------------------------------------------------------

    async def lifecycle(self, count: int) -> Figures:
        """What one service asks of the API server from its creation until it is settled."""
        plain = [load.service(self.bed, audit.RECORDED, TEMPLATE)]
        scaled = [
            load.service(self.bed, SCALED, f"service-{i}", **load.AUTOSCALED) for i in range(count)
        ]
        result: Figures = {}
        for title, services in (("plain", plain), ("autoscaled", scaled)):
            await load.namespaces(self.client, services)
            self.log.skip()
            with progress.step(f"lifecycle of {len(services)} services, {title}") as step:
                await load.create(self.client, services)
                await self._ready(services, step)
            seen = self.log.new()
            result[title] = _per_service(audit.table(seen), len(services))
            if title == "plain":
                self.recorded = [r for r in seen if r.ours and r.write]
        return result

    # --- many at once -----------------------------------------------------------------------------

    async def burst(self, count: int) -> Figures:
        """Many services created at once, until all are ready."""
        services = load.fleet(self.bed, "bench-burst", count)
        await load.namespaces(self.client, services)
        await asyncio.sleep(QUIET_SECONDS)
        pid = self.bed.operator.pid
        machine.forget_peak(pid)
        empty, before = machine.memory(pid), self.bed.usage()
        passes, polls = self._passes(), self._polls()
        self.log.skip()
        async with machine.paced() as pace:
            with progress.step(f"{count} services at once") as step:
                await load.create(self.client, services)
                await self._ready(services, step)
        used = self.bed.usage().since(before)
        seen = self.log.new()
        began = min(r.received for r in seen if r.resource == "goservices" and not r.ours)
        created = [r for r in seen if not r.ours and r.resource == "goservices"]
        jobs = [r for r in seen if r.ours and (r.verb, r.resource) == ("create", "jobs")]
        last: dict[tuple[str, str], float] = {}
        for request in seen:
            if request.ours and request.resource == "goservices/status":
                last[request.namespace, request.name] = request.answered
        memory = machine.memory(pid)
        return {
            "services": count,
            "applied_seconds": max(r.answered for r in created) - began,
            "jobs_seconds": max(r.answered for r in jobs) - began,
            "ready_seconds": max(last.values()) - began,
            "operator_cpu_seconds": used.operator,
            "bed_cpu_seconds": used.bed,
            "strangers_cpu_seconds": used.strangers,
            "pace_ms": pace.milliseconds,
            "memory_before_mib": empty["now"],
            "memory_peak_mib": memory["peak"],
            "memory_after_mib": memory["now"],
            "passes_per_service": (self._passes() - passes) / count,
            "polls_per_service": (self._polls() - polls) / count,
            "requests_per_service": _per_service(audit.table(seen), count),
            "refused": _refused(seen),
        }

    # --- one by one -------------------------------------------------------------------------------

    async def trickle(self, count: int) -> Figures:
        """One service a second, and how long the operator takes to act."""
        services = [load.service(self.bed, audit.TRICKLE, f"service-{i}") for i in range(count)]
        await load.namespaces(self.client, services[:1])
        self.log.skip()
        before = self.bed.usage()
        with progress.step(f"{count} services, one a second") as step:
            start = time.monotonic()
            for i, manifest in enumerate(services):
                await asyncio.sleep(max(0.0, start + i - time.monotonic()))
                await load.create(self.client, [manifest])
                step.note = f"{i + 1} of {count} applied"
            await self._ready(services, step)
        return {
            "services": count,
            "strangers_cpu_seconds": self.bed.usage().since(before).strangers,
            **_latencies(self.log.new()),
        }

    # --- nothing to do ----------------------------------------------------------------------------

    async def idle(self, seconds: float) -> Figures:
        """Everything is settled: what the operator still does."""
        self.log.skip()
        before, polls = self.bed.usage(), self._polls()
        with progress.step(f"idle for {progress.elapsed(seconds)}") as step:
            for left in range(int(seconds), 0, -1):
                step.note = f"{left} s left"
                await asyncio.sleep(1)
        used = self.bed.usage().since(before)
        seen = self.log.new()
        return {
            "seconds": seconds,
            "writes": sum(r.ours and r.write for r in seen),
            "reads": sum(audit.table(r for r in seen if not r.write).values()),
            "operator_cpu_share": used.operator / seconds,
            "polls": self._polls() - polls,
            "memory_mib": machine.memory(self.bed.operator.pid)["now"],
        }

    async def restart(self, settle: float) -> Figures:
        """The operator ended and started with everything settled."""
        operator = self.bed.operator
        with progress.step("restart"):
            await asyncio.to_thread(operator.stop)
            self.log.skip()
            start = time.monotonic()
            await asyncio.to_thread(operator.start, 600)
            ready = time.monotonic() - start
            await self._quiet(settle)
            passes = self._passes()
        seen = self.log.new()
        lists = [r for r in seen if r.ours and r.verb == "list"]
        return {
            "ready_seconds": ready,
            "writes": sum(r.ours and r.write for r in seen),
            "gets": sum(r.ours and r.verb == "get" and bool(r.name) for r in seen),
            "lists": len(lists),
            "passes": passes,
            "settled_cpu_seconds": machine.cpu(operator.pid),
            "memory_peak_mib": machine.memory(operator.pid)["peak"],
        }

    # --- the limit --------------------------------------------------------------------------------

    async def limit(self, count: int) -> Figures:
        """The same writes by a bare client that knows them beforehand; the operator is stopped."""
        await asyncio.to_thread(self.bed.operator.stop)
        services = load.fleet(self.bed, "bench-limit", count)
        await load.namespaces(self.client, services)
        made = await load.create(self.client, services)
        before = _own_cpu()
        original = _original(self.recorded)
        with progress.step(f"the same writes for {count} services by a bare client") as step:
            start = time.monotonic()
            done = 0

            async def play(manifest: Manifest) -> Manifest:
                nonlocal done
                for request in self.recorded:
                    await _again(self.client, request, original, manifest["metadata"])
                done += 1
                step.note = f"{done} of {count}"
                return manifest

            await load.at_once(play, made, WORKERS)
            seconds = time.monotonic() - start
        return {
            "services": count,
            "seconds": seconds,
            "writes": len(self.recorded) * count,
            "writes_per_second": len(self.recorded) * count / seconds,
            "client_cpu_seconds": _own_cpu() - before,
        }

    # --- parts ------------------------------------------------------------------------------------

    async def _ready(self, services: Iterable[Manifest], step: progress.Step) -> None:
        def note(text: str) -> None:
            step.note = text

        await self.tally.wait(services, LONGEST_SECONDS, note)
        await self._quiet(QUIET_SECONDS)

    async def _quiet(self, seconds: float) -> None:
        """Until the operator has made no pass for some seconds."""
        last, since = self._passes(), time.monotonic()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(0.5)
            now = self._passes()
            if now != last:
                last, since = now, time.monotonic()

    def _passes(self) -> float:
        """Passes so far, by the operator's own metric."""
        return self._counted("passes")

    def _polls(self) -> float:
        """Questions to git servers so far, by the operator's own metric."""
        return self._counted("sources_polls")

    def _counted(self, what: str) -> float:
        address = f"http://127.0.0.1:{self.bed.operator.port}/metrics"
        with urllib.request.urlopen(address, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [x for x in lines if x.startswith(f"goservice_operator_{what}_total{{")]
        return sum(float(x.rpartition(" ")[2]) for x in found)


def _per_service(table: Counter[tuple[str, str]], count: int) -> Figures:
    return {f"{verb} {kind}": number / count for (verb, kind), number in sorted(table.items())}


def _refused(seen: Iterable[audit.Request]) -> Figures:
    """Requests of the operator that were not granted, by code."""
    return dict(Counter(str(r.code) for r in seen if r.ours and r.code >= 400))


def _latencies(seen: Iterable[audit.Request]) -> Figures:
    applied: dict[str, float] = {}
    job: dict[str, float] = {}
    complete: dict[str, float] = {}
    deployed: dict[str, float] = {}
    for request in seen:
        if request.namespace != audit.TRICKLE:
            continue
        owner = request.name.partition("-build-")[0]
        match (request.ours, request.verb, request.resource):
            case (False, "create", "goservices"):
                applied[owner] = request.answered
            case (True, "create", "jobs"):
                job.setdefault(owner, request.received)
            case (False, _, "jobs/status") if _complete(request.body):
                complete.setdefault(owner, request.answered)
            case (True, _, "deployments"):
                deployed.setdefault(owner, request.received)
            case _:
                pass  # the other requests start and end nothing that is measured
    return {
        "apply_to_job": _spread([job[k] - applied[k] for k in applied if k in job]),
        "complete_to_deployment": _spread(
            [deployed[k] - complete[k] for k in complete if k in deployed]
        ),
    }


def _complete(body: Any) -> bool:
    conditions = ((body or {}).get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def _spread(seconds: list[float]) -> Figures:
    return {
        "count": len(seconds),
        "p50_ms": audit.quantile(seconds, 0.5) * 1000,
        "p99_ms": audit.quantile(seconds, 0.99) * 1000,
    }


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _original(recorded: Iterable[audit.Request]) -> str:
    """The uid of the service whose writes were recorded."""
    return next(
        str(r.body["metadata"]["uid"]) for r in recorded if r.resource == "goservices/status"
    )


async def _again(
    client: http.Client, request: audit.Request, original: str, owner: Manifest
) -> None:
    """Send a recorded write for another service."""
    text = json.dumps(request.body)
    for before, after in (
        (original, owner["uid"]),
        (audit.RECORDED, owner["namespace"]),
        (TEMPLATE, owner["name"]),
    ):
        text = text.replace(before, after)
    body = json.loads(text)
    plural, _, part = request.resource.partition("/")
    where = http.collection(body, plural)
    query = "fieldManager=goservice-operator&fieldValidation=Strict"
    if request.verb == "create":
        await client.send("POST", f"{where}?{query}", body)
        return
    if part:
        body["metadata"].pop("resourceVersion", None)
    path = f"{where}/{body['metadata']['name']}" + (f"/{part}" if part else "")
    await client.send("PATCH", f"{path}?{query}&force=true", body, http.APPLY)
