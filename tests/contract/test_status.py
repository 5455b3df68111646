"""The CRD takes every status that the plan writes: a refused status would be said to nobody."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import reference
from goservice.api import conditions
from goservice.api.conditions import Reason
from goservice.api.status import Status
from goservice.decide import plan
from goservice.decide.observed import Fleet, Observed, Resolution
from goservice.decide.writes import Apply
from tests.support import factories as f

SERVICE = f.service(annotations={"goservice.dev/rebuild-requested-at": "x" * 200})
LONG = "line of the compiler's output\n" * 400


def _failed() -> Observed:
    job = f.job(SERVICE, ended="Failed", ended_reason="BackoffLimitExceeded")
    return f.observed(job, f.broken_pod(job, LONG))


def _built() -> Observed:
    job = f.job(SERVICE, ended="Complete")
    return f.observed(job, f.pod(job))


def _serving() -> Observed:
    built = _built()
    writes = plan.decide(SERVICE, built, f.SETTINGS, f.NOW).writes
    applied = [write.manifest for write in writes if isinstance(write, Apply)]
    deployment = next(m for m in applied if m["kind"] == "Deployment")
    return f.observed(*built.children.values(), f.settled(deployment))


WORLDS = {
    "nothing known": f.observed(resolution=None),
    "no such revision": f.observed(
        resolution=Resolution(reason=Reason.REVISION_NOT_FOUND, message=LONG)
    ),
    "first build": f.observed(),
    "queued": f.observed(fleet=Fleet(running=10_000, ahead=3)),
    "building": f.observed(f.job(SERVICE)),
    "failed": _failed(),
    "built": _built(),
    "serving": _serving(),
}


def _checked(status: Mapping[str, Any] | None) -> None:
    assert status is not None
    Status.model_validate_json(json.dumps(dict(status)), strict=True)
    for path in reference.reserved(Status):
        assert not _is_set(status, path.strip(".").split(".")), f"{path} is written: unmark it"


def _is_set(tree: Any, path: Sequence[str]) -> bool:
    """Whether a status has a field, in any item of the lists on the way."""
    if not path:
        return True
    items = tree if isinstance(tree, list) else [tree]
    return any(path[0] in item and _is_set(item[path[0]], path[1:]) for item in items)


@pytest.mark.parametrize("observed", WORLDS.values(), ids=WORLDS)
def test_the_status_of_each_world_fits(observed: Observed) -> None:
    _checked(plan.decide(SERVICE, observed, f.SETTINGS, f.NOW).status)


@pytest.mark.parametrize("observed", WORLDS.values(), ids=WORLDS)
def test_it_fits_after_another_pass(observed: Observed) -> None:
    status = plan.decide(SERVICE, observed, f.SETTINGS, f.NOW).status
    again = f.observed(f.job(SERVICE, attempt=2), status=dict(status or {}))
    asked = plan.decide(SERVICE, again, f.SETTINGS, f.later(60)).lookups
    again = dataclasses.replace(again, lookups=dict.fromkeys(asked, ()))
    status = plan.decide(SERVICE, again, f.SETTINGS, f.later(60)).status
    if status is not None:
        _checked(status)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_and_type_fits(reason: Reason) -> None:
    every = [conditions.Condition(kind, "False", reason, LONG) for kind in conditions.Type]
    _checked({"conditions": conditions.merged([], every, 1, f.NOW)})
