"""What is wrong with a service's pods, in words that name the field to change.

The words stay the same while the trouble does: no waiting times, no restart counts, no addresses.
What the kubelet, the scheduler or the program said is cleaned, capped and quoted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goservice.build.outcome import LONGEST_WORDS
from goservice.manifest import Manifest, clean, condition_of, parse_time
from goservice.objects.pod_template import CONTAINER

LONGEST_LINE = 160
"""Characters that are kept of the line that a program ended with."""

_NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
"""Reasons with which a container ends whose program could not be started."""


@dataclass(frozen=True)
class PodTrouble:
    """What is wrong with one pod."""

    words: str
    """In sentences, without the pod's name."""
    rank: int
    """The lower, the more it tells."""
    pod: str = ""
    """The pod's name."""
    asks: str = ""
    """The uid of a pod whose events would tell more."""


@dataclass(frozen=True)
class PodsSeen:
    """What a look at the service's pods showed."""

    trouble: PodTrouble | None = None
    """The trouble that most of them have; None if there is none."""
    others: int = 0
    """How many more pods have it."""
    down_since: datetime | None = None
    """When the last of them ceased to be ready; None if that is not known."""

    @property
    def words(self) -> str:
        """The trouble and whose it is; empty if there is none."""
        if self.trouble is None:
            return ""
        more = f" and {self.others} more" if self.others else ""
        return f"Pod {self.trouble.pod}{more}: {self.trouble.words}"


def look(pods: Iterable[Manifest]) -> PodsSeen:
    """What is to be said of pods that are not ready."""
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    found = [trouble for pod in living if (trouble := _trouble(pod)) is not None]
    if not found:
        return PodsSeen(down_since=_down_since(living))
    least = min(trouble.rank for trouble in found)
    telling = sorted((t for t in found if t.rank == least), key=lambda t: t.pod)
    [(words, count)] = Counter(trouble.words for trouble in telling).most_common(1)
    first = next(trouble for trouble in telling if trouble.words == words)
    return PodsSeen(first, count - 1, _down_since(living))


def _down_since(pods: Iterable[Manifest]) -> datetime | None:
    times = [parse_time(condition_of(pod, "Ready").get("lastTransitionTime")) for pod in pods]
    return max((time for time in times if time is not None), default=None)


def _trouble(pod: Manifest) -> PodTrouble | None:
    status = pod.get("status") or {}
    name = str(pod["metadata"].get("name", ""))
    if status.get("reason") == "Evicted":
        return PodTrouble(_evicted(str(status.get("message", ""))), 5, name)
    if status.get("phase") in ("Failed", "Succeeded"):
        return None  # its controller makes another one
    for container in (
        *_statuses(status, "initContainerStatuses"),
        *_statuses(status, "containerStatuses"),
    ):
        trouble = _container_trouble(container)
        if trouble is not None:
            return PodTrouble(trouble[0], trouble[1], name)
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        words = clean(str(scheduled.get("message", "")))[:LONGEST_WORDS]
        return PodTrouble(
            f"no node takes it: {words.rstrip('.')}. Lower resources.requests, or have nodes added.",
            3,
            name,
        )
    if any(
        "running" in (c.get("state") or {}) and not c.get("ready")
        for c in _statuses(status, "containerStatuses")
    ):
        uid = str(pod["metadata"].get("uid", ""))
        return PodTrouble("its readiness probe does not pass.", 4, name, asks=uid)
    return None


