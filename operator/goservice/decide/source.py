"""The source step: which commit is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from goservice.api.conditions import After, Reason
from goservice.api.resource import GoService
from goservice.decide.last_status import LastStatus
from goservice.decide.observed import Resolution


@dataclass(frozen=True)
class SourceStep:
    """What is known of the commit."""

    commit: str = ""
    """40 hex digits; empty while none is known."""
    problem: Reason | None = None
    """Why there is no answer. It stands beside a commit when only the poll failed."""
    message: str = ""
    """The same, in a sentence."""
    tag: str = ""
    """The commit of a tag that has the branch's name; empty if there is none."""
    pinned: bool = False
    """Whether image.digest says what serves, so that no commit is wanted."""

    @property
    def stopped(self) -> bool:
        """Whether a person must act before there can be an answer."""
        return self.problem is not None and self.problem.after is After.STOP


def resolve(service: GoService, resolution: Resolution | None, status: LastStatus) -> SourceStep:
    """The commit to build: the newest one that is known for this very generation."""
    if service.spec.image.digest is not None:
        return SourceStep(pinned=True)
    answer = resolution or Resolution()
    # Another generation may name another source, which has other commits.
    remembered = status.commit_sha if status.generation == service.generation else ""
    return SourceStep(answer.sha or remembered, answer.reason, answer.message, answer.tag)
