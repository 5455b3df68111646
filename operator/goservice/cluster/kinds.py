"""The kinds that the operator uses, how they are addressed, and the verbs that it needs on them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from goservice.api import resource
from goservice.manifest import Kind
from goservice.objects import children

SERVICE = Kind(resource.API_VERSION, resource.KIND, resource.PLURAL)
"""The resource itself."""
EVENT = Kind("v1", "Event", "events")
"""Posted for each transition of Ready, and asked for when a build does not start."""

KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in (SERVICE, *children.KINDS.values(), EVENT)}
"""Every kind by its name."""

WATCHED: tuple[str, ...] = (SERVICE.kind, *children.KINDS)
"""What is watched, in the order in which it is listed."""


def _access() -> dict[str, frozenset[str]]:
    access: dict[str, frozenset[str]] = {
        SERVICE.resource: frozenset({"list", "watch", "get"}),
        f"{SERVICE.resource}/status": frozenset({"patch"}),
        # Never called: an owner reference with blockOwnerDeletion is only accepted from whoever may.
        f"{SERVICE.resource}/finalizers": frozenset({"update"}),
    }
    for child in children.CHILDREN:
        access[child.kind.resource] = access.get(child.kind.resource, frozenset()) | child.verbs
    return access | {EVENT.resource: frozenset({"create", "list"})}


ACCESS: Mapping[str, frozenset[str]] = _access()
"""What `goservice run` asks for: resource to verbs. The role of the install grants exactly this."""


def path(kind: Kind, namespace: str | None, name: str, subresource: str = "") -> str:
    """The path of an object, a collection or a subresource at the API server."""
    parts = ["apis" if kind.group else "api", *kind.api_version.split("/")]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)
