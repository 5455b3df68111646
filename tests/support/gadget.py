"""A child of a kind that a cluster may not serve, and an operator that makes it.

`python -m tests.support.gadget run …` is `goservice run …` with one row more in the table of
children: each service with a port asks for a Gadget.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from goservice import process, settings
from goservice.api.conditions import Type
from goservice.manifest import Kind, Manifest
from goservice.objects import children
from goservice.objects.children import REMOVED, Child, Upkeep, Wants
from goservice.objects.metadata import metadata

KIND = Kind("gadgets.example.com/v1", "Gadget", "gadgets")
"""The kind that a cluster may not serve."""
SAYS = Type.AUTOSCALED
"""The condition that tells of it: that of a row of its own would be a new one."""


def gadget(wants: Wants) -> Manifest | None:
    """The Gadget of a service that has a port."""
    service = wants.service
    if not service.spec.ports:
        return None
    return {
        "apiVersion": KIND.api_version,
        "kind": KIND.kind,
        "metadata": metadata(service, service.name, "app"),
        "spec": {"size": 1},
    }


ROW = Child(KIND, "app", REMOVED, Upkeep.APPLIED, gadget, optional=SAYS, why="A test asks for it.")
"""The row of the kind."""
REQUIRED = tuple(child for child in children.CHILDREN if child.optional is None)
"""The rows of the table whose API is always there."""
CHILDREN: tuple[Child, ...] = (*REQUIRED, ROW)
"""These, and that row: the one kind that may be absent."""

CRD: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": KIND.resource},
    "spec": {
        "group": KIND.group,
        "scope": "Namespaced",
        "names": {"kind": KIND.kind, "plural": KIND.plural, "singular": "gadget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""What makes a cluster serve the kind."""


def rights(user: str) -> list[Manifest]:
    """The role that the row needs, and its binding to a user."""
    group = "rbac.authorization.k8s.io"
    named = {"metadata": {"name": "gadgets"}}
    rule = {"apiGroups": [KIND.group], "resources": [KIND.plural], "verbs": sorted(ROW.verbs)}
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", **named, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            **named,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "gadgets"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        },
    ]


def main(arguments: list[str]) -> None:
    """Run the operator with the row, as the command line does without it."""
    given = dict(word.removeprefix("--").split("=", 1) for word in arguments[1:])
    loaded = settings.load(Path(given["settings"]), os.environ)
    asyncio.run(process.run(loaded, given["kubeconfig"], CHILDREN))


if __name__ == "__main__":
    main(sys.argv[1:])
