"""The kinds that the operator uses, how they are addressed, and the verbs that it needs on them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Kind:
    """How a kind is addressed. All kinds here live in namespaces."""

    api_version: str
    """Group and version, such as apps/v1; the core group's is v1."""
    kind: str
    """The kind, such as Deployment."""
    plural: str
    """The name in paths, such as deployments."""

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The name that RBAC and kubectl use: deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        Kind("goservice.dev/v1alpha1", "GoService", "goservices"),
        Kind("v1", "ConfigMap", "configmaps"),
        Kind("batch/v1", "Job", "jobs"),
        Kind("v1", "Pod", "pods"),
        Kind("v1", "ServiceAccount", "serviceaccounts"),
        Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        Kind("apps/v1", "Deployment", "deployments"),
        Kind("v1", "Service", "services"),
        Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Kind("v1", "Event", "events"),
    )
}
"""Every kind that is requested from the API server, by its name."""

_WATCHED = frozenset({"list", "watch"})
"""Verbs on a kind that is only read."""

_MADE_ONCE = _WATCHED | {"get", "create", "delete"}
"""Verbs on what never changes; `get` finds the owner of a namesake that the watches do not show."""

_KEPT = _WATCHED | {"get", "create", "patch"}
"""Verbs on what is applied and never deleted; an apply that creates needs `create` and `patch`."""

_OPTIONAL = _KEPT | {"delete"}
"""Verbs on what is applied while the resource asks for it, and deleted after that."""

ACCESS: dict[str, frozenset[str]] = {
    "goservices.goservice.dev": _WATCHED | {"get"},
    "goservices.goservice.dev/status": frozenset({"patch"}),
    # Never called: an owner reference with blockOwnerDeletion is only accepted from whoever may.
    "goservices.goservice.dev/finalizers": frozenset({"update"}),
    "configmaps": _MADE_ONCE,
    "jobs.batch": _MADE_ONCE,
    "pods": _WATCHED,
    "serviceaccounts": _KEPT,
    "persistentvolumeclaims": _KEPT,
    "deployments.apps": _KEPT,
    "services": _OPTIONAL,
    "horizontalpodautoscalers.autoscaling": _OPTIONAL,
    "poddisruptionbudgets.policy": _OPTIONAL,
    "events": frozenset({"create", "list"}),
}
"""What `goservice run` asks for: resource to verbs. The role of the install grants exactly this."""


def path(kind: Kind, namespace: str | None, name: str, subresource: str = "") -> str:
    """The path of an object, a collection or a subresource at the API server."""
    parts = ["apis" if kind.group else "api", *kind.api_version.split("/")]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)
