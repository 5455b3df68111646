"""An API server in memory, honest enough to test passes against.

It keeps the rules that the operator relies on: server-side apply with an owner per field,
generations, resource versions, preconditions, refusals, and garbage collection (at once). It does
not keep those it does not rely on: nothing is defaulted but a Deployment's replicas, and of schemas
only the lists that are merged by their items' keys are known. A conformance suite runs against it and a real server.
"""

import asyncio
import pickle
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from goservice import errors
from goservice.cluster.kinds import KINDS
from goservice.cluster.protocol import HANDOVER_MANAGER, MANAGER
from goservice.manifest import Kind, Manifest
from testbed.inmemory import fieldpaths, validity
from testbed.inmemory.history import History

__all__ = ["HANDOVER_MANAGER", "MANAGER", "Request", "World"]

Manifests = list[Manifest]
Key = tuple[str, str, str]
"""Kind, namespace and name."""
Owners = dict[tuple[str, str], frozenset[fieldpaths.Path]]
"""By manager and operation (Apply, Update or Status), as the API server keeps them apart."""

FIRST_VERSION = 100
"""The first resourceVersion; an older one is gone for watches."""
PAGE_SIZE = 2
"""So small that many a list has several pages."""
WITHOUT_GENERATION = {
    "ConfigMap", "Event", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "Pod", "Service", "ServiceAccount",
}  # fmt: skip
"""Kinds that never had a metadata.generation. With all others it counts the changes of the spec, as it
does with everything that is new in Kubernetes."""
SERVER_OWNED = {
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
}
"""Fields of the metadata that no manager owns."""


@dataclass(frozen=True)
class Request:
    """One request, as a fault hook sees it."""

    verb: str
    """get, list, apply, apply_status, create, patch, delete, logs or serves."""
    kind: str
    """The kind of the object, such as Deployment."""
    namespace: str | None
    """None for a list of all namespaces."""
    name: str
    """Empty for a list."""
    body: Manifest | None = None
    """What is sent; None for reads and deletions."""


Hook = Callable[[Request], None]
"""What a test runs at each request; it may raise."""


