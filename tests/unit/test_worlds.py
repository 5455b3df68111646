"""Any world that stands still is silent, and none raises. `make worlds WORLDS=20000 SEED=1` tries more.

A failing world is told whole by: python -m tests.support.worlds --show SEED NUMBER
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest

from goservice import errors
from goservice.manifest import Manifest
from tests.support import factories as f
from tests.support import worlds
from tests.support.lab import Lab

SEED = int(os.environ.get("SEED", "1"))
WORLDS = int(os.environ.get("WORLDS", "1000"))
BATCHES = 20
MOST_QUESTIONS = 5
"""Times in a row that a pass asks something and is repeated at once with the answer."""


@pytest.mark.parametrize("batch", range(BATCHES), ids=lambda batch: f"seed-{SEED}-batch-{batch}")
def test_a_world_that_stands_still_is_silent_and_none_raises(batch: int) -> None:
    wrong = [
        f"--show {SEED} {number}: {fault}"
        for number in range(batch, WORLDS, BATCHES)
        for fault in worlds.faults(SEED, number)
    ]
    assert not wrong, "\n".join(wrong[:10])


async def whole(number: int) -> list[str]:
    """The same with the real pass, its cache and the API server in memory: what is wrong."""
    still = worlds.world(SEED, number)
    lab = Lab()
    key = (still.body["metadata"]["namespace"], still.body["metadata"]["name"])
    uids = {still.body["metadata"]["uid"]: ""}
    for manifest in (still.body, *sorted(still.children.values(), key=_owners_first)):
        text = json.dumps({**manifest, "metadata": {**manifest["metadata"], "namespace": key[0]}})
        for old, new in uids.items():
            text = text.replace(json.dumps(old), json.dumps(new or old))
        made = json.loads(text)
        old = made["metadata"].pop("uid", "")
        for field in ("generation", "resourceVersion", "creationTimestamp", "deletionTimestamp"):
            made["metadata"].pop(field, None)
        try:
            live = lab.world.add(made)
        except errors.ClusterError:
            continue
        uids[manifest["metadata"].get("uid", old)] = live["metadata"]["uid"]
        if made["kind"] == "GoService" and still.status:
            # As the operator wrote it: what another manager wrote there would stay.
            await lab.world.apply_status({**live, "status": still.status})
        shown = made.get("status")
        if shown and lab.world.find(made["kind"], *_place(live)):
            lab.world.set_status(made["kind"], *_place(live), shown)
    lab.git.sha = still.resolution.sha if still.resolution and still.resolution.sha else f.COMMIT
    lab.start()
    sent = 0
    for _ in range(worlds.PASSES + 2):
        sent = len(lab.world.writes)
        wait: float | None = 0.0
        for _ in range(MOST_QUESTIONS):
            try:
                wait = await lab.operator.reconcile(key)
            except errors.ClusterError:
                wait = 1.0  # as the queue does: again after a while
            if wait != 0.0:
                break
        else:
            return [f"--show {SEED} {number}: asks on and on"]
        lab.now += timedelta(seconds=3600.0 if wait is None else wait)
    written = [w for w in lab.world.writes[sent:] if w[0] != "apply"]
    return [f"--show {SEED} {number}: still writes {written}"] if written else []


def _owners_first(manifest: Manifest) -> bool:
    return str(manifest["kind"]) == "Pod"


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


async def test_the_real_pass_is_silent_too_in_a_part_of_them() -> None:
    wrong = [fault for number in range(WORLDS // 20) for fault in await whole(number)]
    assert not wrong, "\n".join(wrong[:10])
