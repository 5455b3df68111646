"""The operator sends what it sent before it was restructured, and takes over what is there.

Recorded by the version before (commit 2b53938): the lives of two thousand services, and worlds as
it left them. `tests.support.recorded_lives` says how; a difference is shown by running one life with both
versions. Kept until the next release, then it goes.
"""

from __future__ import annotations

import pytest

from goservice.manifest import Manifest
from tests.support import recorded_chapters, recorded_lives
from tests.support.recorded_lives import COLUMNS, Given

WORLDS = list(recorded_lives.settled())
LEFT = 185
MENDED = {
    # A failed build whose pod is gone has its status written once, not twice.
    15: "14bf73aa9a22 eedc8edbc109 7f57c8e91ac6 5ae6aa9016cf 8b5d2801aa5a 410",
}
"""Lives that send something else on purpose: what they send now."""
SHOW = "python -m tests.support.recorded_lives --show"


def test_every_life_sends_what_it_sent() -> None:
    every = recorded_lives.lives()
    kept = recorded_lives.recorded()
    assert list(kept) == [given.number for given in every]
    moved = []
    for given, now in zip(every, recorded_lives.every_row(), strict=True):
        if now != MENDED.get(given.number, kept[given.number]):
            moved.append(f"{given.number} {given.name}: {_what_moved(kept[given.number], now)}")
    assert moved == [], (
        f"{len(moved)} of {len(every)} lives send something else than before."
        f" Compare one with both versions (recorded/NOTE.md): {SHOW} {moved[0].split()[0]}"
    )


def _what_moved(before: str, now: str) -> str:
    names = (*COLUMNS, "number of calls")
    columns = zip(names, before.split(), now.split(), strict=True)
    return ", ".join(name for name, old, new in columns if old != new)


def test_what_is_mended_makes_the_same_images() -> None:
    kept = recorded_lives.recorded()
    for number, now in MENDED.items():
        assert _what_moved(kept[number], now) == "calls, writes, number of calls"


def test_the_lives_are_the_recorded_ones() -> None:
    every = recorded_lives.lives()
    assert len(every) >= 2000
    assert sum(given.name.startswith("golden/") for given in every) == 17


@pytest.mark.parametrize(
    ("given", "left"), [world[1:] for world in WORLDS], ids=[world[0] for world in WORLDS]
)
async def test_a_restart_writes_nothing_over_what_was_settled(given: Given, left: Manifest) -> None:
    life = recorded_lives.resumed(given, left)
    await recorded_chapters.resuming(life)
    assert life.writes == []


def test_there_are_worlds_of_every_kind() -> None:
    assert len(WORLDS) >= LEFT
    kinds = {manifest["kind"] for _, _, left in WORLDS for manifest in left["objects"]}
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
