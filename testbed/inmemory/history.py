"""What happened in the in-memory API server, as watches show it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from goservice import errors
from goservice.manifest import Manifest
from testbed.inmemory import fieldpaths


@dataclass(frozen=True)
class Happening:
    """One change, as watches show it."""

    version: int
    """The resourceVersion after it."""
    change: str
    """ADDED, MODIFIED or DELETED."""
    manifest: Manifest
    """The object after it; of a deletion, as it was last."""
    labels_before: Mapping[str, str] | None
    """The labels before it, which decide what a watch with a selector sees; None where it was
    not there."""


class History:
    """Every change since the first version."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._happened: list[Happening] = []
        self._news = asyncio.Event()

    def add(self, version: int, change: str, manifest: Manifest, before: Manifest | None) -> None:
        """One change more."""
        labels = None if before is None else before["metadata"].get("labels") or {}
        self._happened.append(Happening(version, change, manifest, labels))
        self._news.set()

    async def watch(
        self, kind: str, namespace: str, since: str, label_selector: str
    ) -> AsyncGenerator[tuple[str, Manifest], None]:
        """Every change after a version, and a bookmark when all of them are sent."""
        if int(since) < self._first:
            raise errors.Gone(f"too old resource version: {since}", status=410)
        position, last = 0, int(since)
        while True:
            while position < len(self._happened):
                happened = self._happened[position]
                position += 1
                last = max(last, happened.version)
                metadata = happened.manifest["metadata"]
                if happened.version <= int(since) or happened.manifest["kind"] != kind:
                    continue
                if metadata["namespace"] != namespace:
                    continue
                change = _as_selected(happened, label_selector)
                if change:
                    yield change, fieldpaths.copied(happened.manifest)
            yield "BOOKMARK", {"kind": kind, "metadata": {"resourceVersion": str(last)}}
            self._news.clear()
            await self._news.wait()


def _as_selected(happened: Happening, selector: str) -> str:
    """The change as a watch with a selector shows it; empty if it does not."""
    now = fieldpaths.selected(selector, happened.manifest["metadata"].get("labels") or {})
    before = happened.labels_before
    was = before is not None and fieldpaths.selected(selector, before)
    if happened.change == "DELETED":
        return "DELETED" if was else ""
    return {(True, True): "MODIFIED", (True, False): "DELETED", (False, True): "ADDED"}.get(
        (was, now), ""
    )
