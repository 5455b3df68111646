"""Questions that a pass asks the API server beside the watches: how they are answered, and what is kept."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace

from goservice.cluster.protocol import Cluster
from goservice.decide.observed import Lookup
from goservice.loop.words import told
from goservice.manifest import Manifest

LOOKED_AT = 20
"""Objects that are read to tell what is the matter."""
REMEMBERED = 16
"""Objects' lists that are kept of one service, more than one pass asks for; the oldest goes."""

Answers = MutableMapping[Lookup, tuple[Manifest, ...]]
"""What lookups of one service have found."""


async def answer(cluster: Cluster, lookup: Lookup) -> tuple[Manifest, ...]:
    """What a lookup finds, of which never more than a page is held whole."""
    if not lookup.newest_of:
        found = await cluster.list(
            lookup.kind,
            lookup.namespace,
            label_selector=lookup.label_selector,
            field_selector=lookup.field_selector,
            most=LOOKED_AT,
        )
        return tuple(told(one) for one in found)
    newest: dict[str, Manifest] = {}
    async for page in cluster.pages(
        lookup.kind, lookup.namespace, label_selector=lookup.label_selector
    ):
        for one in map(told, page):
            for owner in one["metadata"].get("ownerReferences") or ():
                uid = str(owner.get("uid", ""))
                if uid in lookup.newest_of and _is_newer(one, newest.get(uid)):
                    newest[uid] = one
    return tuple({one["metadata"].get("uid", ""): one for one in newest.values()}.values())


def _is_newer(one: Manifest, other: Manifest | None) -> bool:
    """Whether an object was made after another, if there is one."""
    made = one["metadata"].get("creationTimestamp", "")
    return other is None or made > other["metadata"].get("creationTimestamp", "")


def remember(answers: Answers, lookup: Lookup, found: tuple[Manifest, ...]) -> None:
    """Keep an answer; an earlier look at the same pods tells nothing any more."""
    for other in list(answers):
        same = replace(other, occasion="") == replace(lookup, occasion="")
        if lookup.kind == "Pod" and same:
            del answers[other]
    while len(answers) >= REMEMBERED:
        del answers[next(iter(answers))]
    answers[lookup] = found
