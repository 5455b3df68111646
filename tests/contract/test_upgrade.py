"""The operator takes over what an older version left: it builds nothing, and no pod starts anew.

`recorded/settled.json.xz` holds worlds as commit 2b53938 left them: all objects of 37 services at
five points of their lives, with their statuses and the owners of their fields.
"""

from __future__ import annotations

import json
import lzma
import pickle
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from goservice.manifest import Manifest, key_of
from goservice.settings import Settings
from tests.support.lab import Lab

FILE = Path(__file__).parent / "recorded" / "settled.json.xz"
WORLDS: list[Manifest] = json.loads(lzma.decompress(FILE.read_bytes()))
LEFT = 185
HARMLESS = {
    ("apply_status", "GoService"),
    ("create", "Event"),
    ("apply", "PodDisruptionBudget"),
}
"""What a newer version may say and add."""


def taken_over(left: Manifest) -> Lab:
    """A new operator in a world that was left."""
    lab = Lab(Settings.model_validate(left["settings"]))
    objects, owners = left["objects"], left["owners"]
    places = [(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in objects]
    fields = [
        {(who, how): frozenset(map(tuple, paths)) for who, how, paths in each} for each in owners
    ]
    state = (
        dict(zip(places, objects, strict=True)),
        dict(zip(places, fields, strict=True)),
        left["version"],
    )
    lab.world.restore(pickle.dumps(state))
    lab.now = datetime.fromisoformat(left["at"])
    lab.git.sha = left["commit"]
    lab.start()
    return lab


@pytest.mark.parametrize("left", WORLDS, ids=lambda left: f"{left['life']}-{left['point']}")
async def test_an_upgrade_neither_builds_nor_restarts(left: Manifest) -> None:
    lab = taken_over(left)
    key = next(key_of(made) for made in left["objects"] if made["kind"] == "GoService")
    lab.git.heard = False
    await lab.settle(key)
    lab.git.heard = True
    await lab.settle(key)
    lab.now += timedelta(hours=1)
    await lab.settle(key)
    written = {(verb, kind) for verb, kind, _ in lab.world.writes}
    assert written <= HARMLESS, "no build, no new pod, nothing deleted"


def test_there_are_worlds_of_every_kind() -> None:
    assert len(WORLDS) == LEFT
    kinds = {manifest["kind"] for left in WORLDS for manifest in left["objects"]}
    assert kinds >= {
        "GoService",
        "Job",
        "Pod",
        "ConfigMap",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "PersistentVolumeClaim",
        "ServiceAccount",
    }
