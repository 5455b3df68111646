"""A kind that the real API server serves only for a while: looked for, watched, and left alone again.

The tests build on each other, in their order; the operator is one process from first to last.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goservice.manifest import find_condition
from goservice.watch.operator import LOOK_FOR_APIS_SECONDS
from testbed.apiserver.controlplane import OPERATOR_USER, Actor, ControlPlane, Operator, until
from tests.support import gadget

pytestmark = pytest.mark.e2e

SOON = LOOK_FOR_APIS_SECONDS + 30
"""Seconds in which the operator has looked again, and acted upon it, on a busy machine."""
NAME = gadget.KIND.resource


@dataclass
class Bed:
    """An API server, and an operator with a row of a kind that is not there at first."""

    plane: ControlPlane
    operator: Operator
    pid: int

    def condition(self, kind: str) -> dict[str, Any]:
        found = self.plane.get("goservice", "checkout")
        return dict(find_condition((found or {}).get("status") or {}, kind))

    def gadget(self) -> dict[str, Any]:
        return dict(self.plane.get(NAME, "checkout") or {})

    def requests_for(self, plural: str, since: int) -> list[str]:
        """Verbs of what the operator asked of a kind, after so many requests."""
        entries = self.plane.requests()[since:]
        return [e["verb"] for e in entries if (e.get("objectRef") or {}).get("resource") == plural]

    def is_well(self) -> None:
        assert self.operator.running
        assert self.operator.pid == self.pid, "the process was started again"
        assert self.operator.alarms == []
        assert self.operator.answers("/readyz")
        assert "Traceback" not in self.operator.log.read_text()


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        plane = ControlPlane(Path(name))
        program = (sys.executable, "-m", "tests.support.gadget")
        operator = Operator(plane, plane.settings({}), program=program)
        try:
            plane.start()
            plane.install()
            plane.kubectl("create", "namespace", "shop")
            for manifest in gadget.rights(OPERATOR_USER):
                plane.apply(manifest)
            operator.start()
            yield Bed(plane, operator, operator.pid)
            assert operator.stop() == 0
        finally:
            plane.stop()


def test_who_asks_for_what_is_not_served_reads_so_and_serves(bed: Bed) -> None:
    bed.plane.apply(
        {
            "apiVersion": "goservice.dev/v1alpha1",
            "kind": "GoService",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {
                "image": {
                    "repository": "registry.example.com/shop/checkout",
                    "digest": "sha256:" + "a" * 64,
                }
            },
        }
    )
    actor = Actor(bed.plane)

    def serves() -> bool:
        actor.act()
        return bed.condition("Ready").get("status") == "True"

    until("it serves", serves, 60)
    said = bed.condition(gadget.SAYS)
    assert (said["status"], said["reason"]) == ("False", "APINotServed")
    assert "does not serve Gadget of gadgets.example.com/v1" in said["message"]
    bed.is_well()


def test_a_kind_that_comes_is_made_and_watched(bed: Bed) -> None:
    watches_before = len(bed.requests_for("deployments", 0))
    bed.plane.apply(gadget.CRD)
    until("the Gadget is made", bed.gadget, SOON)
    assert bed.gadget()["spec"] == {"size": 1}
    until("nothing is missing any more", lambda: not bed.condition(gadget.SAYS))
    drift = json.dumps({"spec": {"size": 7}})
    bed.plane.kubectl("patch", NAME, "checkout", "-n", "shop", "--type=merge", "-p", drift)
    until("the drift is repaired", lambda: bed.gadget()["spec"] == {"size": 1}, 15)
    bed.plane.kubectl("delete", NAME, "checkout", "-n", "shop")
    until("it is made again", bed.gadget, 15)
    others = bed.requests_for("deployments", 0)[watches_before:]
    assert "list" not in others, "the watches of the other kinds were left alone"
    bed.is_well()


def test_a_kind_that_goes_is_left_alone_and_comes_back(bed: Bed) -> None:
    before = len(bed.plane.requests())
    bed.plane.kubectl("delete", "crd", NAME)
    until("it is said", lambda: bed.condition(gadget.SAYS), 30)
    assert bed.condition(gadget.SAYS)["reason"] == "APINotServed"
    assert bed.condition("Ready")["status"] == "True"
    time.sleep(5)
    quiet_from = len(bed.plane.requests())
    tries = bed.requests_for("gadgets", before)
    assert tries.count("patch") + tries.count("watch") + tries.count("list") <= 12, tries
    time.sleep(10)
    assert bed.requests_for("gadgets", quiet_from) == [], "nothing is asked of it any more"
    bed.is_well()
    bed.plane.apply(gadget.CRD)
    until("the Gadget is made again", bed.gadget, SOON)
    bed.is_well()


def test_a_restart_writes_nothing(bed: Bed) -> None:
    until("nothing is missing any more", lambda: not bed.condition(gadget.SAYS))
    assert bed.operator.stop() == 0
    before = len(bed.plane.writes())
    bed.operator.start()
    bed.pid = bed.operator.pid
    time.sleep(5)
    assert bed.plane.writes()[before:] == []
    bed.is_well()
