"""The health of a GoService in Argo CD, with the libraries that Argo CD loads for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lupa.lua51 as lua
import pytest

from goservice import plan
from goservice.api.conditions import Reason
from goservice.observed import Resolution
from tests.support import factories as f

SCRIPT = (Path(__file__).parents[2] / "manifests" / "argocd" / "health.lua").read_text()


def health(resource: dict[str, Any]) -> str:
    """The script's verdict: base, table and package are there; string, math and io are not."""
    runtime = lua.LuaRuntime(unpack_returned_tuples=True)
    for library in ("string", "math", "io", "debug"):
        runtime.globals()[library] = None

    def table(value: Any) -> Any:
        if isinstance(value, dict):
            return runtime.table_from({k: table(v) for k, v in value.items()})
        if isinstance(value, list):
            return runtime.table_from([table(v) for v in value])
        return value

    runtime.globals()["obj"] = table(json.loads(json.dumps(resource)))
    return str(runtime.execute(SCRIPT)["status"])


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
    assert health(body) == expected