def _statuses(status: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return list(status.get(key) or ())


def _container_trouble(container: Mapping[str, Any]) -> tuple[str, int] | None:
    """Words and rank of what a container's state tells by itself."""
    if container.get("ready"):
        return None
    state = container.get("state") or {}
    name = str(container.get("name", ""))
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    words = clean(str(waiting.get("message", "")))[:LONGEST_WORDS]
    whose = "the program" if name == CONTAINER else f"container {clean(name)}"
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
        return f"{_no_pull(str(container.get('image', '')), words)}", 1
    if reason == "CreateContainerConfigError":
        return f"{whose} cannot be configured: {words}. Look at env and envFrom.", 1
    if reason in ("CreateContainerError", "RunContainerError"):
        return f"{whose} cannot be started: {_short(words)}", 1
    if ended and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
        # Between two waits it runs for a moment: the same trouble, the same words.
        again = reason == "CrashLoopBackOff" or int(container.get("restartCount") or 0) > 1
        return ("CrashLoopBackOff: " if again else "") + _ended(whose, ended), 0
    if ended and "terminated" in state and name == CONTAINER:
        return "the program ends by itself, with exit code 0: a service must go on running.", 0
    return None


def _ended(whose: str, ended: Mapping[str, Any]) -> str:
    if ended.get("reason") == "OOMKilled":
        return f"{whose} was killed for memory: raise resources.limits.memory."
    message = str(ended.get("message", ""))
    if ended.get("reason") in _NEVER_STARTED:
        return f"{whose} cannot be started: {_short(clean(message))}"
    line = last_line(message)
    said = f": {line}" if line else "."
    hint = (
        " A port below 1024 may need another one in ports."
        if "permission denied" in line and "listen" in line
        else ""
    )
    return f"{whose} ends with exit code {ended.get('exitCode')}{said}{hint}"


def _short(words: str) -> str:
    """The cause at the end of a runtime's chain of errors."""
    if "exec format error" in words:
        return "exec format error: it is made for another architecture, or is no program."
    return words[-LONGEST_WORDS:] or "the container runtime does not say why."


def last_line(text: str) -> str:
    """The line of a crash that tells most: the panic, else the last one; without its time."""
    lines = [clean(line) for line in text.splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if re.match(r"(panic|fatal error): ", line)]
    line = (telling or lines or [""])[-1 if not telling else 0]
    line = re.sub(
        r"^\[?\d{4}[-/]\d\d[-/]\d\d[T ][0-9:.,]{8,20}(Z|[+-]\d\d:?\d\d)?\]?\s{0,4}", "", line
    )
    line = re.sub(
        r'\b(time|ts)="?[0-9T:.Z+-]{8,40}"?\s{0,4}|"(time|ts)":"?[0-9T:.Z+-]{8,40}"?,?', "", line
    )
    return line[:LONGEST_LINE]


def _no_pull(image: str, words: str) -> str:
    for pattern, why in (
        (
            r"unauthorized|denied|authentication required|403|401",
            "its registry refuses it: set image.pullSecretRefs to a Secret that may read it",
        ),
        (
            r"not found|manifest unknown|404",
            "its registry does not have it: was it deleted? goservice rebuild makes it anew",
        ),
        (
            r"no such host|i/o timeout|connection refused|deadline exceeded",
            "its registry does not answer the node",
        ),
        (r"x509|certificate|HTTP response to HTTPS", "the node does not trust its registry"),
        (r"", "the node says: " + _short(words) if words else "the node does not say why"),
    ):
        if re.search(pattern, words, re.IGNORECASE):
            return f"cannot pull {clean(image)}: {why}."
    raise AssertionError("the last pattern matches")


def _evicted(message: str) -> str:
    words = clean(message)[:LONGEST_WORDS].rstrip(". ")
    if "EmptyDir" in words and '"tmp"' in words:
        return f"was evicted: it wrote more to /tmp than it may ({words}). The platform's setting is services.tmpSizeLimit."
    if "ephemeral" in words:
        return f"was evicted for its disk use: {words}. Raise resources.limits.ephemeral-storage."
    return f"was evicted: {words}."


def from_probe(events: Iterable[str], port: int | None) -> str:
    """What the kubelet says of a failing probe, of its events' messages; empty if nothing.

    Addresses are left out: they change with each pod.
    """
    for message in reversed(list(events)):
        found = re.match(
            r"(Readiness|Startup|Liveness) probe (failed|errored)[^:]{0,40}: ", message
        )
        if found is None:
            continue
        probe, words = found[1].lower(), message[found.end() :]
        field = f"probes.{probe}"
        if "connection refused" in words:
            at = re.search(r":(\d{1,5}): connect: connection refused", words)
            listens = at[1] if at else str(port or "")
            return f"nothing listens on port {listens}: the program must listen on $PORT, on all addresses."
        status = re.search(r"statuscode: (\d{3})", words)
        if status:
            return f"its {probe} probe gets HTTP status {status[1]}: mend what it asks, or {field}."
        if "deadline exceeded" in words or "Timeout exceeded" in words or "timeout" in words:
            return f"its {probe} probe gets no answer in time: raise {field}.timeoutSeconds, or answer faster."
        told = re.sub(
            r'Get "[^"]{0,300}": |\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?|\[[0-9a-f:]{2,45}\](:\d{1,5})?',
            "",
            words,
        )
        return f"its {probe} probe fails: {clean(told)[:LONGEST_LINE].strip()}"
    return ""