class World:
    """An in-memory `goservice.cluster.Cluster`, and methods for what users and controllers do."""

    def __init__(
        self,
        access: Mapping[str, frozenset[str]] | None = None,
        kinds: Mapping[str, Kind] = KINDS,
    ) -> None:
        """`access`: what the caller may do, None for all; `kinds`: how each kind is addressed."""
        self.absent: set[str] = set()
        """Kinds of the above that it does not serve."""
        self.writes: list[tuple[str, str, str]] = []
        """Every write that was asked for, refused and idle ones too: (verb, kind, name)."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """Every request by (verb, kind)."""
        self.before: Hook | None = None
        """Runs before a request has any effect, and may raise."""
        self.after: Hook | None = None
        """Runs after its effect, and may raise: the answer that was lost."""
        self.log: dict[tuple[str, str, str], list[str]] = {}
        """Log lines by namespace, pod and container."""
        self.clock: Callable[[], str] = lambda: "2026-01-01T00:00:00Z"
        self.defer: Callable[[Callable[[], None]], object] = lambda collect: collect()
        """When the garbage collector works: at once, or later."""
        self.admission: Callable[[Manifest], object] | None = None
        """A mutating webhook: changes each object that is created or changed, but for its status."""
        self.quota: Callable[[Manifest], str] | None = None
        """A validating webhook or a quota: why an object may not be created; empty if it may."""
        self._access = access
        self._kinds = kinds
        self._objects: dict[Key, Manifest] = {}
        self._owners: dict[Key, Owners] = {}
        self._version = FIRST_VERSION
        self._listeners: list[Callable[[str, Manifest], None]] = []
        self._history = History(FIRST_VERSION)
        self._rest: dict[str, tuple[str, Manifests]] = {}
        """What is left of a list in pages, and its version, by the token for the next one."""
        self._ending: set[str] = set()
        """Namespaces that are being deleted."""

    # --- what the operator calls ---

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        await self._arrive(Request("get", kind, namespace, name))
        return self._leave(
            Request("get", kind, namespace, name), self._existing(kind, namespace, name)
        )

    async def list(
        self,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        most: int | None = None,
    ) -> Manifests:
        request = Request("list", kind, namespace, "")
        await self._arrive(request)
        found = [
            fieldpaths.copied(manifest)
            for (k, where, _), manifest in sorted(self._objects.items())
            if k == kind
            and namespace in (None, where)
            and fieldpaths.selected(label_selector, manifest["metadata"].get("labels") or {})
            and all(
                str(fieldpaths.at(manifest, tuple(field.split(".")))) == value
                for field, _, value in (t.partition("=") for t in field_selector.split(",") if t)
            )
        ]
        if self.after is not None:
            self.after(request)
        return found[:most]

    async def pages(
        self, kind: str, namespace: str | None, *, label_selector: str = ""
    ) -> AsyncIterator[Manifests]:
        found = await self.list(kind, namespace, label_selector=label_selector)
        for start in range(0, len(found) or 1, PAGE_SIZE):
            yield found[start : start + PAGE_SIZE]

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> Manifest:
        request = _request("apply", manifest)
        await self._arrive(request)
        key = _key(manifest)
        fields = frozenset(
            path
            for path in fieldpaths.leaves(manifest)
            if path[0] not in ("apiVersion", "kind", "status")
            and not (path[0] == "metadata" and len(path) > 1 and path[1] in SERVER_OWNED)
            and path != ("metadata",)
        )
        if key not in self._objects:
            self._permit("create", request)
            if manifest["metadata"].get("uid"):
                raise errors.Conflict(f"{key[0]} {key[2]}: uid mismatch", status=409)
            return self._leave(request, self._add(manifest, {(manager, "Apply"): fields}))
        if manifest["metadata"].get("uid", self._uid(key)) != self._uid(key):
            raise errors.Invalid(f"{key[0]} {key[2]}: metadata.uid: is immutable", status=422)
        self._same_version(key, manifest)
        return self._leave(request, self._merge(key, manifest, (manager, "Apply"), fields))

    async def apply_status(self, manifest: Manifest) -> Manifest:
        request = _request("apply_status", manifest)
        await self._arrive(request)
        key = _key(manifest)
        self._existing(*key)
        self._same_version(key, manifest)
        fields = frozenset(path for path in fieldpaths.leaves(manifest) if path[0] == "status")
        live = self._merge(key, manifest, (MANAGER, "Status"), fields)
        if manifest["metadata"].get("uid", live["metadata"]["uid"]) != live["metadata"]["uid"]:
            # As on a real server the namesake was written; the client notices by the answer.
            raise errors.Conflict(f"{key[0]} {key[2]} was made anew", status=409)
        return self._leave(request, live)

    async def create(self, manifest: Manifest) -> Manifest:
        request = _request("create", manifest)
        await self._arrive(request)
        return self._leave(request, self.add(manifest, manager=MANAGER))

    async def patch_merge(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        request = Request("patch", kind, namespace, name, body)
        await self._arrive(request)
        key = (kind, namespace, name)
        self._existing(*key)
        patch = {k: v for k, v in body.items() if k != "status"}
        return self._leave(
            request, self.edit(*key, lambda live: fieldpaths.merge_patch(live, patch), MANAGER)
        )

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str | None) -> None:
        request = Request("delete", kind, namespace, name)
        await self._arrive(request)
        found = self._existing(kind, namespace, name)["metadata"]["uid"]
        if uid is not None and uid != found:
            raise errors.Conflict(f"{kind} {name}: uid is {found}", status=409)
        self.remove(kind, namespace, name)
        if self.after is not None:
            self.after(request)

    async def delete_orphaning(self, kind: str, namespace: str, name: str) -> None:
        """What `kubectl delete --cascade=orphan` does: what the object owns stays, unowned."""
        self.remove(kind, namespace, name, orphan=True)

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncIterator[str]:
        await self._arrive(Request("logs", "Pod", namespace, pod))
        self._existing("Pod", namespace, pod)
        lines = self.log.get((namespace, pod, container), [])
        for line in lines if tail_lines is None else lines[-tail_lines:]:
            yield line

    async def can_i(
        self, verb: str, kind: str, subresource: str = "", namespace: str | None = None
    ) -> bool:
        resource = self._kinds[kind].resource if kind in self._kinds else kind
        resource += f"/{subresource}" if subresource else ""
        return self._access is None or verb in self._access.get(resource, ())

    async def serves(self, kind: str) -> bool:
        request = Request("serves", kind, None, "")
        await asyncio.sleep(0)
        self.requests[request.verb, request.kind] += 1
        if self.before is not None:
            self.before(request)
        return self._serves(kind)

    # --- what kopf and administrators call ---

    async def page(
        self, kind: str, namespace: str, limit: int, token: str = ""
    ) -> tuple[Manifests, str, str]:
        """Some objects of one moment, the token for the next page and the moment's version."""
        if token and token not in self._rest:
            raise errors.Invalid("continue key is not valid", status=400)
        if token:
            version, rest = self._rest.pop(token)
        else:
            version, rest = str(self._version), await self.list(kind, namespace)
        following = f"{version}/{len(rest)}" if len(rest) > limit else ""
        if following:
            self._rest[following] = (version, rest[limit:])
        return rest[:limit], following, version

    def watch(
        self, kind: str, namespace: str, since: str, *, label_selector: str = ""
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        """Every change after a version, and a bookmark when all of them are sent."""
        return self._history.watch(kind, namespace, since, label_selector)

    async def end_namespace(self, name: str) -> None:
        """Take nothing new in a namespace, and remove what is there."""
        self._ending.add(name)
        for key in [key for key in self._objects if key[1] == name]:
            if key in self._objects:
                self.remove(*key)

    # --- what users and controllers do (not counted) ---

    def on_change(self, listener: Callable[[str, Manifest], None]) -> None:
        """Call the listener with (ADDED, MODIFIED or DELETED, manifest) at every change."""
        self._listeners.append(listener)

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object as it is, or None."""
        found = self._objects.get((kind, namespace, name))
        return None if found is None else fieldpaths.copied(found)

    def all(self, kind: str) -> Manifests:
        """Every object of a kind."""
        return [fieldpaths.copied(m) for (k, _, _), m in sorted(self._objects.items()) if k == kind]

    def owners(self, kind: str, namespace: str, name: str, *path: str) -> set[str]:
        """The managers of a field."""
        owners = self._owners[kind, namespace, name]
        return {manager for (manager, _), fields in owners.items() if path in fields}

    def add(self, manifest: Manifest, manager: str = "someone") -> Manifest:
        """Create an object, as a user or controller does."""
        if _key(manifest) in self._objects:
            raise errors.AlreadyExists(f"{'/'.join(_key(manifest))} already exists", status=409)
        return self._add(manifest, {(manager, "Update"): frozenset(fieldpaths.leaves(manifest))})

    def edit(
        self,
        kind: str,
        namespace: str,
        name: str,
        change: Callable[[Manifest], object],
        manager: str = "someone",
    ) -> Manifest:
        """Change an object in place; whoever changes a field takes it from its owners."""
        key = (kind, namespace, name)
        live = fieldpaths.copied(self._objects[key])
        change(live)
        before = self._objects[key]
        changed = {
            path
            for path in {*fieldpaths.leaves(live), *fieldpaths.leaves(before)}
            if path[0] != "status" and _differ(live, before, path)
        }
        owners = {who: fields - changed for who, fields in self._owners[key].items()}
        kept = {path for path in changed if fieldpaths.at(live, path) is not fieldpaths.MISSING}
        mine = (manager, "Update")
        owners[mine] = owners.get(mine, frozenset()) | kept
        return self._store(key, live, owners)

    def set_status(self, kind: str, namespace: str, name: str, status: Manifest) -> Manifest:
        """Write a status whole, as the kind's controller does."""
        key = (kind, namespace, name)
        before = self._objects[key]
        metadata = dict(before["metadata"])
        live = {**before, "metadata": metadata, "status": fieldpaths.copied(status)}
        return self._store(key, live, self._owners[key])

    def remove(self, kind: str, namespace: str, name: str, *, orphan: bool = False) -> None:
        """Delete an object and what it owns; with finalizers it only begins to go."""
        key = (kind, namespace, name)
        if self._objects[key]["metadata"].get("finalizers"):
            live = fieldpaths.copied(self._objects[key])
            live["metadata"].setdefault("deletionTimestamp", self.clock())
            self._store(key, live, self._owners[key])
            return
        gone = fieldpaths.copied(self._objects.pop(key))
        del self._owners[key]
        gone["metadata"]["resourceVersion"] = self._next_version()
        self._tell("DELETED", gone, gone)
        uid = gone["metadata"]["uid"]
        if orphan:
            for other in self._owned_by(uid):
                self.edit(*other, lambda live: live["metadata"].pop("ownerReferences"))
        elif self._owned_by(uid):
            self.defer(lambda: self._collect(uid))

    def snapshot(self) -> bytes:
        """All objects and their owners, to be restored in this world or in another."""
        return pickle.dumps((self._objects, self._owners, self._version))

    def restore(self, snapshot: bytes) -> None:
        """Hold exactly what a snapshot holds; no listener is called."""
        self._objects, self._owners, self._version = pickle.loads(snapshot)

    # --- the rules ---

    def _collect(self, *uids: str) -> None:
        """Remove what deleted objects owned."""
        for uid in uids:
            for other in self._owned_by(uid):
                if other in self._objects:
                    self.remove(*other)

    def _collect_if_absent(self, metadata: Manifest) -> None:
        """An object whose owners are all gone already does not stay either."""
        wanted = {reference["uid"] for reference in metadata.get("ownerReferences") or ()}
        present = {manifest["metadata"]["uid"] for manifest in self._objects.values()}
        if wanted and not wanted & present:
            self.defer(lambda: self._collect(*wanted))

    def _owned_by(self, uid: str) -> tuple[Key, ...]:
        return tuple(key for key, held in self._objects.items() if _owned(held, uid))

    def _merge(
        self,
        key: Key,
        manifest: Manifest,
        who: tuple[str, str],
        fields: frozenset[fieldpaths.Path],
    ) -> Manifest:
        """Server-side apply on what is there, forced: other managers lose what they differ in."""
        live = fieldpaths.copied(self._objects[key])
        owners = dict(self._owners[key])
        for other, theirs in self._owners[key].items():
            if other == who:
                continue
            owners[other] = theirs - {p for p in theirs & fields if _differ(live, manifest, p)}
        kept = set().union(*(theirs for other, theirs in owners.items() if other != who))
        gone = owners.get(who, frozenset()) - fields - kept
        for path in sorted(gone, key=len, reverse=True):
            if not fieldpaths.is_item(path) or not any(p[: len(path)] == path for p in kept):
                fieldpaths.remove(live, path)
        for path in fieldpaths.leaves(manifest):
            if path in fields:
                fieldpaths.put(live, path, fieldpaths.copied_value(fieldpaths.at(manifest, path)))
        fieldpaths.order(live, manifest)
        owners[who] = fields
        return self._store(key, live, owners)

    def _add(self, manifest: Manifest, owners: Owners) -> Manifest:
        key = _key(manifest)
        if key[1] in self._ending:
            raise errors.Forbidden(f"namespace {key[1]} is being terminated", status=403)
        live = fieldpaths.copied(manifest)
        live.pop("status", None)
        if self.quota is not None and (why := self.quota(live)):
            raise errors.Forbidden(f"{key[0]} {key[2]} is forbidden: {why}", status=403)
        live["metadata"] |= {
            "uid": str(uuid.UUID(int=self._version)),
            "creationTimestamp": self.clock(),
        }
        return self._store(key, live, owners)

    def _store(self, key: Key, live: Manifest, owners: Owners) -> Manifest:
        """Check, default, count and keep an object; nothing happens if nothing changed."""
        kind, before = key[0], self._objects.get(key)
        if kind == "Deployment":
            live.setdefault("spec", {}).setdefault("replicas", 1)
        if self.admission is not None and (
            before is None or _without_status(live) != _without_status(before)
        ):
            self.admission(live)
        validity.check(key, live, before)
        owners = {who: fields for who, fields in owners.items() if fields}
        if before is not None and live == before and owners == self._owners[key]:
            return fieldpaths.copied(before)
        live["metadata"]["resourceVersion"] = self._next_version()
        if kind not in WITHOUT_GENERATION:
            same = before is not None and live.get("spec") == before.get("spec")
            generation = before["metadata"]["generation"] if before else 0
            live["metadata"]["generation"] = generation if same else generation + 1
        self._objects[key], self._owners[key] = live, owners
        self._tell("MODIFIED" if before else "ADDED", live, before)
        metadata = live["metadata"]
        if before is None:
            self._collect_if_absent(metadata)
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self.remove(*key)
        return fieldpaths.copied(live)

    def _existing(self, kind: str, namespace: str, name: str) -> Manifest:
        found = self._objects.get((kind, namespace, name))
        if found is None:
            raise errors.NotFound(f"{kind} {namespace}/{name} not found", status=404)
        return fieldpaths.copied(found)

    def _uid(self, key: Key) -> Any:
        return self._objects[key]["metadata"]["uid"]

    def _same_version(self, key: Key, manifest: Manifest) -> None:
        wanted = manifest["metadata"].get("resourceVersion")
        if wanted and wanted != self._objects[key]["metadata"]["resourceVersion"]:
            raise errors.Conflict(f"{key[0]} {key[2]} has been modified", status=409)

    async def _arrive(self, request: Request) -> None:
        await asyncio.sleep(0)
        self.requests[request.verb, request.kind] += 1
        if request.verb not in ("get", "list", "logs"):
            self.writes.append((request.verb, request.kind, request.name))
        if not self._serves(request.kind):
            raise errors.NotFound(f"no kind {request.kind}", status=404)
        self._permit(request.verb, request)
        if self.before is not None:
            self.before(request)

    def _leave(self, request: Request, answer: Manifest) -> Manifest:
        if self.after is not None:
            self.after(request)
        return answer

    def _serves(self, kind: str) -> bool:
        return kind in self._kinds and kind not in self.absent

    def _permit(self, verb: str, request: Request) -> None:
        resource = self._kinds[request.kind].resource + (
            "/status" if verb == "apply_status" else ""
        )
        resource += "/log" if verb == "logs" else ""
        right = {"apply": "patch", "apply_status": "patch", "logs": "get"}.get(verb, verb)
        if self._access is not None and right not in self._access.get(resource, ()):
            raise errors.Forbidden(f"cannot {right} {resource}", status=403)

    def _with_managers(self, manifest: Manifest) -> Manifest:
        """A copy with managedFields, as watches show it: answers to our client come without."""
        shown = fieldpaths.copied(manifest)
        shown["metadata"]["managedFields"] = [
            {
                "manager": manager,
                "operation": operation.replace("Status", "Apply"),
                **({"subresource": "status"} if operation == "Status" else {}),
            }
            for manager, operation in self._owners.get(_key(manifest), {})
        ]
        return shown

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _tell(self, change: str, manifest: Manifest, before: Manifest | None) -> None:
        self._history.add(self._version, change, manifest, before)
        for listener in self._listeners:
            listener(change, self._with_managers(manifest))


def _without_status(manifest: Manifest) -> Manifest:
    return {key: value for key, value in manifest.items() if key != "status"}


def _differ(one: Manifest, other: Manifest, path: fieldpaths.Path) -> bool:
    """Whether a field has two values; an item of a list is only there or not."""
    here, there = fieldpaths.at(one, path), fieldpaths.at(other, path)
    if fieldpaths.is_item(path):
        return (here is fieldpaths.MISSING) != (there is fieldpaths.MISSING)
    return bool(here != there)


def _key(manifest: Manifest) -> Key:
    return manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _request(verb: str, manifest: Manifest) -> Request:
    return Request(verb, *_key(manifest), manifest)


def _owned(manifest: Manifest, uid: str) -> bool:
    return any(r["uid"] == uid for r in manifest["metadata"].get("ownerReferences") or ())
