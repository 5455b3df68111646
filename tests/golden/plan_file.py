"""`plan.yaml`: a plan as a person reads it. Whatever changes in a plan changes this text.

A write of an object that is there shows what it changes, as a patch; every other one carries the
digest of its manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, assert_never

from goservice import names
from goservice.decide.observed import Lookup, Observed
from goservice.decide.writes import Apply, Create, Delete, Plan, Write
from goservice.manifest import Manifest, digest_of
from tests.golden import plain_yaml
from tests.golden.merge import difference


def text(plan: Plan, observed: Observed) -> str:
    """The file."""
    return plain_yaml.dump(
        {
            "writes": [_written(write, observed) for write in plan.writes],
            "status": "unchanged" if plan.status is None else dict(plan.status),
            "events": [{**asdict(event), "reason": str(event.reason)} for event in plan.events],
            "lookups": lookups(plan.lookups),
            "requeueAfter": plan.requeue_after,
            "watchSource": plan.watch_source,
            "refreshSource": plan.refresh_source,
            "waitsForSlot": plan.waits_for_slot,
        }
    )


def _written(write: Write, observed: Observed) -> Mapping[str, Any]:
    match write:
        case Create(manifest=manifest):
            return {"create": _called(manifest), "digest": digest_of(manifest)}
        case Apply(manifest=manifest, manager=names.OPERATOR):
            live = observed.children.get((manifest["kind"], manifest["metadata"]["name"]))
            shown = {"apply": _called(manifest), "digest": digest_of(manifest)}
            return {**shown, "changes": difference(live, manifest)} if live else shown
        case Apply(manifest=manifest, manager=manager):
            return {"apply": _called(manifest), "manager": manager, "manifest": manifest}
        case Delete(kind=kind, name=name, uid=uid):
            return {"delete": f"{kind} {name}", "uid": uid}
        case _:
            assert_never(write)


def _called(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def lookups(asked: Iterable[Lookup]) -> list[Mapping[str, str]]:
    """Lookups as observed.yaml has them, too: what one found is put beside it there."""
    return [_asked(lookup) for lookup in asked]


def _asked(lookup: Lookup) -> Mapping[str, str]:
    fields = {
        "kind": lookup.kind,
        "labelSelector": lookup.label_selector,
        "fieldSelector": lookup.field_selector,
        "occasion": lookup.occasion,
    }
    return {key: value for key, value in fields.items() if value}
