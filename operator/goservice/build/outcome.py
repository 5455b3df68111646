"""What has become of a build, in words that know no engine.

Texts from a pod are stripped of control characters and capped: a build's author may have written them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from goservice.api.conditions import After, Reason
from goservice.manifest import clean

TAIL_LENGTH = 2048
"""Bytes of a failed container's log that are kept in the status."""
LONGEST_WORDS = 300
"""Characters that are taken over from the kubelet, the scheduler or an event."""

FETCH_REPORTS = frozenset(
    {
        Reason.REVISION_NOT_FOUND,
        Reason.GIT_AUTHENTICATION_FAILED,
        Reason.GIT_UNAVAILABLE,
        Reason.UNSAFE_SOURCE,
        Reason.NO_GO_MOD,
        Reason.NO_MAIN_PACKAGE,
        Reason.COMPILE_FAILED,
        Reason.GO_VERSION_TOO_OLD,
        Reason.OUT_OF_MEMORY,
        Reason.DISK_FULL,
    }
)
"""Reasons that the container `fetch` may give for its end; a test holds it to what fetch raises."""


@dataclass(frozen=True)
class Fetched:
    """What `fetch` learnt of the commit. Each is empty where it told nothing that can be trusted."""

    commit: str = ""
    """40 hex digits."""
    time: str = ""
    """When it was committed, RFC 3339."""
    author: str = ""
    """Who wrote it."""
    subject: str = ""
    """The first line of its message."""
    go: str = ""
    """The module's go line, such as 1.26."""
    arch: str = ""
    """The architecture that the program is made for, such as arm64: that of the node that built it."""


@dataclass(frozen=True)
class Running:
    """The build is not over."""

    container: str = ""
    """The one at work; empty while the pod waits."""
    waiting: str = ""
    """Why a container cannot start, in the kubelet's words."""
    missing_image: str = ""
    """The builder image, if the node cannot pull it."""
    missing_claim: str = ""
    """The claim for the caches, if there is none of its name."""
    begun: bool = False
    """Whether any of its containers has ever run."""
    scheduled: str = ""
    """When its pod got a node, RFC 3339; empty if it has none."""

    @property
    def held_up(self) -> bool:
        """Whether it has not begun, or cannot go on: between two containers it is neither."""
        return not self.begun or bool(self.waiting)


@dataclass(frozen=True)
class Succeeded:
    """The image is pushed."""

    digest: str
    """sha256:…"""
    fetched: Fetched
    """The commit that is in it."""
    untagged: bool = False
    """Whether the registry refused its tag, so that it is there by its digest alone."""


@dataclass(frozen=True)
class Failed:
    """The build is over without an image."""

    reason: Reason
    """Why, in one word."""
    message: str
    """Why, and what to do, in sentences."""
    container: str = ""
    """The one that failed; empty if it was none of them."""
    tail: str = ""
    """The failed container's last lines."""

    @property
    def retry(self) -> bool:
        """Whether the platform failed, not the user's input."""
        return self.reason.after is After.RETRY


Outcome = Running | Succeeded | Failed


def fetched(message: str) -> Fetched:
    """What the fetch container reported, as far as it can be trusted."""
    report = _report(message)
    go = str(report.get("go", ""))
    commit = str(report.get("commit", ""))
    time = str(report.get("time", ""))
    return Fetched(
        commit=commit if re.fullmatch(r"[0-9a-f]{40}", commit) else "",
        time=time if re.fullmatch(r"[0-9TZ:.+-]{20,35}", time) else "",
        author=clean(str(report.get("author", "")))[:200],
        subject=clean(str(report.get("subject", "")))[:200],
        go=go_line(go),
        arch=architecture(str(report.get("arch", ""))),
    )


def architecture(text: str) -> str:
    """An architecture as nodes have it in kubernetes.io/arch; empty if the text is none."""
    return text if re.fullmatch(r"[a-z0-9]{3,16}", text) else ""


def go_line(text: str) -> str:
    """A go line of a go.mod, such as 1.26 or 1.27rc1; empty if the text is none."""
    return text if re.fullmatch(r"[0-9a-z.]{1,20}", text) else ""


def fetch_failed(container: str, message: str) -> Failed:
    """The failure that the fetch container reported, or one without a report."""
    report = _report(message)
    reason = next((r for r in FETCH_REPORTS if r == report.get("reason")), None)
    if reason is None:
        text = "The source could not be fetched."
        return Failed(Reason.GIT_UNAVAILABLE, text, container, tail(message))
    return Failed(reason, clean(str(report.get("message", "")))[:500], container)


def _report(message: str) -> dict[str, Any]:
    try:
        report = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def is_digest(text: str) -> bool:
    """Whether a text is the digest of an image."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text) is not None


def tail(text: str) -> str:
    """The last lines of a log: cleaned, without colours, at most 2 KiB, whole lines."""
    plain = clean(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
    cut = plain.encode()[-TAIL_LENGTH:].decode(errors="ignore")
    return cut if len(cut) == len(plain) else cut.partition("\n")[2] or cut
