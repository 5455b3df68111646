"""The figures as people read them, each beside its aim where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Figures = Mapping[str, Any]
"""What a measurement has stored."""

READS = ("get ", "list ")
"""How the names of reads begin in a table of requests."""
FLUX = "Flux 2.9: 1 000 Kustomizations in 253 s, 223 MiB, on 16 cores"
"""What another operator's authors publish, for comparison (docs/performance.md)."""


def heading(figures: Figures) -> Iterator[str]:
    """The machine, and what is set otherwise than by default."""
    facts = figures["machine"]
    yield (
        f"machine: {facts['cores']} cores, {facts['processor']}, {facts['memory']}, {facts['kernel']},"
        f" Python {facts['python']}, Kubernetes {facts['kubernetes']}"
    )
    yield (
        "all on this machine: API server, etcd, controllers (at 1000 requests a second), operator,"
        " actor, load; no node"
    )
    yield (
        f"settings: builds.maxConcurrent is {figures['sizes']['services']} (default 10) so that all"
        " builds start at once; all else as installed"
    )


def text(figures: Figures) -> Iterator[str]:
    """Everything, in the order in which it was measured."""
    yield from _lifecycle(figures["lifecycle"])
    yield from _burst(figures["burst"], figures["limit"])
    yield from _trickle(figures["trickle"])
    yield from _settled(figures)
    if "many" in figures:
        yield from _many(figures)


def _lifecycle(figures: Figures) -> Iterator[str]:
    yield "\nRequests of one service, from its creation until it is settled"
    requests = sorted({key for title in figures for key in figures[title]})
    yield f"  {'':42}{'plain':>8}{'autoscaled':>12}"
    for group, title in ((False, "writes"), (True, "reads")):
        total = [0.0, 0.0]
        for request in requests:
            if request.startswith(READS) != group:
                continue
            counts = [figures[t].get(request, 0) for t in ("plain", "autoscaled")]
            total = [a + b for a, b in zip(total, counts, strict=True)]
            yield f"  {request:42}{counts[0]:>8.4g}{counts[1]:>12.4g}"
        yield f"  {title + ' in all':42}{total[0]:>8.4g}{total[1]:>12.4g}"


def _burst(figures: Figures, limit: Figures) -> Iterator[str]:
    count = figures["services"]
    yield f"\n{count} services applied at once"
    yield _row("all applied", f"{figures['applied_seconds']:.1f} s")
    yield _row("all Jobs created", f"{figures['jobs_seconds']:.1f} s")
    yield _row("all Ready", f"{figures['ready_seconds']:.1f} s", "1 000: 125 s or less")
    yield _row(
        "operator, peak memory",
        f"{figures['memory_peak_mib']:.0f} MiB",
        f"120 MiB or less ({figures['memory_before_mib']:.0f} MiB before)",
    )
    cpu = figures["operator_cpu_seconds"]
    yield _row("operator, CPU", f"{cpu:.1f} s", f"{cpu / count * 1000:.1f} ms a service")
    bed = figures["bed_cpu_seconds"]
    parts = ", ".join(f"{name} {used:.0f}" for name, used in bed.items())
    yield _row("the rest of the bed, CPU", f"{sum(bed.values()):.1f} s", parts)
    yield _row(
        "other processes of the machine, CPU",
        f"{figures['strangers_cpu_seconds']:.1f} s",
        "noise: the more, the slower",
    )
    yield _row("passes per service", f"{figures['passes_per_service']:.1f}")
    yield _row("questions to git servers per service", f"{figures['polls_per_service']:.1f}")
    writes = sum(v for k, v in figures["requests_per_service"].items() if not k.startswith(READS))
    gets = sum(v for k, v in figures["requests_per_service"].items() if k.startswith("get "))
    yield _row("writes per service", f"{writes:.2f}")
    yield _row("reads by name per service", f"{gets:.2f}", "1 or less")
    refused = ", ".join(f"{code}: {number}" for code, number in figures["refused"].items())
    yield _row("answers that were errors", refused or "none")
    yield _row(
        "the same writes by a bare client",
        f"{limit['seconds']:.1f} s",
        f"{limit['writes_per_second']:.0f} writes a second,"
        f" CPU {limit['client_cpu_seconds']:.1f} s",
    )
    yield _row(
        "operator / bare client",
        f"{figures['ready_seconds'] / limit['seconds']:.2f}",
        f"CPU {cpu / limit['client_cpu_seconds']:.2f}",
    )


