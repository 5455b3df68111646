"""What is around the operator goes away and comes back: API server, etcd, its token, itself.

Each time a service is half built. Afterwards it goes on where it was, and nothing was done twice.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goservice.cluster.kinds import WATCHED
from testbed.apiserver.controlplane import Actor, ControlPlane, Operator, Repository, until
from testbed.apiserver.proxy import Proxy

pytestmark = pytest.mark.e2e

SILENCE = 24
AWAY_SECONDS = 120
ACCOUNT = "/api/v1/namespaces/goservice-system/serviceaccounts/goservice-operator"


@dataclass
class Bed:
    """A control plane without an operator: each test starts its own."""

    folder: Path
    plane: ControlPlane
    repository: Repository
    actor: Actor
    settings: Path

    def submit(self, name: str) -> None:
        """A service whose source is asked for once."""
        git = {"url": self.repository.url}
        self.plane.apply(
            {
                "apiVersion": "goservice.dev/v1alpha1",
                "kind": "GoService",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {
                    "source": {"git": git, "pollIntervalSeconds": 0},
                    "image": {"repository": f"registry.example.com/shop/{name}"},
                },
            }
        )

    def half_build(self, name: str) -> None:
        """A service whose build runs, until `finish`."""
        self.actor.hold = True
        self.submit(name)
        self.wait_for(name, "Unknown Building")

    def finish(self, name: str) -> None:
        """Let its build end; it serves, and each of its objects was made once."""
        self.actor.hold = False
        self.wait_for(name, "True Serving")
        of_it = [w for w in self.plane.written() if w[2].startswith(name)]
        made = Counter(what for what in of_it if what[0] == "create")
        assert set(made.values()) == {1}, made
        assert len([what for what in made if what[1] == "jobs"]) == 1
        assert Counter(of_it)["patch", "deployments", name] == 1

    def reason(self, name: str) -> str:
        body = self.plane.get("goservice", name) or {}
        ready = [c for c in body.get("status", {}).get("conditions", ()) if c["type"] == "Ready"]
        return f"{ready[0]['status']} {ready[0]['reason']}" if ready else ""

    def wait_for(self, name: str, reason: str, seconds: float = 120) -> None:
        def look() -> bool:
            self.actor.act()
            return self.reason(name) == reason

        until(f"{name} says {reason}", look, seconds)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        folder = Path(name)
        plane = ControlPlane(folder)
        repository = Repository(folder)
        settings = plane.settings(
            {
                "git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]},
                "watchSilenceSeconds": SILENCE,
            }
        )
        try:
            plane.start()
            plane.install()
            plane.kubectl("create", "namespace", "shop")
            repository.commit()
            yield Bed(folder, plane, repository, Actor(plane), settings)
        finally:
            plane.stop()
            repository.close()


@pytest.fixture
def started(bed: Bed) -> Iterator[Callable[..., Operator]]:
    """Starts operators, and ends them after the test."""
    operators: list[Operator] = []

    def start(**how: Any) -> Operator:
        operators.append(Operator(bed.plane, bed.settings, **how))
        operators[-1].start()
        return operators[-1]

    yield start
    for operator in operators:
        if operator.running:
            operator.stop(kill=True)
        print(operator.log.read_text()[-3000:])


def test_an_operator_that_is_told_to_end_in_mid_build_goes_on_with_the_same_job(
    bed: Bed, started: Callable[..., Operator]
) -> None:
    operator = started()
    bed.half_build("ended")
    time.sleep(2)
    before = bed.plane.written()
    began = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - began < 25, "its pod has 60 s"
    operator.start()
    time.sleep(5)
    assert bed.plane.written()[len(before) :] == []
    bed.finish("ended")


def test_a_request_without_an_answer_ends_its_pass_long_before_the_operator_is_unwell(
    bed: Bed, started: Callable[..., Operator]
) -> None:
    """Each request has 30 s; the pass then ends with an error, and comes again."""
    proxy = Proxy(bed.plane.port)
    try:
        operator = started(kubeconfig=bed.plane.through(proxy.url, "proxy"), name="unanswered")
        bed.half_build("unanswered")
        proxy.freeze("PATCH", "/deployments/")
        bed.actor.hold = False

        def under_way() -> bool:
            bed.actor.act()
            return bool(proxy.carrying("PATCH", "/deployments/"))

        def given_up() -> bool:
            return "the API server did not answer in time" in operator.log.read_text()

        until("the Deployment is applied", under_way, 40)
        proxy.thaw()  # the next one is well
        until("the request is given up", given_up, 60)
        bed.finish("unanswered")
        assert operator.alarms == []
    finally:
        proxy.close()


class Account:
    """The folder that a kubelet keeps for a pod, with a token that lives as long as a Secret."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.folder = bed.folder / "serviceaccount"
        self.folder.mkdir()
        authority = bed.folder / "certificates" / "apiserver.crt"
        (self.folder / "ca.crt").write_bytes(authority.read_bytes())
        (self.folder / "namespace").write_text("goservice-system")

    def write(self, secret: str) -> str:
        """A new token, bound to a Secret of its own."""
        kubectl = self._bed.plane.kubectl
        kubectl("create", "secret", "generic", secret, "-n", "goservice-system")
        made = self._bed.plane.get("secret", secret, "goservice-system")
        bound = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": secret,
            "uid": made["metadata"]["uid"],
        }
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound, "expirationSeconds": 3600},
        }
        answer = kubectl(
            "create", "--raw", f"{ACCOUNT}/token", "-f", "-", given=json.dumps(request)
        )
        token = str(json.loads(answer)["status"]["token"])
        (self.folder / "next").write_text(token)
        (self.folder / "next").replace(self.folder / "token")
        return token

    def is_refused(self, token: str) -> bool:
        """Whether the API server does not know a token any more."""
        return self._bed.plane.run("get", "--raw=/version", f"--token={token}").returncode != 0


