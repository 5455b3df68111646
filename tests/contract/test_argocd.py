"""The health of a GoService in Argo CD, with the libraries that Argo CD loads for it."""

from __future__ import annotations

from typing import Any

import pytest

from goservice.api.conditions import Reason
from goservice.decide import plan
from goservice.decide.observed import Resolution
from tests.support import factories as f
from tests.support.verdicts import argo_health


def resource(status: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    body = f.body(**changes)
    if status is not None:
        body["status"] = status
    return body


def planned(**world: Any) -> dict[str, Any]:
    decided = plan.decide(f.service(), f.observed(**world), f.SETTINGS, f.NOW)
    return dict(decided.status or {})


def served() -> dict[str, Any]:
    status = planned()
    status["conditions"] = [{"type": "Ready", "status": "True", "reason": "Serving", "message": ""}]
    return status


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (resource(None), "Progressing"),
        (resource(planned()), "Progressing"),
        (resource(planned(resolution=None)), "Progressing"),
        (resource(planned(foreign=frozenset({("Service", "checkout")}))), "Degraded"),
        (
            resource(planned(resolution=Resolution(reason=Reason.REVISION_NOT_FOUND))),
            "Degraded",
        ),
        (resource(served()), "Healthy"),
        (resource(served(), generation=2), "Progressing"),
        (resource(served(), suspend=True), "Suspended"),
    ],
)
def test_health(body: dict[str, Any], expected: str) -> None:
    assert argo_health(body) == expected
