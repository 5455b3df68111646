"""One pass over one service: read, decide, write.

It keeps what a pass needs beyond the cache and could lose at any moment: who waits for a build, what
was asked once, what was just applied. Losing it costs requests, never a write.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, assert_never

from goservice import names
from goservice.api import parsing, resource
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.cluster.protocol import ONLY_NEW, Cluster
from goservice.decide import contested, events, plan, refusals
from goservice.decide.observed import Applied, Lookup, Observed, Resolution
from goservice.decide.writes import Apply, Create, Delete, Event, Plan, Write
from goservice.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    GitAuthenticationFailed,
    GitUnavailable,
    Invalid,
    InvalidSpec,
    NotFound,
    RevisionNotFound,
    SourceError,
    SourceForbidden,
    SourceUnfit,
)
from goservice.loop import finished_builds, lookups
from goservice.loop.build_slots import BuildSlots
from goservice.loop.cache import Cache
from goservice.manifest import Key, Manifest, condition_of, digest_of, owned
from goservice.metrics import Metrics
from goservice.objects.children import CHILDREN, Child
from goservice.objects.metadata import belongs
from goservice.settings import Settings
from goservice.sources.polling import Answer

log = logging.getLogger(__name__)

REFUSED_FOR = timedelta(seconds=60)
"""How long a refusal stays in the status before the writes are tried again."""
UNRESOLVED: Mapping[type[SourceError], Reason] = {
    RevisionNotFound: Reason.REVISION_NOT_FOUND,
    GitAuthenticationFailed: Reason.GIT_AUTHENTICATION_FAILED,
    SourceForbidden: Reason.FORBIDDEN_BY_PLATFORM,
    SourceUnfit: Reason.UNSAFE_SOURCE,
    GitUnavailable: Reason.GIT_UNAVAILABLE,
}
"""What the status calls each error of a source; a test holds it to the tree of errors."""


class Repositories(Protocol):
    """Who knows the newest commits."""

    def known(self, url: str, revision: str | None) -> Answer | None: ...
    def want(self, url: str, revision: str | None, interval_seconds: int, key: Key) -> None: ...
    def forget(self, key: Key) -> None: ...
    def refresh_now(self, url: str, revision: str | None) -> float: ...


@dataclass
class Memory:
    """What is remembered of one service between passes."""

    uid: str = ""
    """The resource's uid."""
    lookups: dict[Lookup, tuple[Manifest, ...]] = field(default_factory=dict)
    """What lookups have found."""
    foreign: set[tuple[str, str]] = field(default_factory=set)
    """Objects of a needed kind and name that are not this service's."""
    refusal: str = ""
    """The API server's words when it refused an object."""
    refused_at: datetime | None = None
    """When something foreign was found, or the API server refused an object."""
    present: frozenset[tuple[str, str]] = frozenset()
    """The service's own children, by kind and name, in the last pass."""
    applied: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    """By manager, kind and name: the hash last applied and the resourceVersion that it gave."""
    answers: dict[tuple[str, str], Applied] = field(default_factory=dict)
    """By kind and name: what the API server made of the last apply."""
    checked_uid: str = ""
    """The uid that the API server was seen to have for the resource."""
    rebuild: tuple[str, float] | None = None
    """The rebuild request that was seen, and the moment from which an answer of git counts."""
    generation: int = 0
    """The generation that the refusals above are about."""
    counted: frozenset[str] = frozenset()
    """The builds whose end was counted, of those that the status records."""

    def forget_refusals(self) -> None:
        """Try again what was refused."""
        self.foreign.clear()
        self.refusal = ""
        self.refused_at = None


