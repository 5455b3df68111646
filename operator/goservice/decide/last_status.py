"""The status as it was last written, parsed: what survives a pass and a restart of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goservice.api.conditions import Condition, Type, known, verdict
from goservice.api.status import BuildPhase
from goservice.build.outcome import architecture
from goservice.manifest import find_condition


@dataclass(frozen=True)
class BuildRecord:
    """A finished build, as the status records it."""

    name: str
    """The build's name."""
    outcome: str
    """Succeeded, or the reason of the failure."""
    image: str
    """The image that it made; empty if it made none."""
    arch: str
    """The architecture that the image is made for; empty if it is not known."""
    untagged: bool
    """Whether the registry refused the image its tag."""
    commit: str
    """The commit that it was made from; empty if that is not known."""
    built_at: str
    """When it ended, RFC 3339; empty if that is not known."""
    written: Mapping[str, Any]
    """The record as it stands."""


@dataclass(frozen=True)
class LastStatus:
    """The status as it was last written."""

    written: Mapping[str, Any]
    """All of it."""
    generation: int
    """The generation that it speaks of, 0 if none."""
    conditions: tuple[Mapping[str, Any], ...]
    """The conditions as they stand."""
    commit: Mapping[str, Any]
    """The newest commit that was known, with what `fetch` learnt of it."""
    commit_sha: str
    """Its hash."""
    go: str
    """The go line of the newest build."""
    build: Mapping[str, Any]
    """The newest build, as it stands."""
    build_name: str
    """Its name."""
    build_is_queued: bool
    """Whether that build waited for a build slot."""
    build_is_over: bool
    """Whether that build has ended."""
    build_started_at: str
    """When that build was started, RFC 3339."""
    serving_image: str
    """The image of the last Deployment that was rolled out completely."""
    log_tail: str
    """That build's last lines, if it failed."""
    history: tuple[BuildRecord, ...]
    """The newest finished builds, the newest first."""
    rebuild_handled: str
    """The rebuild request that was answered last."""

    def condition(self, kind: Type) -> Condition | None:
        """A condition, if it is there and this version knows its reason."""
        found = find_condition(self.written, kind)
        reason, status = known(found.get("reason")), verdict(found.get("status"))
        if reason is None or status is None:
            return None
        return Condition(kind, status, reason, str(found.get("message", "")))

    @property
    def build_is_recorded(self) -> bool:
        """Whether the history tells how that build ended."""
        return any(record.name == self.build_name for record in self.history)

    def ready(self) -> tuple[str, str]:
        """Status and reason of Ready, empty if it was never written."""
        ready = find_condition(self.written, Type.READY)
        return ready.get("status", ""), ready.get("reason", "")


def last_status(written: Mapping[str, Any]) -> LastStatus:
    """The status of a resource, parsed."""
    build = written.get("build") or {}
    commit = written.get("commit") or {}
    return LastStatus(
        written=written,
        generation=int(written.get("observedGeneration") or 0),
        conditions=tuple(written.get("conditions") or ()),
        commit=commit,
        commit_sha=str(commit.get("sha", "")),
        go=str(written.get("goVersion", "")),
        build=build,
        build_name=str(build.get("name", "")),
        build_is_queued=build.get("phase") == BuildPhase.QUEUED,
        build_is_over=build.get("phase") in (BuildPhase.SUCCEEDED, BuildPhase.FAILED),
        build_started_at=str(build.get("startedAt") or ""),
        serving_image=str(written.get("servingImage", "")),
        log_tail=str(build.get("logTail", "")),
        history=tuple(
            BuildRecord(
                name=str(item.get("build", "")),
                outcome=str(item.get("outcome", "")),
                image=str(item.get("image", "")),
                arch=architecture(str(item.get("arch", ""))),
                untagged=item.get("untagged") is True,
                commit=str(item.get("commit", "")),
                built_at=item.get("builtAt", ""),
                written=item,
            )
            for item in written.get("history") or ()
        ),
        rebuild_handled=written.get("lastHandledRebuildAt", ""),
    )
