"""Watches that fall silent, never open or break, on a real API server behind a proxy.

The limit is short here, so that the tests are; everything else is as in a cluster.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.apiserver.controlplane import Actor, ControlPlane, Operator, until
from testbed.apiserver.proxy import Proxy

pytestmark = pytest.mark.e2e

SILENCE = 24
JOBS = ("/apis/batch/v1/jobs?", "watch=true")


@dataclass
class Bed:
    """An API server, the proxy in front of it, and an operator that knows only the proxy."""

    plane: ControlPlane
    proxy: Proxy
    operator: Operator

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text of one of the operator's answers."""
        url = f"http://127.0.0.1:{self.operator.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        found = self.plane.get("goservice", "checkout")
        return dict(found.get("status") or {}) if found else {}


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        folder = Path(name)
        plane = ControlPlane(folder)
        settings = plane.settings({"watchSilenceSeconds": SILENCE})
        proxy = None
        try:
            plane.start()
            plane.install()
            plane.kubectl("create", "namespace", "shop")
            proxy = Proxy(plane.port)
            operator = Operator(plane, settings, kubeconfig=plane.through(proxy.url, "proxy"))
            operator.start()
            yield Bed(plane, proxy, operator)
            operator.stop(kill=True)
        finally:
            plane.stop()
            if proxy is not None:
                proxy.close()


def test_quiet_watches_are_well_for_longer_than_the_limit(bed: Bed) -> None:
    """Nothing happens at all; the watches are asked for anew, which is heard."""
    [before] = bed.proxy.carrying(*JOBS)
    end = time.monotonic() + SILENCE * 2
    while time.monotonic() < end:
        assert bed.ask("/healthz") == (200, "ok\n")
        time.sleep(1)
    assert all(after is not before for after in bed.proxy.carrying(*JOBS)), "it was replaced"


def test_a_silent_watch_fails_the_liveness_probe_and_a_new_one_mends_it(bed: Bed) -> None:
    bed.proxy.freeze(*JOBS)
    try:
        text = until("the silence is noticed", lambda: complaint(bed), SILENCE * 3)
        assert text.startswith("nothing was heard for ")
        assert " on the watches of Job; at most 24 s are well" in text
        shown = re.search(r'watch_silence_seconds\{kind="Job"\} ([0-9.]+)', bed.ask("/metrics")[1])
        assert shown
        assert float(shown[1]) > SILENCE, "not before it was silent for long enough"
        assert bed.ask("/readyz")[0] == 200, "the others work on"
    finally:
        bed.proxy.thaw()
    until("a new watch opens", lambda: bed.ask("/healthz") == (200, "ok\n"), SILENCE * 2)


def test_what_happened_while_a_watch_was_silent_is_seen_after_it(bed: Bed) -> None:
    submit(bed)
    actor = Actor(bed.plane)

    def serves() -> bool:
        actor.act()
        ready = [c for c in bed.status().get("conditions", ()) if c["type"] == "Ready"]
        return bool(ready) and ready[0]["status"] == "True"

    until("it serves", serves, 40)
    services = ("/api/v1/services?", "watch=true")
    bed.proxy.silence(*services)
    bed.plane.kubectl("delete", "service", "checkout", "-n", "shop")
    until("the Service is back", lambda: bed.plane.get("service", "checkout"), SILENCE * 3)


def test_an_error_in_a_watch_ends_the_process_and_a_restart_writes_nothing(bed: Bed) -> None:
    """kopf bears only the error 410 within a stream: the process ends, and starts cheaply."""
    until("the watch of jobs is open", lambda: bed.proxy.carrying(*JOBS))
    until("all is well", lambda: bed.ask("/healthz")[0] == 200)
    time.sleep(5)
    before = bed.plane.writes()
    fault = {"kind": "Status", "status": "Failure", "code": 500, "message": "etcdserver: no leader"}
    bed.proxy.inject(json.dumps({"type": "ERROR", "object": fault}).encode() + b"\n", *JOBS)
    assert bed.operator.wait(20) == 1
    log = bed.operator.log.read_text()
    assert "a watch of the API server ended" in log
    assert "etcdserver: no leader" in log
    bed.operator.start()
    time.sleep(5)
    assert bed.plane.writes()[len(before) :] == []


def test_a_watch_that_cannot_open_is_neither_ready_nor_well(bed: Bed) -> None:
    """Lists are answered, ours too: caches would be filled, and nothing ever seen."""
    bed.operator.stop()
    bed.proxy.freeze(*JOBS)
    bed.operator.start(seconds=0)
    try:
        until("it says so", lambda: bed.ask("/readyz")[1] == "there is no watch yet of Job\n", 30)
        until(
            "it is to be restarted",
            lambda: "watches of Job; at most" in bed.ask("/healthz")[1],
            SILENCE * 3,
        )
        assert bed.ask("/readyz")[0] == 503
    finally:
        bed.proxy.thaw()
    until("it recovers by itself too", lambda: bed.ask("/readyz")[0] == 200, SILENCE * 2)
    assert bed.ask("/healthz")[0] == 200


def complaint(bed: Bed) -> str:
    """What the liveness probe is told, empty while all is well."""
    status, text = bed.ask("/healthz")
    return text if status == 503 else ""


def submit(bed: Bed) -> None:
    """A service that needs no build."""
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
