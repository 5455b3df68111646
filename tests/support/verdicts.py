"""What GitOps tools make of a GoService: Argo CD's health, and the status that kstatus computes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lupa.lua51 as lua

SCRIPT = (Path(__file__).parents[2] / "manifests" / "argocd" / "health.lua").read_text()


def argo_health(resource: dict[str, Any]) -> str:
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


def kstatus(conditions: Mapping[str, Any]) -> str:
    """What Flux, Helm and Argo's generic rules make of an object whose generation is observed."""
    if conditions.get("Reconciling", {}).get("status") == "True":
        return "InProgress"
    if conditions.get("Stalled", {}).get("status") == "True":
        return "Failed"
    return (
        "Current" if conditions.get("Ready", {}).get("status", "True") == "True" else "InProgress"
    )
