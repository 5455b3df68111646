"""Which builds a status tells of for the first time, for the counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from goservice.observed import moment

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A build that is over. `seconds` is None where its Job does not tell."""

    name: str
    result: str
    reason: str
    seconds: float | None


def ended(before: Manifest, status: Manifest, jobs: Iterable[Manifest]) -> list[Ended]:
    """The builds that the new status records and the old one did not."""
    known = {item["build"] for item in before.get("history") or ()}
    new = [item for item in status.get("history") or () if item["build"] not in known]
    if not new:
        return []  # most statuses: no Job is read for them
    started = {job["metadata"]["name"]: job["metadata"].get("creationTimestamp") for job in jobs}
    return [
        Ended(
            name=item["build"],
            result="Succeeded" if item["outcome"] == "Succeeded" else "Failed",
            reason=item["outcome"],
            seconds=_between(started.get(item["build"]), item.get("builtAt")),
        )
        for item in new
    ]


def _between(start: str | None, end: str | None) -> float | None:
    first, last = moment(start or ""), moment(end or "")
    return (last - first).total_seconds() if first and last and last >= first else None
