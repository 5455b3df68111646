"""The API server's audit log: who asked for what, to the microsecond.

It is the only clock and the only count here: the operator's own word is not taken for either.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from testbed.apiserver.controlplane import OPERATOR_USER

RECORDED = "bench-recorded"
"""The namespace whose requests are kept with their bodies, to be sent again by a bare client."""
TRICKLE = "bench-trickle"
"""The namespace where services come one by one, and latencies are measured."""

RULES: tuple[Mapping[str, Any], ...] = (
    {"level": "Request", "users": [OPERATOR_USER], "namespaces": [RECORDED]},
    {"level": "Metadata", "users": [OPERATOR_USER]},
    {
        # The controllers' statuses, to find the moment at which a Job is complete.
        "level": "Request",
        "users": ["admin"],
        "namespaces": [TRICKLE],
        "verbs": ["update", "patch"],
        "resources": [{"group": "batch", "resources": ["jobs/status"]}],
    },
    {
        "level": "Metadata",
        "users": ["admin"],
        "verbs": ["create"],
        "resources": [{"group": "goservice.dev", "resources": ["goservices"]}],
    },
    {"level": "None"},
)
"""The audit policy: the operator's requests, and the few of others that mark a moment. The first
rule that fits counts."""

READS = ("get", "list", "watch")
"""Verbs that change nothing."""


@dataclass(frozen=True)
class Request:
    """One request, as the API server saw it."""

    verb: str
    """The API's verb, such as patch."""
    resource: str
    """With its subresource, such as goservices/status."""
    namespace: str
    """Empty for what has none."""
    name: str
    """Of a creation too, where the policy keeps the body."""
    user: str
    """Who asked."""
    code: int
    """HTTP status of the answer."""
    received: float
    """Seconds of the epoch, to the microsecond, by the API server's clock."""
    answered: float
    """The same."""
    body: Any = None
    """What was sent; None where the policy does not keep it."""

    @property
    def ours(self) -> bool:
        """Whether the operator asked."""
        return self.user == OPERATOR_USER

    @property
    def write(self) -> bool:
        """Whether it changes something."""
        return self.verb not in READS and not self.resource.startswith("selfsubject")


class Log:
    """Reads on from where it stopped the last time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._position = 0

    def skip(self) -> None:
        """Forget what has come since the last time."""
        self._position = self._file.stat().st_size

    def new(self) -> list[Request]:
        """What has come since the last time."""
        return list(self._read())

    def _read(self) -> Iterator[Request]:
        with self._file.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                entry = json.loads(line)
                if entry["stage"] in ("ResponseComplete", "Panic"):
                    yield _request(entry)


def _request(entry: Mapping[str, Any]) -> Request:
    reference = entry.get("objectRef") or {}
    part = reference.get("subresource")
    name = reference.get("name", "")
    body = entry.get("requestObject")
    if not name and body:
        name = body["metadata"].get("name", "")
    return Request(
        verb=entry["verb"],
        resource=reference.get("resource", "") + (f"/{part}" if part else ""),
        namespace=reference.get("namespace", ""),
        name=name,
        user=entry["user"]["username"],
        code=(entry.get("responseStatus") or {}).get("code", 0),
        received=_moment(entry["requestReceivedTimestamp"]),
        answered=_moment(entry["stageTimestamp"]),
        body=body,
    )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def table(requests: Iterable[Request]) -> Counter[tuple[str, str]]:
    """How often the operator asked, by verb and resource, but for watches and discovery."""
    return Counter(
        (r.verb, r.resource)
        for r in requests
        if r.ours
        and r.verb != "watch"
        and (r.name or r.verb != "get")
        and not r.resource.startswith("selfsubject")
    )


def quantile(values: Iterable[float], share: float) -> float:
    """The value that a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
