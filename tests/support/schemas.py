"""Kubernetes' own schemas, in which an unknown field is an error, compiled once."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs

VERSIONS = ("1.33", "1.37")
"""The oldest and the newest Kubernetes that is supported."""


def faults(manifest: dict[str, Any], version: str) -> list[str]:
    """What a version of Kubernetes finds wrong with an object."""
    group = manifest["apiVersion"].split("/")
    name = "-".join([manifest["kind"].lower(), group[0].split(".")[0], *group[1:]])
    return [
        f"{'.'.join(map(str, error.instance_path))}: {error.message}"
        for error in _validator(name, version).iter_errors(manifest)
    ]


@cache
def _validator(name: str, version: str) -> Any:
    definitions = _schema("_definitions", version)
    registry = jsonschema_rs.Registry([("_definitions.json", definitions)])
    return jsonschema_rs.Draft202012Validator(_schema(name, version), registry=registry)


@cache
def _schema(name: str, version: str) -> Any:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    (strict,) = (
        f for f in folder.iterdir() if f.name.startswith(f"v{version}.") and "strict" in f.name
    )
    return json.loads((strict / f"{name}.json").read_text())