def _trickle(figures: Figures) -> Iterator[str]:
    yield f"\n{figures['services']} services, one a second"
    for key, title in (
        ("apply_to_job", "apply → Job created"),
        ("complete_to_deployment", "Job complete → Deployment applied"),
    ):
        spread = figures[key]
        yield _row(title, f"p50 {spread['p50_ms']:.0f} ms", f"p99 {spread['p99_ms']:.0f} ms")


def _settled(figures: Figures) -> Iterator[str]:
    restart, idle = figures["restart"], figures["idle"]
    yield "\nAll settled"
    yield _row(
        "restart until ready",
        f"{restart['ready_seconds']:.1f} s",
        f"{restart['lists']} lists, {restart['gets']} reads by name,"
        f" CPU {restart['settled_cpu_seconds']:.1f} s, peak {restart['memory_peak_mib']:.0f} MiB",
    )
    yield _row("restart, writes", f"{restart['writes']}", "0")
    yield _row(f"idle for {idle['seconds']:.0f} s, writes", f"{idle['writes']}", "0")
    yield _idle(idle)


def _many(figures: Figures) -> Iterator[str]:
    many, one = figures["many"], figures["burst"]
    burst, restart, idle = many["burst"], many["restart"], many["idle"]
    ratio = burst["operator_cpu_seconds"] / one["operator_cpu_seconds"]
    times = burst["services"] / one["services"]
    yield f"\n{burst['services']} services applied at once"
    yield _row("all Jobs created", f"{burst['jobs_seconds']:.0f} s")
    yield _row("all Ready", f"{burst['ready_seconds']:.0f} s")
    yield _row("operator, peak memory", f"{burst['memory_peak_mib']:.0f} MiB")
    yield _row(
        "operator, CPU",
        f"{burst['operator_cpu_seconds']:.0f} s",
        f"{ratio:.1f} times that of {one['services']} ({times * 1.2:.0f} or less)",
    )
    pace = burst["pace_ms"] / one["pace_ms"]
    yield _row(
        "the machine took for the same work",
        f"{pace:.2f} times",
        f"CPU of the operator at the same pace: {ratio / pace:.1f} times",
    )
    yield _row("other processes of the machine, CPU", f"{burst['strangers_cpu_seconds']:.0f} s")
    yield _row("passes per service", f"{burst['passes_per_service']:.1f}")
    yield _row(
        "questions to git servers per service",
        f"{burst['polls_per_service']:.1f}",
        "each repository is asked every five minutes",
    )
    yield _row(
        "restart until ready",
        f"{restart['ready_seconds']:.1f} s",
        f"CPU {restart['settled_cpu_seconds']:.1f} s, peak {restart['memory_peak_mib']:.0f} MiB",
    )
    yield _row("restart, writes", f"{restart['writes']}", "0")
    yield _row(f"idle for {idle['seconds']:.0f} s, writes", f"{idle['writes']}", "0")
    yield _idle(idle)


def _idle(idle: Figures) -> str:
    return _row(
        "idle, CPU",
        f"{idle['operator_cpu_share'] * 100:.2f} % of a core",
        f"{idle['memory_mib']:.0f} MiB, {idle['polls']:.0f} questions to git servers",
    )


def _row(title: str, value: str, beside: str = "") -> str:
    return f"  {title:42}{value:>14}  {beside}".rstrip()
