"""Fault plans as data: what strikes where, and what was reached."""

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from typing_extensions import override


class Fault(StrEnum):
    """What can happen at a point."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    CONFLICT = "409"
    TAKEN = "409 AlreadyExists"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    INVALID = "422"
    TOO_MANY = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    GATEWAY = "504"
    RESET = "reset"
    TIMEOUT = "timeout"
    LOST = "applied but lost"
    UNAUTHORIZED = "401"
    GONE = "410"
    STREAM_GONE = "410 in a stream"
    STREAM_INTERNAL = "500 in a stream"
    CUT = "watch cut"
    DELAYED = "watch delayed"
    REPEATED = "watch repeated"
    SILENCED = "watch silenced"
    TRAVELLED = "watch time-travelled"


KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
"""The operator's process ends, before the request has an effect or after it."""
ANSWERS = (
    Fault.CONFLICT,
    Fault.UNAUTHORIZED,
    Fault.FORBIDDEN,
    Fault.NOT_FOUND,
    Fault.INVALID,
    Fault.TOO_MANY,
    Fault.INTERNAL,
    Fault.UNAVAILABLE,
    Fault.GATEWAY,
    Fault.RESET,
    Fault.TIMEOUT,
    Fault.LOST,
)
"""What a request of any verb can be answered with, or not."""
CODES: dict[Fault, tuple[int, str]] = {
    Fault.CONFLICT: (409, "Conflict"),
    Fault.TAKEN: (409, "AlreadyExists"),
    Fault.UNAUTHORIZED: (401, "Unauthorized"),
    Fault.FORBIDDEN: (403, "Forbidden"),
    Fault.NOT_FOUND: (404, "NotFound"),
    Fault.GONE: (410, "Expired"),
    Fault.INVALID: (422, "Invalid"),
    Fault.TOO_MANY: (429, "TooManyRequests"),
    Fault.INTERNAL: (500, "InternalError"),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable"),
    Fault.GATEWAY: (504, "Timeout"),
}
"""The status code and the reason of each fault that is a server's answer."""
STREAMS = (Fault.CUT, Fault.DELAYED, Fault.REPEATED, Fault.SILENCED, Fault.TRAVELLED)
"""What can happen to an event of a watch."""
READS = ("get", "list")
"""The verbs of requests that change nothing."""
CHANGES = ("ADDED", "MODIFIED", "DELETED")
"""The types of a watch's events; a point with one of them for a verb is an event."""


@dataclass(frozen=True, order=True)
class Point:
    """A request of the operator, or an event of its watches, different from all others."""

    verb: str
    """get, list, apply, hand over, create, delete and so on; of an event its type, such as
    ADDED."""
    kind: str
    """The kind of the object, such as Deployment."""
    role: str
    """The object's name without hashes, so that it is the same in every run; empty for a list."""
    occurrence: int
    """Counts the requests of this verb, kind and role in the run, from 1."""

    @property
    def is_event(self) -> bool:
        """Whether it is an event of a watch."""
        return self.verb in CHANGES

    @override
    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.role}#{self.occurrence}"


@dataclass(frozen=True)
class Strike:
    """One fault at one point."""

    point: Point
    """Where it strikes."""
    fault: Fault
    """What happens there."""

    @override
    def __str__(self) -> str:
        return f"{self.point}: {self.fault}"


def faults_at(point: Point) -> tuple[Fault, ...]:
    """Everything that can happen at a point."""
    if point.is_event:
        return STREAMS
    if point.verb in READS:
        return ANSWERS
    return KILLS + ANSWERS + ((Fault.TAKEN,) if point.verb == "create" else ())


def role(name: str) -> str:
    """What an object is for, without the parts of its name that are hashes."""
    return re.sub(r"[0-9a-f]{10}", "…", name)


@dataclass
class Script:
    """The strikes of one run, and the points that it has reached."""

    strikes: dict[Point, Fault] = field(default_factory=dict)
    """What is to happen, by point."""
    reached: list[Point] = field(default_factory=list)
    """Every point so far, in order."""
    fired: list[Strike] = field(default_factory=list)
    """The strikes that have happened."""
    open: bool = True
    """Whether points still count; not after the scenario has converged."""
    _seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How often each verb, kind and role has come."""

    def arrive(self, verb: str, kind: str, name: str) -> Fault | None:
        """The fault that strikes here, if any."""
        if not self.open:
            return None
        key = (verb, kind, role(name) if kind != "Event" else "")
        self._seen[key] += 1
        point = Point(*key, self._seen[key])
        self.reached.append(point)
        fault = self.strikes.get(point)
        if fault is not None:
            self.fired.append(Strike(point, fault))
        return fault
