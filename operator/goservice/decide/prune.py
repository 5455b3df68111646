"""The prune step: builds beyond the history go, once the status has recorded them."""

from __future__ import annotations

from goservice.api.resource import GoService
from goservice.build.outcome import Failed, Succeeded
from goservice.decide.facts import Facts
from goservice.decide.observed import Observed
from goservice.decide.writes import Delete

HISTORY = 10
"""Finished builds that the status records."""


def deletes(
    service: GoService, observed: Observed, facts: Facts, current: str
) -> tuple[Delete, ...]:
    """Jobs and ConfigMaps to delete; `current` is the name of the build that is wanted."""
    recorded = {record.name for record in facts.status.history}
    oldest = min((record.built_at for record in facts.status.history), default="")
    limits = service.spec.build.history
    finished = [a for a in reversed(facts.builds) if not a.running]
    good = [a for a in finished if isinstance(a.outcome, Succeeded)]
    bad = [a for a in finished if isinstance(a.outcome, Failed)]
    superfluous = [
        a
        for a in good[limits.succeeded :] + bad[limits.failed :]
        if a.name != current
        and (a.name in recorded or (len(recorded) >= HISTORY and a.finished < oldest))
    ]
    jobs = tuple(Delete("Job", service.namespace, a.name, a.job_uid) for a in superfluous)
    if _may_be_about_to_build(service, observed):
        return jobs
    kept = {a.name for a in facts.builds} - {a.name for a in superfluous} | {current}
    files = tuple(
        Delete("ConfigMap", service.namespace, name, uid)
        for name, uid in facts.build_files.items()
        if name not in kept
    )
    return jobs + files


def _may_be_about_to_build(service: GoService, observed: Observed) -> bool:
    """Whether files without a Job may be of the build that comes next.

    An operator that died between the two finds them before it knows the newest commit again.
    """
    if service.spec.image.digest is not None:
        return False
    return observed.resolution is None or not observed.resolution.sha
