"""The kinds that the operator uses, how they are addressed, and the verbs that it needs on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from goservice.api import resource
from goservice.manifest import Kind
from goservice.objects import children as table
from goservice.objects.children import Child

SERVICE = Kind(resource.API_VERSION, resource.KIND, resource.PLURAL)
"""The resource itself."""
EVENT = Kind("v1", "Event", "events")
"""Posted for each transition of Ready, and asked for when a build does not start."""


def kinds_of(children: Iterable[Child]) -> dict[str, Kind]:
    """Every kind by its name: ours, those of a table of children, and events."""
    found = (SERVICE, *table.kinds_of(children).values(), EVENT)
    return {kind.kind: kind for kind in found}


KINDS: Mapping[str, Kind] = kinds_of(table.CHILDREN)
"""Every kind by its name."""


def watched(children: Iterable[Child]) -> tuple[str, ...]:
    """What is watched where every API is served, in the order in which it is listed."""
    return (SERVICE.kind, *table.kinds_of(children))


WATCHED: tuple[str, ...] = watched(table.CHILDREN)
"""What is watched where every API is served, in the order in which it is listed."""


def access_to(children: Iterable[Child]) -> dict[str, frozenset[str]]:
    """What an operator with such a table of children asks for: resource to verbs."""
    access: dict[str, frozenset[str]] = {
        SERVICE.resource: frozenset({"list", "watch", "get"}),
        f"{SERVICE.resource}/status": frozenset({"patch"}),
        # Never called: an owner reference with blockOwnerDeletion is only accepted from whoever may.
        f"{SERVICE.resource}/finalizers": frozenset({"update"}),
    }
    for child in children:
        access[child.kind.resource] = access.get(child.kind.resource, frozenset()) | child.verbs
    return access | {EVENT.resource: frozenset({"create", "list"})}


ACCESS: Mapping[str, frozenset[str]] = access_to(table.CHILDREN)
"""What `goservice run` asks for: resource to verbs. The role of the install grants exactly this."""


OF_NO_CHILD: Mapping[str, str] = {
    SERVICE.resource: "The wishes. `get` before the first write: is it still the same one?",
    f"{SERVICE.resource}/status": "The verdict. The spec is never written.",
    f"{SERVICE.resource}/finalizers": "Never used: Kubernetes asks for it before it takes an owner"
    " reference that blocks deletion.",
    EVENT.resource: "Telling; asking why a pod does not start.",
}
"""What the rights on kinds that are no child are needed for, for the docs."""


def why(right: str) -> str:
    """What the operator needs its verbs on a resource for: the words of every row of the kind."""
    rows = [child.why for child in table.CHILDREN if child.kind.resource == right]
    return " ".join(rows) or OF_NO_CHILD[right]


def version_path(kind: Kind) -> str:
    """The path at which the API server lists what it serves of a kind's group and version."""
    return "/" + "/".join(("apis" if kind.group else "api", *kind.api_version.split("/")))


def path(kind: Kind, namespace: str | None, name: str, subresource: str = "") -> str:
    """The path of an object, a collection or a subresource at the API server."""
    parts = [] if namespace is None else ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/".join((version_path(kind), *(quote(part, safe="") for part in parts)))