def test_the_token_changes_and_the_operator_goes_on_with_the_new_one(
    bed: Bed, started: Callable[..., Operator]
) -> None:
    account = Account(bed)
    old = account.write("first")
    operator = started(pod=account.folder, name="pod")
    bed.half_build("rotated")
    account.write("second")
    bed.plane.kubectl("delete", "secret", "first", "-n", "goservice-system")
    until("the old token is refused", lambda: account.is_refused(old), 60)
    before = len(bed.plane.requests())
    bed.finish("rotated")

    def watched() -> bool:
        later = [e for e in bed.plane.requests()[before:] if e["verb"] == "watch"]
        opened = {e["objectRef"]["resource"] for e in later if e["responseStatus"]["code"] == 200}
        return len(opened) == len(WATCHED)

    until("every watch is asked for anew", watched, SILENCE * 2)
    assert operator.running
    assert operator.alarms == []
    assert not Path("/var/run/secrets/kubernetes.io/serviceaccount").exists()


def test_two_minutes_without_an_api_server_and_a_restart_of_etcd_are_survived(
    bed: Bed, started: Callable[..., Operator]
) -> None:
    operator = started(name="away")
    bed.actor.hold = False
    bed.submit("settled")
    bed.wait_for("settled", "True Serving")
    bed.half_build("away")
    time.sleep(3)
    for program, seconds in (("kube-apiserver", AWAY_SECONDS), ("etcd", 5)):
        before = bed.plane.written()
        bed.plane.kill(program)
        time.sleep(seconds)
        bed.plane.resume(program)
        until("it is back", lambda: bed.plane.try_kubectl("get", "--raw=/readyz"), 60)

        def recovered() -> bool:
            if not operator.running:
                operator.start(seconds=0)
            return operator.answers("/readyz") and operator.answers("/healthz")

        until("the operator works", recovered, 60)
        time.sleep(5)
        again = Counter(bed.plane.written()[len(before) :])
        print(f"after {seconds} s without {program}: {dict(again)}")
        assert set(again.values()) <= {1}, again
        assert "settled" not in {name for _, _, name in again}
    bed.finish("away")
