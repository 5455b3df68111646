"""One local node for all tests of test_node_*.py: `make demo` starts it, test_uninstall.py ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from testbed.node import footprint, installation, local, localnode, node, paths, prerequisites


@pytest.fixture(scope="session")
def demo() -> Iterator[localnode.Demo]:
    """The cluster as `make demo` leaves it, with a cap of two builds at once.

    GOSERVICE_E2E_KEEP=1 uses the cluster that runs and lets it run on, for work on the tests.
    """
    keep = bool(os.environ.get("GOSERVICE_E2E_KEEP"))
    prerequisites.install()
    if node.find() is not None and not keep:
        local.down()
    before = footprint.footprint()
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "testbed.node", "demo"],
        cwd=paths.PROJECT,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    cap = {"maxConcurrent": localnode.CAP, "maxConcurrentPerNamespace": localnode.CAP}
    changes = {"builds": cap}
    settings = installation.change_settings(changes, paths.kubeconfig())
    yield localnode.Demo(done.stdout, settings["images"]["operator"], before, started)
    if not keep and node.find() is not None:
        local.down()


@pytest.fixture(scope="session")
def shop(demo: localnode.Demo) -> str:
    """A namespace for services that are built, with a push Secret whose password is the canary."""
    localnode.namespace("shop")
    localnode.push_secret("shop", "push")
    localnode.claim("shop", "caches", folder=localnode.CACHES)
    return "shop"


@pytest.fixture(scope="session")
def checkout(shop: str) -> localnode.Service:
    """The sample in the namespace shop, built once and serving."""
    localnode.push_sample("checkout", "First")
    service = localnode.submit(
        "checkout",
        shop,
        "checkout",
        image=localnode.closed(shop, "checkout"),
        build={"cache": {"claimName": "caches"}},
        timeZone="Europe/Paris",
        env=[{"name": "GREETING", "value": "hello"}],
    )
    service.wait_for("True Serving")
    return service
