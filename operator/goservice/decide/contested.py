"""Objects that others write too: what stands all the same, when to apply again, and what to say.

Server-side apply leaves alone what others add. Two things are left: a webhook that answers an apply
with a field written otherwise, which is then what was wanted; and somebody who changes a field back
after each apply, whom the operator meets less and less often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from goservice import names
from goservice.decide.observed import Applied
from goservice.manifest import Difference, Manifest, annotation, covers, differences

FIRST_WAIT = timedelta(seconds=2)
"""Between the second apply of the same and the third; doubled for each one after it."""
LONGEST_WAIT = timedelta(minutes=5)
"""Between two applies of the same, however often it is undone."""
CALM_AFTER = timedelta(minutes=15)
"""When nobody has undone an apply for so long, nobody contests it any more."""
MOST_TOLD = 3
"""Objects' fields that the status names of each object."""


@dataclass(frozen=True)
class Deviation:
    """A field of an object of ours that is otherwise than it was applied."""

    kind: str
    """The object's kind."""
    path: str
    """The field, from the object's root."""
    found: str
    """What it is."""
    contested: bool
    """Whether somebody changes it after each apply; else the API server answered so."""
    by: str = ""
    """The field manager who changes it, if it is known."""
    supposed: bool = False
    """Whether it is not known yet what the API server answers: told only where it was told before."""


@dataclass(frozen=True)
class Judgement:
    """Whether to apply an object, and what to say of it."""

    apply: bool
    """Whether an apply is due."""
    deviations: tuple[Deviation, ...] = ()
    """What to say."""
    again: float | None = None
    """Seconds until this is to be judged again."""


def judge(
    live: Manifest | None, wanted: Manifest, answer: Applied | None, now: datetime
) -> Judgement:
    """Whether `wanted` is to be applied over what is there."""
    if live is None:
        return Judgement(apply=True)
    mine = annotation(wanted, names.APPLIED)
    if answer is None or answer.digest != mine:
        if covers(live, wanted):
            return Judgement(apply=False)
        same = bool(mine) and annotation(live, names.APPLIED) == mine
        told = differences(live, wanted) if same else ()
        return Judgement(apply=True, deviations=_told(live, told, supposed=True))
    calm_in = _seconds(answer, now, CALM_AFTER)
    fought = answer.undone >= 2 and calm_in is not None
    contest = _told(live, answer.undone_fields, contested=True, by=answer.by) if fought else ()
    found = differences(live, wanted)
    if found == answer.otherwise:
        webhook = _told(live, found)
        return Judgement(False, webhook + contest, calm_in if fought else None)
    wait = _seconds(answer, now, _wait(answer.undone)) if answer.undone else None
    return Judgement(wait is None, contest, wait)


def applied(
    before: Applied | None, wanted: Manifest, live: Manifest | None, made: Manifest, now: datetime
) -> Applied:
    """What is remembered of an apply: `live` is what stood before it, `made` what was answered."""
    fresh = Applied(annotation(wanted, names.APPLIED), differences(made, wanted), now)
    if live is None or before is None or before.digest != fresh.digest:
        return fresh
    if _seconds(before, now, CALM_AFTER) is None:
        return replace(fresh, undone=1)
    found = tuple(one for one in differences(live, wanted) if one not in fresh.otherwise)
    by = writers(live)
    return replace(
        fresh,
        undone=min(before.undone + 1, 20),
        by=by[0] if by else before.by,
        undone_fields=found or before.undone_fields,
    )


def writers(live: Manifest) -> list[str]:
    """The field managers beside us who wrote an object's spec or metadata, the newest first."""
    found = live.get("metadata", {}).get("managers") or ()
    return [str(name) for name in found]


def _wait(undone: int) -> timedelta:
    return min(FIRST_WAIT * (1 << (undone - 1)), LONGEST_WAIT)


def _seconds(answer: Applied, now: datetime, after: timedelta) -> float | None:
    """Seconds until so long after the apply; None once it is past."""
    left = ((answer.applied_at or now) + after - now).total_seconds()
    return left if left > 0 else None


def _told(
    live: Manifest,
    found: Iterable[Difference],
    *,
    contested: bool = False,
    by: str = "",
    supposed: bool = False,
) -> tuple[Deviation, ...]:
    return tuple(
        Deviation(live["kind"], path, value, contested, by, supposed)
        for path, value in list(found)[:MOST_TOLD]
    )
