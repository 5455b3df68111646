"""What the machine is, and what processes of it have used."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.node import programs

_TICKS = os.sysconf("SC_CLK_TCK")
"""The kernel's units of CPU time in a second."""
MIB = 2**20
"""Bytes."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds since each began."""

    operator: float
    """Of the operator's process."""
    bed: Mapping[str, float]
    """By name: API server, etcd, controllers, actor, refs server and the load, this process."""
    busy: float
    """All processes of the machine."""

    def since(self, before: Usage) -> Usage:
        """What was used between two moments."""
        bed = {name: used - before.bed[name] for name, used in self.bed.items()}
        return Usage(self.operator - before.operator, bed, self.busy - before.busy)

    @property
    def strangers(self) -> float:
        """What processes that have nothing to do with the measurement used."""
        return max(0.0, self.busy - self.operator - sum(self.bed.values()))


def usage(operator: int, bed: Mapping[str, int]) -> Usage:
    """What is used by now."""
    times = [int(t) for t in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = times[3] + times[4]
    own = {name: cpu(pid) for name, pid in bed.items()} | {"load": cpu(os.getpid())}
    return Usage(cpu(operator), own, (sum(times) - idle) / _TICKS)


def cpu(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> dict[str, float]:
    """Resident memory of a process in MiB, now and at its peak."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM"):
            found[{"VmRSS": "now", "VmHWM": "peak"}[key]] = int(value.split()[0]) * 1024 / MIB
    return found


def forget_peak(pid: int) -> None:
    """Let the peak begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Pace:
    """How fast the machine is: CPU seconds of one and the same piece of work, time and again."""

    taken: list[float] = field(default_factory=list)
    """CPU seconds of each time."""

    def measure(self) -> None:
        """Do the work once: packing and unpacking JSON, as the operator does most of its time."""
        began = time.thread_time()
        for _ in range(10):
            json.loads(json.dumps(_WORK))
        self.taken.append(time.thread_time() - began)

    @property
    def milliseconds(self) -> float:
        """The median."""
        return statistics.median(self.taken) * 1000


_WORK = [
    {f"key-{i}-{j}": {"text": "some text" * 3, "number": i * j} for j in range(10)}
    for i in range(10)
]
"""Some 6 kB of JSON, shaped as manifests are."""
PACE_SECONDS = 2.0
"""Between two measurements."""


@asynccontextmanager
async def paced() -> AsyncIterator[Pace]:
    """Measure the pace every two seconds meanwhile; it takes less than a hundredth of a core."""
    pace = Pace()

    async def keep() -> None:
        while True:
            pace.measure()
            await asyncio.sleep(PACE_SECONDS)

    task = asyncio.create_task(keep())
    try:
        yield pace
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def facts() -> dict[str, str]:
    """What a figure means nothing without."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    total = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cores": str(os.cpu_count()),
        "processor": model,
        "memory": f"{int(total) / MIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kubernetes": programs.KUBERNETES,
    }
