"""What works and should be looked at: `status.warnings`.

A warning never changes what is done. Each is one function of `WARNINGS` below, with words that stay
the same while what they speak of does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from goservice.api.resource import GoService
from goservice.decide.contested import Deviation
from goservice.decide.facts import Facts
from goservice.decide.source import SourceStep
from goservice.objects.pod_disruption_budget import most_replicas
from goservice.settings import Settings

MOST = 16
"""Warnings that the status shows."""
LONGEST_FIELD = 253
"""Characters of a warning's field."""
LONGEST = 1024
"""Characters of a warning's message."""


@dataclass(frozen=True)
class Remark:
    """Something that works and should be looked at."""

    field: str
    """The field that it is about, such as spec.disruption.maxUnavailable."""
    message: str
    """What about it, and what to do, in sentences."""

    def written(self) -> dict[str, Any]:
        """It as the status has it."""
        return {"field": self.field, "message": self.message[:LONGEST]}


@dataclass(frozen=True)
class Seen:
    """What warnings are made of."""

    service: GoService
    """The resource."""
    settings: Settings
    """The platform's settings."""
    facts: Facts
    """What is there of it."""
    source: SourceStep
    """What is known of its commit."""
    deviations: tuple[Deviation, ...] = ()
    """Fields of its objects that are otherwise than applied."""


def _budget_blocks(seen: Seen) -> Iterable[Remark]:
    allowed = str(seen.service.spec.disruption.max_unavailable)
    if allowed in ("0", "0%") and most_replicas(seen.service) > 1:
        yield Remark(
            "spec.disruption.maxUnavailable",
            f"{allowed} lets no pod be moved: a drain of its node never ends. 1 is the least that does.",
        )


def _less_without_autoscaling(seen: Seen) -> Iterable[Remark]:
    scaling, declared = seen.service.spec.autoscaling, seen.service.spec.replicas
    if scaling is not None and declared < scaling.min_replicas:
        yield Remark(
            "spec.replicas",
            f"{declared} is below autoscaling.minReplicas ({scaling.min_replicas}): to switch autoscaling"
            f" off takes the service down to {declared} at once. Set replicas before you do.",
        )


def _others_write(seen: Seen) -> Iterable[Remark]:
    told = [dict(one) for one in seen.facts.status.written.get("warnings") or ()]
    for one in seen.deviations:
        field = f"{one.kind}: {one.path}"
        if one.contested:
            who = one.by or "Somebody"
            message = (
                f"{who} changes this field each time after the operator has written it. It is written"
                " anew ever less often: let one of the two go."
            )
        else:
            what = f"has {one.found}" if one.found else "leaves it out"
            message = (
                f"The cluster {what}, not what was applied: an admission webhook or policy writes it"
                " otherwise. It is left so."
            )
        remark = Remark(field[:LONGEST_FIELD], message)
        if not one.supposed or remark.written() in told:
            yield remark


def _source_is_lost(seen: Seen) -> Iterable[Remark]:
    if seen.source.commit and seen.source.stopped:
        yield Remark(
            "spec.source.git",
            f"New commits are not followed: {seen.source.message}. What is built and serves stays.",
        )


def _two_of_one_name(seen: Seen) -> Iterable[Remark]:
    git = seen.service.spec.source.git if seen.service.spec.source else None
    if git is not None and seen.source.tag and not seen.source.pinned:
        yield Remark(
            "spec.source.git.revision",
            f"A branch and a tag are called {git.revision}: built is the branch ({seen.source.commit[:12]}),"
            f" not the tag ({seen.source.tag[:12]}). Say which: refs/heads/{git.revision} or"
            f" refs/tags/{git.revision}.",
        )


def _untagged(seen: Seen) -> Iterable[Remark]:
    live = seen.facts.deployment
    if live is not None and live.untagged:
        repository, _, digest = live.applied_image.partition("@")
        yield Remark(
            "spec.image.tag",
            f"The registry keeps {repository}:{live.untagged} for an older image, so the newest one was pushed"
            f" by its digest alone: {digest}. Have it spare images without a tag when it cleans up, or set"
            " another image.tag.",
        )


def _polled_less_often(seen: Seen) -> Iterable[Remark]:
    source, least = seen.service.spec.source, seen.settings.git.least_poll_seconds
    if source is not None and 0 < source.poll_interval_seconds < least:
        yield Remark(
            "spec.source.pollIntervalSeconds",
            f"{source.poll_interval_seconds} is less than the platform allows: the repository is looked at"
            f" each {least} s.",
        )


WARNINGS: tuple[Callable[[Seen], Iterable[Remark]], ...] = (
    _budget_blocks,
    _less_without_autoscaling,
    _source_is_lost,
    _two_of_one_name,
    _untagged,
    _polled_less_often,
    _others_write,
)
"""Every warning there is, in the order in which the status shows them."""


def found(seen: Seen) -> list[dict[str, Any]]:
    """`status.warnings`: what there is to look at, at most 16."""
    every = [one for find in WARNINGS for one in find(seen)]
    return [one.written() for one in every[:MOST]]
