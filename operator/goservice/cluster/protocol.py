"""The requests that an API server answers, whether it is real or in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from goservice import names
from goservice.manifest import Manifest

Manifests = list[Manifest]

MANAGER = names.OPERATOR
"""The field manager of every write but one: the handover."""

HANDOVER_MANAGER = names.HANDOVER
"""The field manager that holds `replicas` while it goes over to the autoscaler or comes back."""

ONLY_NEW = "1"
"""A resourceVersion that no object has: an apply with it creates, and is refused (Conflict) for
whatever is there already. etcd counts from 1, so its first object has version 2."""


class Cluster(Protocol):
    """An API server, real or in memory. Every call may raise `errors.ClusterError`."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object."""
        ...

    async def list(
        self,
        kind: str,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        most: int | None = None,
    ) -> Manifests:
        """All objects of a kind, or the first ones, in one namespace or everywhere, without managedFields."""
        ...

    def pages(
        self, kind: str, namespace: str | None, *, label_selector: str = ""
    ) -> AsyncIterator[Manifests]:
        """The same, of what may be thousands: never more than a page of them is held.

        Raises:
            Gone: between two pages; what came before is no complete list.
        """
        ...

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> Manifest:
        """Server-side apply, forced: takes fields over from other managers; creates what is not there."""
        ...

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status, forced.

        With a resourceVersion in it, it is refused (Conflict) for an object that changed or was
        recreated; with a uid alone, a write to a recreated namesake raises Conflict afterwards.
        """
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object; AlreadyExists if its name is taken."""
        ...

    async def patch_merge(self, kind: str, namespace: str, name: str, body: Manifest) -> Manifest:
        """JSON merge patch."""
        ...

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str | None) -> None:
        """Delete an object; with a uid only that one, else Conflict.

        What it owns is deleted by the cluster's garbage collector afterwards.
        """
        ...

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
    ) -> AsyncIterator[str]:
        """A container's log, line by line. The operator itself never asks for it."""
        ...

    async def can_i(
        self, verb: str, kind: str, subresource: str = "", namespace: str | None = None
    ) -> bool:
        """Whether the caller may do this; `kind` is a kind, or a resource as `ACCESS` has it."""
        ...

    async def serves(self, kind: str) -> bool:
        """Whether objects of this kind can be made: its API is there and not on its way out.

        Every authenticated user may ask.
        """
        ...
