"""The end: no secret anywhere, only our own rights used, nothing left after deletion and demo-down."""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from goservice.objects import children
from testbed.node import footprint, installation, kubectl, localnode, paths
from testbed.node.localnode import CANARY, Demo, Service

pytestmark = [pytest.mark.e2e, pytest.mark.node]


def test_the_push_secret_is_nowhere_but_in_the_secret(demo: Demo, checkout: Service) -> None:
    forms = (CANARY.encode(), base64.b64encode(f"{paths.REGISTRY_USER}:{CANARY}".encode()))
    looked = 0
    for where, text in _everything(demo.started):
        looked += 1
        assert not any(form in text for form in forms), where
    print(f"canary: not found in {looked} layers, logs, events, statuses and objects")
    assert looked > 50


def _everything(since: float) -> Iterator[tuple[str, bytes]]:
    """Layers pushed, container logs, program logs, and every object but Secrets."""
    for storage in (paths.cache() / "registry", paths.run() / "closed-registry"):
        for blob in storage.rglob("blobs/**/data"):
            if blob.stat().st_mtime >= since:
                yield str(blob), _unpacked(blob.read_bytes())
    logs = [*(paths.run() / "log").rglob("*.log"), *(paths.run() / "logs").glob("*.log")]
    for file in logs:
        if file.is_symlink():  # the kubelet's second name for a log of pods/
            continue
        with contextlib.suppress(
            FileNotFoundError
        ):  # the kubelet removes a container's log with it
            yield str(file), file.read_bytes()
    kinds = kubectl.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    for kind in kinds:
        if kind != "secrets" and not kind.endswith("metrics.k8s.io"):
            yield kind, kubectl.kubectl("get", kind, "-A", "-o", "json").encode()
    yield "audit log", paths.audit_log().read_bytes()


def _unpacked(blob: bytes) -> bytes:
    try:
        return gzip.decompress(blob)
    except (OSError, EOFError, zlib.error):
        return blob


def test_every_write_of_the_operator_carries_its_service_account(demo: Demo) -> None:
    entries = localnode.audit()
    ours = [e for e in entries if e.agent.startswith("goservice-operator/")]
    writers = {e.user for e in ours if e.verb not in localnode.READS and e.resource != "goservices"}
    assert writers == {localnode.OPERATOR}
    refused = {e.name for e in entries if e.user == localnode.OPERATOR and e.code == 403}
    # Admission lets no claim grow that nobody provisioned: test_node_cache.py asks for it.
    assert refused <= {"owner-build-cache"}


def test_the_operator_was_never_called_unwell(demo: Demo) -> None:
    """Through failed builds, kills and the loss of power: no false alarm of its liveness probe."""
    events = kubectl.get("events", "-n", "goservice-system")["items"]
    assert any(event["reason"] == "Started" for event in events), "they are kept for an hour"
    said = [event.get("message") or "" for event in events]
    unwell = re.compile("Liveness probe failed: .*503|failed liveness probe")
    assert [text for text in said if unwell.search(text)] == []


def test_nothing_is_granted_that_is_not_used(demo: Demo) -> None:
    """Over the whole run: nothing was asked for that is not granted, nor the other way round."""
    role = next(
        d
        for d in yaml.safe_load_all((paths.PROJECT / "manifests" / "rbac.yaml").read_text())
        if d["kind"] == "ClusterRole" and d["metadata"]["name"] == "goservice-operator"
    )
    granted = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    used = {(e.resource, e.verb) for e in localnode.audit() if e.user == localnode.OPERATOR}
    used = {(r, v) for r, v in used if r and not r.startswith("selfsubject")}
    print(f"rights used: {len(granted & used)} of {len(granted)}")
    assert used <= granted
    unseen = {("goservices/finalizers", "update")}  # asked for by admission plugins
    unseen |= {(r, "get") for r, _ in granted}  # only after a name was taken, or a watch was late
    unseen |= {(r, "create") for r, v in used if v == "patch"}  # an apply that makes the object
    assert granted - used <= unseen


def test_deleting_a_service_deletes_all_that_it_made(checkout: Service) -> None:
    since = localnode.mark()
    kubectl.kubectl("delete", "goservice", checkout.name, "-n", checkout.namespace)
    selector = f"goservice.dev/service={checkout.name}"
    served = kubectl.kubectl("api-resources", "-o", "name").split()
    kinds = ",".join(k.resource for k in children.CHILD_KINDS.values() if k.resource in served)
    left = ("get", kinds, "-n", checkout.namespace, "-l", selector, "-o", "name")
    localnode.until("nothing is left", lambda: not kubectl.kubectl(*left), 90)
    assert localnode.writes(since) == []


def test_uninstalling_the_operator_leaves_services_running(demo: Demo) -> None:
    sample = Service("demo", "sample")
    kubectl.kubectl("delete", "-k", str(installation.folder()), timeout=180)
    assert sample.ask()["uid"] == 10001
    assert kubectl.get("crd", "goservices.goservice.dev")
    assert sample.status()["servingImage"] == sample.image()


def test_demo_down_leaves_nothing_but_the_cache(demo: Demo) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbed.node", "demo-down"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert footprint.difference(demo.before, footprint.footprint()) == {}
    assert paths.cache().exists()
