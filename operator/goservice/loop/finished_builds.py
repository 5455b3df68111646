"""Which finished builds a status records for the first time, for the counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from goservice.manifest import parse_time


@dataclass(frozen=True)
class Finished:
    """A build that is over."""

    name: str
    """Its name."""
    result: str
    """Succeeded or Failed."""
    reason: str
    """Succeeded, or the reason of the failure."""
    seconds: float | None
    """From its Job's creation to its end; None where the Job does not tell."""


def newly_finished(
    before: Mapping[str, Any], status: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]]
) -> list[Finished]:
    """The builds that the new status records and the old one did not."""
    known = {item["build"] for item in before.get("history") or ()}
    new = [item for item in status.get("history") or () if item["build"] not in known]
    if not new:
        return []  # most statuses: no Job is read for them
    started = {job["metadata"]["name"]: job["metadata"].get("creationTimestamp") for job in jobs}
    return [
        Finished(
            name=item["build"],
            result="Succeeded" if item["outcome"] == "Succeeded" else "Failed",
            reason=item["outcome"],
            seconds=_between(started.get(item["build"]), item.get("builtAt")),
        )
        for item in new
    ]


def _between(start: str | None, end: str | None) -> float | None:
    first, last = parse_time(start or ""), parse_time(end or "")
    return (last - first).total_seconds() if first and last and last >= first else None