class Reconciler:
    """Brings services to what they should be, one pass at a time."""

    def __init__(
        self,
        cluster: Cluster,
        store: Cache,
        sources: Repositories,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wake: Callable[[Key], object] = lambda _: None,
        sends: Callable[[Key], object] = lambda _: None,
        metrics: Metrics | None = None,
        children: Sequence[Child] = CHILDREN,
    ) -> None:
        self.absent: frozenset[str] = frozenset()
        """Optional kinds that are left alone: the cluster does not serve them."""
        self._children = children
        self._metrics = metrics
        self._cluster = cluster
        self._store = store
        self._store.count_where("Job", _runs)
        self._sources = sources
        self._settings = settings
        self._clock = clock
        self._sends = sends
        self._memory: dict[Key, Memory] = {}
        self._slots = BuildSlots(
            settings.builds.max_concurrent,
            settings.builds_of_a_namespace,
            lambda: store.counts("Job"),
            wake,
        )

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Gives the seconds until the next one is due, None if only a change is.

        Raises:
            ClusterError: when a request failed and the pass is to be repeated.
        """
        body = self._store.get(resource.KIND, key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None
        uid = body["metadata"]["uid"]
        memory = self._memory.get(key)
        if memory is None or memory.uid != uid:
            # What stood against a namesake does not stand against this one.
            memory = self._memory[key] = Memory(uid)
        await self._take_up(key)
        try:
            service, decided = self._decide(key, body, memory)
        except Exception:
            # A defect that one service brings out must not keep the others waiting behind it.
            self._slots.leave(key)
            raise
        if service is None:
            self._sources.forget(key)
            self._slots.leave(key)
            await self._report(body, decided, memory)
            return decided.requeue_after
        self._note(key, service, decided)
        done = await self._carry_out(key, service, body, decided, memory)
        # What a lookup found, and a resource that turned out to be another one, is looked at at once.
        return 0.0 if decided.lookups or not done else decided.requeue_after

    async def _take_up(self, key: Key) -> None:
        """Read what an earlier resource of this name may have left: the cache has its name only."""
        for kind, place in self._store.left(*key):
            self._sends(key)
            try:
                self._store.put(kind, await self._cluster.get(kind, *place), whole=True)
            except NotFound:
                self._store.drop(kind, place)

    def _decide(self, key: Key, body: Manifest, memory: Memory) -> tuple[GoService | None, Plan]:
        """The service and its plan; no service where the resource cannot be parsed."""
        now = self._clock()
        try:
            service = parsing.parse(body)
        except InvalidSpec as error:
            return None, refusals.invalid(body, error, self._observe(key, body, None, memory), now)
        refused_long_ago = memory.refused_at is not None and now - memory.refused_at >= REFUSED_FOR
        if memory.generation != service.generation or refused_long_ago:
            memory.generation = service.generation
            memory.forget_refusals()
        observed = self._observe(key, body, service, memory)
        self._miss_children(service, observed, memory)
        return service, plan.decide(service, observed, self._settings, now, self._children)

    # --- read ---------------------------------------------------------------------------------------

    def _observe(
        self, key: Key, body: Manifest, service: GoService | None, memory: Memory
    ) -> Observed:
        children = {
            (child["kind"], child["metadata"]["name"]): child
            for child in self._store.children(*key)
            if not child["metadata"].get("deletionTimestamp") or child["kind"] == "Job"
        }
        return Observed(
            status=body.get("status") or {},
            children=children,
            resolution=self._resolution(key, service, memory) if service else None,
            fleet=self._slots.fleet(key),
            lookups=dict(memory.lookups),
            answers=dict(memory.answers),
            foreign=frozenset(memory.foreign),
            refusal=memory.refusal,
            absent=self.absent,
        )

    def _resolution(self, key: Key, service: GoService, memory: Memory) -> Resolution | None:
        """What is known of the newest commit, without asking anybody."""
        source = service.spec.source
        idle = source is None or service.spec.image.digest or service.spec.suspend
        if source is None or idle or refusals.forbidden_source(service, self._settings):
            self._sources.forget(key)
            return None
        interval = self._settings.git.poll_seconds(source.poll_interval_seconds)
        self._sources.want(source.git.url, source.git.revision, interval, key)
        known = self._sources.known(source.git.url, source.git.revision)
        if known is None:
            return None
        since = memory.rebuild
        asked = since is not None and since[0] == service.rebuild_requested_at
        fresh = asked and since is not None and known.asked_at >= since[1]
        if known.error is None:
            return Resolution(known.sha, fresh=fresh, tag=known.tag)
        reason = UNRESOLVED[type(known.error)]
        return Resolution(known.sha, reason, str(known.error), tag=known.tag)

    # --- remember -----------------------------------------------------------------------------------

    def _miss_children(self, service: GoService, observed: Observed, memory: Memory) -> None:
        """A child that is gone may have been collected with its owner: look before making it anew."""
        own = (c for c in observed.children.values() if owned(c, service.uid))
        present = frozenset((child["kind"], child["metadata"]["name"]) for child in own)
        if memory.present - present:
            memory.checked_uid = ""
        memory.present = present

    def _note(self, key: Key, service: GoService, decided: Plan) -> None:
        """Join the queue for build slots, or take one, before anyone else decides."""
        if decided.waits_for_slot:
            self._slots.wait(key)
        elif any(isinstance(w, Create) and w.manifest["kind"] == "Job" for w in decided.writes):
            self._slots.start(key)
        else:
            self._slots.leave(key)
        self._slots.give_way(key, decided.gives_way)
        if decided.refresh_source and service.spec.source is not None:
            memory = self._memory[key]
            if memory.rebuild is None or memory.rebuild[0] != service.rebuild_requested_at:
                git = service.spec.source.git
                since = self._sources.refresh_now(git.url, git.revision)
                memory.rebuild = (service.rebuild_requested_at, since)

    def leave_alone(self, absent: frozenset[str]) -> bool:
        """Neither write nor miss these kinds from now on; say whether that is another set than before.

        What was refused may have been refused because a kind was on its way out.
        """
        if absent == self.absent:
            return False
        self.absent = absent
        for memory in self._memory.values():
            memory.forget_refusals()
        return True

    def next_waiting(self) -> list[Key]:
        """The services whose build may find a slot now that one has ended."""
        return self._slots.next()

    def _forget(self, key: Key) -> None:
        self._memory.pop(key, None)
        self._slots.give_way(key, False)
        self._slots.leave(key)
        self._sources.forget(key)

    # --- write --------------------------------------------------------------------------------------

    async def _carry_out(
        self, key: Key, service: GoService, body: Manifest, decided: Plan, memory: Memory
    ) -> bool:
        """Do what is planned; say whether the resource is still the one that it was planned for."""
        try:
            if any(isinstance(w, Apply | Create) for w in decided.writes) and not (
                await self._is_current(key, service, memory)
            ):
                return False
            for write in decided.writes:
                await self._write(service, write, memory)
                if isinstance(write, Create) and write.manifest["kind"] == "Job":
                    self._slots.started(key)
        except (Invalid, Forbidden) as error:
            memory.refusal = str(error)
            memory.refused_at = self._clock()
            raise
        finally:
            if not decided.waits_for_slot:
                self._slots.leave(key)
        await self._report(body, decided, memory)
        for lookup in decided.lookups:
            self._sends(key)
            lookups.remember(memory.lookups, lookup, await lookups.answer(self._cluster, lookup))
        return True

    async def _is_current(self, key: Key, service: GoService, memory: Memory) -> bool:
        """Once per resource, and when a child is missed: nobody brings back a deleted one's children.

        If the resource was made anew, the cache learns it here: no watch may have told. That it is
        gone is not taken from one answer, which a server says of a whole kind while it starts.
        """
        if memory.checked_uid == service.uid:
            return True
        live = await self._cluster.get(resource.KIND, *key)
        if live["metadata"]["uid"] == service.uid and "deletionTimestamp" not in live["metadata"]:
            memory.checked_uid = service.uid
            return True
        self._store.drop(resource.KIND, key)
        self._store.put(resource.KIND, live)
        return False

    async def _write(self, service: GoService, write: Write, memory: Memory) -> None:
        match write:
            case Create(manifest=manifest):
                await self._create(service, manifest, memory)
            case Apply(manifest=manifest, manager=manager):
                await self._apply(service, manifest, manager, memory)
            case Delete(kind=kind, namespace=namespace, name=name, uid=uid):
                self._sends((namespace, service.name))
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(kind, namespace, name, uid=uid)
                self._store.drop(kind, (namespace, name))
            case _:
                assert_never(write)

    async def _create(self, service: GoService, manifest: Manifest, memory: Memory) -> None:
        kind, metadata = manifest["kind"], manifest["metadata"]
        place = kind, metadata["namespace"], metadata["name"]
        self._sends((service.namespace, service.name))
        try:
            made = await self._cluster.create(manifest)
        except AlreadyExists:
            made = await self._cluster.get(*place)
            if _of_a_namesake(made, service):
                raise Conflict(
                    f"{kind} {metadata['namespace']}/{metadata['name']} is of a deleted GoService"
                    " and is being collected"
                ) from None
            if not owned(made, service.uid):
                raise self._foreign(*place, memory) from None
        self._store.put(kind, made)

    async def _apply(
        self, service: GoService, manifest: Manifest, manager: str, memory: Memory
    ) -> None:
        kind, metadata = manifest["kind"], manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        digest = digest_of(manifest)
        place = (manager, kind, name)
        live = self._store.get(kind, (namespace, name))
        sent = manifest
        if manager == names.OPERATOR and (live is None or not owned(live, service.uid)):
            sent = {**manifest, "metadata": {**metadata, "resourceVersion": ONLY_NEW}}
        elif memory.applied.get(place) == (digest, _version(live)):
            return
        self._sends((namespace, service.name))
        try:
            made = await self._cluster.apply(sent, manager=manager)
        except Conflict:
            if sent is manifest:
                raise
            made = await self._existing(service, kind, namespace, name, memory)
            if memory.applied.get(place) != (digest, _version(made)):
                made = await self._cluster.apply(manifest, manager=manager)
        memory.applied[place] = (digest, _version(made))
        if manager == names.OPERATOR:
            before = memory.answers.get((kind, name))
            now = self._clock()
            memory.answers[kind, name] = contested.applied(before, manifest, live, made, now)
        self._store.put(kind, made)

    async def _existing(
        self, service: GoService, kind: str, namespace: str, name: str, memory: Memory
    ) -> Manifest:
        """An object that the watches do not show: ours all the same, or foreign."""
        found = await self._cluster.get(kind, namespace, name)
        if belongs(found, service):
            return found
        raise self._foreign(kind, namespace, name, memory)

    def _foreign(self, kind: str, namespace: str, name: str, memory: Memory) -> Conflict:
        """The refusal to touch an object, which the next pass tells in the status."""
        memory.foreign.add((kind, name))
        memory.refused_at = self._clock()
        return Conflict(f"{kind} {namespace}/{name} exists and does not belong to this GoService")

    async def _report(self, body: Manifest, decided: Plan, memory: Memory) -> None:
        """The status once, then the events of the transition."""
        if decided.status is None:
            return
        metadata = body["metadata"]
        # What another manager has put into the status stays there: the answer is what we can have.
        place = (names.OPERATOR, resource.KIND, metadata["name"])
        digest = digest_of(dict(decided.status))
        if memory.applied.get(place) == (digest, _version(body)):
            return
        self._sends((metadata["namespace"], metadata["name"]))
        self._count(body, decided.status, memory)
        made = await self._cluster.apply_status(
            {
                "apiVersion": resource.API_VERSION,
                "kind": resource.KIND,
                "metadata": {
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                    # The uid alone does not keep a status from a namesake made anew.
                    "resourceVersion": metadata["resourceVersion"],
                },
                "status": dict(decided.status),
            }
        )
        memory.applied[place] = (digest, _version(made))
        self._store.put(resource.KIND, made)
        for event in decided.events:
            await self._emit(body, event)

    def _count(self, body: Manifest, status: Mapping[str, Any], memory: Memory) -> None:
        """Count the builds that are recorded now, each once, also if the write is lost."""
        metadata = body["metadata"]
        jobs = (
            child
            for child in self._store.children(metadata["namespace"], metadata["name"])
            if child["kind"] == "Job"
        )
        for build in finished_builds.newly_finished(body.get("status") or {}, status, jobs):
            if self._metrics is not None and build.name not in memory.counted:
                self._metrics.built(build.result, build.reason, build.seconds)
        memory.counted = frozenset(item["build"] for item in status.get("history") or ())

    async def _emit(self, body: Manifest, event: Event) -> None:
        """Post an event; one that is lost is not worth a pass."""
        try:
            await self._cluster.create(events.manifest(body, event, self._clock()))
        except ClusterError as error:
            log.info("event %s of %s not posted: %s", event.reason, body["metadata"]["name"], error)


def _of_a_namesake(manifest: Manifest, service: GoService) -> bool:
    """Whether an object's controller is an earlier GoService of the same name."""
    references = manifest["metadata"].get("ownerReferences") or ()
    return not owned(manifest, service.uid) and any(
        r.get("controller") and (r.get("kind"), r.get("name")) == (resource.KIND, service.name)
        for r in references
    )


def _version(manifest: Manifest | None) -> str:
    return str((manifest or {}).get("metadata", {}).get("resourceVersion", ""))


def _runs(job: Manifest) -> bool:
    return not any(condition_of(job, end).get("status") == "True" for end in ("Complete", "Failed"))
