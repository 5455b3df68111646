"""The ClusterRole grants exactly what the code asks for."""

from __future__ import annotations

from pathlib import Path

import yaml

from goservice.cluster.kinds import ACCESS

RBAC = Path(__file__).parents[2] / "manifests" / "rbac.yaml"

NEVER = {
    "secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/log", "pods/ephemeralcontainers",
    "serviceaccounts/token", "nodes", "nodes/proxy", "services/proxy", "pods/proxy", "namespaces",
    "persistentvolumes", "roles", "rolebindings", "clusterroles", "clusterrolebindings",
    "users", "groups", "userextras", "certificatesigningrequests",
    "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "customresourcedefinitions",
}  # fmt: skip


def granted() -> dict[str, set[str]]:
    role = next(
        d
        for d in yaml.safe_load_all(RBAC.read_text())
        if d["kind"] == "ClusterRole" and d["metadata"]["name"] == "goservice-operator"
    )
    result: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, _, part = resource.partition("/")
                name = (f"{plural}.{group}" if group else plural) + (f"/{part}" if part else "")
                result.setdefault(name, set()).update(rule["verbs"])
    return result


def test_granted_is_what_is_asked_for() -> None:
    assert granted() == {resource: set(verbs) for resource, verbs in ACCESS.items()}


def test_what_is_never_granted() -> None:
    for resource, verbs in granted().items():
        assert "*" not in resource
        assert "*" not in verbs
        assert resource.partition(".")[0] not in NEVER
        assert not {"impersonate", "bind", "escalate", "deletecollection", "*"} & verbs
