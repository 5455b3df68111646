"""The operator process against a real API server: CRD, rights, server-side apply, writes, restarts.

No node: `controlplane.Actor` plays it. Everything else (validation, controllers, garbage
collection, field ownership, the audit log) is Kubernetes' own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from goservice.api import parsing
from goservice.cli import offline
from goservice.cluster.kinds import KINDS
from goservice.errors import InvalidSpec
from goservice.manifest import covers
from goservice.objects import children
from testbed.apiserver import controlplane
from testbed.apiserver.controlplane import Actor, ControlPlane, Operator, Repository, until
from testbed.node import installation
from tests.support import corpus, factories, generate

pytestmark = pytest.mark.e2e
GOSERVICE = str(Path(sys.prefix) / "bin" / "goservice")


@dataclass
class Bed:
    """Everything that a test needs."""

    plane: ControlPlane
    operator: Operator
    actor: Actor
    repository: Repository

    def submit(self, **changes: Any) -> None:
        spec = {
            "source": {"git": {"url": self.repository.url}, "pollIntervalSeconds": 2},
            "image": {"repository": "registry.example.com/shop/checkout"},
            **changes,
        }
        body = {
            "apiVersion": "goservice.dev/v1alpha1",
            "kind": "GoService",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": spec,
        }
        self.plane.apply(body)

    def patch(self, spec: dict[str, Any]) -> None:
        self.plane.kubectl(
            "patch",
            "goservice",
            "checkout",
            "-n",
            "shop",
            "--type=merge",
            "-p",
            json.dumps({"spec": spec}),
        )

    def status(self) -> dict[str, Any]:
        found = self.plane.get("goservice", "checkout")
        return dict(found.get("status") or {}) if found else {}

    def reason(self) -> str:
        return ready({"status": self.status()})

    def wait(self, what: str, found: Callable[[], Any], seconds: float = 40) -> Any:
        def look() -> Any:
            self.actor.act()
            return found()

        return until(f"{what}; it is {self.reason()!r}", look, seconds)

    def wait_for(self, reason: str) -> None:
        self.wait(reason, lambda: self.reason() == reason)

    def deployment(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.get("deployment", "checkout")
        return found

    def replicas_owner(self) -> list[str]:
        fields = self.deployment_with_owners()["metadata"]["managedFields"]
        return [f["manager"] for f in fields if "f:replicas" in f["fieldsV1"].get("f:spec", {})]

    def deployment_with_owners(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.get(
            "deployment", "checkout", "shop", "--show-managed-fields"
        )
        return found


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with tempfile.TemporaryDirectory(prefix="goservice-test-") as name:
        folder = Path(name)
        # With 20 requests a second, the default, 200 services would wait for the controllers.
        plane = ControlPlane(folder, {"kube-controller-manager": ("--kube-api-qps=200",)})
        repository = Repository(folder)
        settings = plane.settings(
            {
                "git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]},
                "builds": {"maxConcurrent": 400},
            }
        )
        operator = Operator(plane, settings)
        try:
            plane.start()
            plane.install()
            plane.kubectl("create", "namespace", "shop")
            repository.commit()
            operator.start()
            yield Bed(plane, operator, Actor(plane), repository)
            operator.stop()
            assert operator.alarms == [], "a false alarm of the liveness probe"
        finally:
            plane.stop()
            repository.close()


def test_a_short_resource_is_built_and_serves(bed: Bed) -> None:
    before = len(bed.plane.writes())
    bed.submit()
    bed.wait_for("True Serving")
    sent = Counter(bed.plane.writes()[before:])
    assert sent.pop(("patch", "goservices/status")) <= 4
    assert sent.pop(("create", "events")) <= 3
    assert sent == {
        ("create", "configmaps"): 1,
        ("create", "jobs"): 1,
        ("patch", "serviceaccounts"): 2,
        ("patch", "deployments"): 1,
        ("patch", "services"): 1,
    }
    bed.plane.kubectl(
        "wait", "--for=condition=Ready", "goservice/checkout", "-n", "shop", "--timeout=10s"
    )
    image = bed.deployment()["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == bed.status()["servingImage"]
    assert "@sha256:" in image


def test_what_a_person_sees(bed: Bed) -> None:
    table = bed.plane.kubectl("get", "gsvc", "-n", "shop", "-o", "wide")
    assert table.split("\n")[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "IMAGE",
        "REPLICAS",
        "COMMIT",
        "AGE",
    ]
    events = bed.plane.kubectl("get", "events", "-n", "shop", "-o", "json")
    ours = [
        e["reason"]
        for e in json.loads(events)["items"]
        if e["involvedObject"]["kind"] == "GoService"
    ]
    assert sorted(ours) == ["Building", "RollingOut", "Serving"]
    command = [
        GOSERVICE,
        "status",
        "checkout",
        "-n",
        "shop",
        "--kubeconfig",
        str(bed.plane.kubeconfig),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "shop/checkout: Serving" in done.stdout
    for path in (
        "",
        ".spec",
        ".spec.build.modules",
        ".spec.probes.readiness.httpGet",
        ".status.conditions",
    ):
        assert "DESCRIPTION" in bed.plane.kubectl("explain", f"goservice{path}")


def test_a_new_commit_rolls_out(bed: Bed) -> None:
    serving = bed.status()["servingImage"]
    commit = bed.repository.commit()
    bed.wait(
        "the new commit serves",
        lambda: bed.reason() == "True Serving" and bed.status()["servingImage"] != serving,
    )
    assert bed.status()["commit"]["sha"] == commit
    assert bed.status()["build"]["trigger"] == ["NewCommit"]


def test_a_failed_build_changes_nothing_that_serves(bed: Bed) -> None:
    before = bed.deployment()["spec"]
    bed.actor.error = "# example.com/checkout\n./main.go:3:1: undefined: x\n"
    bed.repository.commit()
    bed.wait_for("False CompileFailed")
    assert bed.deployment()["spec"] == before
    status = bed.status()
    assert "undefined: x" in status["build"]["logTail"]
    words = shlex.split(status["build"]["logsCommand"])
    assert words[:2] == ["kubectl", "logs"]
    assert bed.plane.get("job", words[4].removeprefix("job/"))
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"
    bed.actor.error = ""
    bed.repository.commit()
    bed.wait_for("True Serving")


def test_idle_and_restart_write_nothing_and_then_it_acts(bed: Bed) -> None:
    time.sleep(3)  # the event of the last transition follows its status
    before = bed.plane.writes()
    time.sleep(20)
    bed.operator.stop()
    bed.operator.start()
    time.sleep(10)
    assert bed.plane.writes()[len(before) :] == []
    bed.patch({"env": [{"name": "A", "value": "b"}]})
    until("the change is applied", lambda: len(bed.plane.writes()) > len(before), 5)
    bed.wait_for("True Serving")


def test_a_kill_in_the_middle_of_a_build_builds_nothing_twice(bed: Bed) -> None:
    jobs = len(bed.plane.get("jobs"))
    bed.actor.hold = True
    bed.repository.commit()
    bed.wait_for("Unknown Building")
    bed.operator.stop(kill=True)
    bed.operator.start()
    bed.actor.hold = False
    bed.wait_for("True Serving")
    assert len(bed.plane.get("jobs")) <= jobs + 1


def test_rebuild_and_restart_requests_are_echoed(bed: Bed) -> None:
    command = [
        GOSERVICE,
        "rebuild",
        "checkout",
        "-n",
        "shop",
        "--kubeconfig",
        str(bed.plane.kubeconfig),
    ]
    subprocess.run(command, check=True, capture_output=True)
    bed.wait(
        "the rebuild is handled",
        lambda: bed.status().get("lastHandledRebuildAt") and bed.reason() == "True Serving",
    )
    assert bed.status()["build"]["trigger"] == ["RebuildRequested"]
    assert bed.status()["build"]["attempt"] == 2
    bed.plane.kubectl(
        "annotate", "gsvc", "checkout", "-n", "shop", "goservice.dev/restart-requested-at=now"
    )
    bed.wait(
        "the restart is handled",
        lambda: (
            bed.status().get("lastHandledRestartAt") == "now" and bed.reason() == "True Serving"
        ),
    )


def test_replicas_change_hands(bed: Bed) -> None:
    bed.plane.kubectl("scale", "goservice", "checkout", "-n", "shop", "--replicas=3")
    bed.wait(
        "three pods",
        lambda: bed.status().get("readyReplicas") == 3 and bed.reason() == "True Serving",
    )
    assert bed.replicas_owner() == ["goservice-operator"]
    bed.patch({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    bed.wait("the autoscaler", lambda: bed.plane.get("hpa", "checkout"))
    assert bed.deployment()["spec"]["replicas"] == 3
    assert bed.replicas_owner() == ["goservice-operator-handover"]
    bed.plane.kubectl("scale", "deployment", "checkout", "-n", "shop", "--replicas=4")
    bed.wait("four pods", lambda: bed.status().get("readyReplicas") == 4)
    assert bed.deployment()["spec"]["replicas"] == 4
    bed.plane.kubectl(
        "patch",
        "gsvc",
        "checkout",
        "-n",
        "shop",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/autoscaling"}]',
    )
    bed.wait("no autoscaler", lambda: not bed.plane.get("hpa", "checkout"))
    bed.wait("three pods again", lambda: bed.status().get("readyReplicas") == 3)
    bed.wait_for("True Serving")


def test_a_pinned_digest_serves_and_needs_no_source(bed: Bed) -> None:
    oldest = bed.status()["history"][-1]["image"]
    bed.patch({"image": {"digest": oldest.partition("@")[2]}, "source": None})
    bed.wait(
        "the pinned image serves",
        lambda: bed.status().get("servingImage") == oldest and bed.reason() == "True Serving",
    )
    assert {c["type"] for c in bed.status()["conditions"]} == {"Ready", "Available"}
    bed.patch(
        {
            "image": {"digest": None},
            "source": {"git": {"url": bed.repository.url}, "pollIntervalSeconds": 2},
        }
    )
    bed.wait(
        "the newest commit serves",
        lambda: bed.status().get("servingImage") != oldest and bed.reason() == "True Serving",
    )


def test_suspend_holds_everything(bed: Bed) -> None:
    bed.patch({"suspend": True})
    bed.wait_for("True Suspended")
    before = len(bed.plane.writes())
    bed.repository.commit()
    bed.patch({"env": []})
    time.sleep(6)
    assert [w for w in bed.plane.writes()[before:] if w != ("patch", "goservices/status")] == []
    bed.patch({"suspend": False})
    bed.wait_for("True Serving")


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone"),
        ({"image": {"repository": "A B"}}, "spec.image.repository"),
        ({"source": None}, "is required unless image.digest is set"),
        ({"rollout": {"maxSurge": 0}}, "must not be 0 when maxUnavailable is 0"),
        ({"replicas": -1}, "spec.replicas"),
        ({"user": {"name": "root"}}, "must not be root or nobody"),
    ],
)
def test_the_api_server_refuses_bad_input(bed: Bed, spec: dict[str, Any], word: str) -> None:
    done = bed.plane.run(
        "patch", "gsvc", "checkout", "-n", "shop", "--type=merge", "-p", json.dumps({"spec": spec})
    )
    assert done.returncode != 0
    assert word in done.stderr


def test_the_api_server_says_the_same_of_the_whole_corpus(bed: Bed) -> None:
    """A dry run of every row: refused or not, at which field, in which words."""
    for title, change in corpus.ACCEPTED.items():
        assert bed.plane.refusal(corpus.body(change)) == "", title
    for row in corpus.REFUSED:
        words = bed.plane.refusal(corpus.body(row.change, row.name))
        if row.by == "operator":
            assert words == "", row.title
            continue
        # A key of a map is written in brackets by CEL: limits[memory].
        words = re.sub(r"\[([^\[\]\s:]*[^\[\]\s:\d])\]", r".\1", words)
        assert row.field in words, f"{row.title}: {words}"
        assert (row.server or row.says) in words, f"{row.title}: {words}"
    print(
        f"{len(corpus.REFUSED)} bad and {len(corpus.ACCEPTED)} good resources: the API server agrees"
    )


def test_the_api_server_takes_every_object_of_resources_made_by_chance(bed: Bed) -> None:
    """Its own validation, which knows more than the schemas: a dry run of all that is rendered.

    What it would make of an object covers what is wanted, or the next pass would want it anew.
    """

    @hypothesis.settings(max_examples=300, phases=[hypothesis.Phase.generate])
    @hypothesis.given(made=generate.resources())
    def takes(made: dict[str, Any]) -> None:
        try:
            service = parsing.parse(made)
        except InvalidSpec:
            hypothesis.reject()
        metadata = {"name": service.name, "namespace": "default"}
        assert bed.plane.refusal({**made, "metadata": metadata}) == ""
        for manifest in offline.objects(service, factories.SETTINGS, factories.COMMIT):
            manifest["metadata"]["namespace"] = "default"
            made_of_it = bed.plane.would_make(manifest)
            assert made_of_it["kind"] == manifest["kind"], made_of_it.get("message")
            assert covers(made_of_it, manifest)

    takes()


def test_deleting_it_deletes_all_that_it_made(bed: Bed) -> None:
    before = len(bed.plane.writes())
    bed.plane.kubectl("delete", "goservice", "checkout", "-n", "shop")
    served = bed.plane.kubectl("api-resources", "-o", "name").split()
    kinds = ",".join(k.resource for k in children.CHILD_KINDS.values() if k.resource in served)
    managed = "app.kubernetes.io/managed-by=goservice-operator"

    def gone() -> bool:
        return bed.plane.try_kubectl("get", kinds, "-n", "shop", "-l", managed, "-o", "name") == ""

    until("nothing is left", gone, 60)
    assert bed.plane.writes()[before:] == []


def loosened() -> dict[str, Any]:
    """The CRD as a careless older version might have been: any spec at all."""
    definition: dict[str, Any] = yaml.safe_load(
        (controlplane.ROOT / "crds" / "goservices.goservice.dev.yaml").read_text()
    )
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    del schema["x-kubernetes-validations"]
    return definition


@contextlib.contextmanager
def playing_the_node(plane: ControlPlane) -> Iterator[None]:
    """The benchmark's actor, which keeps up with hundreds of pods."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "testbed.apiserver.actor", str(plane.kubeconfig)]
    with subprocess.Popen(command, env=environment) as actor:
        try:
            yield
            assert actor.poll() is None, "the actor ended by itself"
        finally:
            actor.kill()


def ready(service: dict[str, Any]) -> str:
    """Status and reason of the condition Ready, empty without one."""
    conditions = (service.get("status") or {}).get("conditions", ())
    return next((f"{c['status']} {c['reason']}" for c in conditions if c["type"] == "Ready"), "")


def crowd(number: int, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": f"service-{number}", "namespace": "crowd"},
        "spec": spec,
    }


def test_a_poisoned_resource_among_two_hundred_harms_no_other(bed: Bed) -> None:
    """An older CRD took it, this operator cannot parse it: it is told so, and the others build."""
    plane = bed.plane
    plane.kubectl("create", "namespace", "crowd")
    replace = ("apply", "--server-side", "--force-conflicts", "-f")
    plane.kubectl(*replace, "-", given=json.dumps(loosened()))
    poison = {"source": "nowhere", "image": {"repository": 5}, "replicas": 5000, "env": {"A": 1}}
    until("the loose CRD is served", lambda: plane.refusal(crowd(0, poison)) == "")
    plane.apply(crowd(0, poison))
    plane.kubectl(*replace, str(controlplane.ROOT / "crds"))
    until("the CRD is strict again", lambda: plane.refusal(crowd(-1, poison)))
    good = {
        "source": {"git": {"url": bed.repository.url}},
        "image": {"repository": "registry.example.com/crowd/service"},
    }
    listed = {"apiVersion": "v1", "kind": "List", "items": [crowd(n, good) for n in range(1, 200)]}
    plane.kubectl("create", "-f", "-", given=json.dumps(listed))

    def built() -> bool:
        jobs = plane.get("jobs", namespace="crowd") or []
        services = {job["metadata"]["labels"]["goservice.dev/service"] for job in jobs}
        return services == {f"service-{n}" for n in range(1, 200)}

    until("199 builds are started", built, 90)

    def serve() -> bool:
        found = plane.get("goservices", namespace="crowd") or []
        return {s["metadata"]["name"] for s in found if ready(s) == "True Serving"} == {
            f"service-{n}" for n in range(1, 200)
        }

    with playing_the_node(plane):
        until("199 services serve", serve, 120)

    told = plane.get("goservice", "service-0", "crowd")
    assert ready(told) == "False InvalidSpec"
    message = next(c["message"] for c in told["status"]["conditions"] if c["type"] == "Ready")
    for field in ("spec.source", "spec.image.repository", "spec.replicas", "spec.env"):
        assert f"{field}: must be " in message

    plane.kubectl(
        *("patch", "goservice", "service-7", "-n", "crowd", "--type=merge"),
        *("-p", json.dumps({"spec": {"suspend": True}})),
    )

    def suspended() -> bool:
        status = plane.get("goservice", "service-7", "crowd")["status"]
        return any(c["reason"] == "Suspended" for c in status["conditions"])

    until("a change of another one is acted on", suspended)


def requests(plane: ControlPlane) -> list[dict[str, Any]]:
    """What the operator asked for, as the audit log has it."""
    entries = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    return [e for e in entries if e["user"]["username"] == controlplane.OPERATOR_USER]


def test_an_operator_of_one_namespace_asks_for_nothing_elsewhere(bed: Bed) -> None:
    """And a service elsewhere, which names nothing that is not in order, is not touched."""
    plane = bed.plane
    plane.kubectl("create", "namespace", "bank")
    pinned = {"image": {"repository": "registry.example.com/a/b", "digest": f"sha256:{'a' * 64}"}}
    for namespace in ("bank", "shop"):
        body = crowd(0, pinned)
        body["metadata"] = {"name": "narrow", "namespace": namespace}
        if namespace == "bank":
            bed.operator.stop()
        plane.apply(body)
    settings = plane.folder / "narrow.yaml"
    settings.write_text(yaml.safe_dump(installation.settings({"namespaces": ["shop"]})))
    before = len(requests(plane))
    narrow = Operator(plane, settings)
    narrow.start()
    try:
        until("it acts in its namespace", lambda: plane.get("deployment", "narrow"))
    finally:
        narrow.stop()
    asked = [e["objectRef"] for e in requests(plane)[before:] if "objectRef" in e]
    ours = [ref for ref in asked if ref["resource"] in {k.plural for k in KINDS.values()}]
    assert {ref.get("namespace") for ref in ours} == {"shop"}
    assert {ref["resource"] for ref in asked} - {ref["resource"] for ref in ours} <= {
        "selfsubjectaccessreviews", "customresourcedefinitions", "namespaces"
    }  # fmt: skip
    assert plane.get("deployment", "narrow", "bank") is None
    assert "status" not in plane.get("goservice", "narrow", "bank")
    for namespace in ("bank", "shop"):
        plane.kubectl("delete", "goservice", "narrow", "-n", namespace)
    bed.operator.start()


def test_who_has_the_role_edit_may_write_services_but_neither_statuses_nor_elsewhere(
    bed: Bed,
) -> None:
    """docs/security.md counts on this: who may forge Jobs and pods, and who may not forge statuses."""
    plane = bed.plane
    bind = ("--clusterrole=edit", "--user=author", "-n", "shop")
    plane.kubectl("create", "rolebinding", "author", *bind)
    table = [
        ("create", "goservice.dev", "goservices", "", "shop", True),
        ("patch", "goservice.dev", "goservices", "", "shop", True),
        ("create", "batch", "jobs", "", "shop", True),
        ("create", "", "pods", "", "shop", True),
        ("patch", "apps", "deployments", "", "shop", True),
        ("patch", "", "configmaps", "", "shop", True),
        ("get", "", "secrets", "", "shop", True),
        ("impersonate", "", "serviceaccounts", "", "shop", True),
        ("patch", "goservice.dev", "goservices", "status", "shop", False),
        ("update", "goservice.dev", "goservices", "finalizers", "shop", False),
        ("patch", "batch", "jobs", "status", "shop", False),
        ("patch", "", "pods", "status", "shop", False),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "", "shop", False),
        ("create", "goservice.dev", "goservices", "", "bank", False),
        ("get", "", "secrets", "", "bank", False),
        ("impersonate", "", "serviceaccounts", "", "goservice-system", False),
    ]

    def answers() -> list[bool]:
        reviews = [
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": "author",
                    "resourceAttributes": {
                        "verb": verb, "group": group, "resource": resource,
                        "subresource": part, "namespace": namespace,
                    },
                },
            }
            for verb, group, resource, part, namespace, _ in table
        ]  # fmt: skip
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
        word = "jsonpath={.status.allowed} "
        return [
            said == "true"
            for said in plane.kubectl("create", "-f", "-", "-o", word, given=listed).split()
        ]

    until("the role edit has what is added to it", lambda: answers()[0])
    assert dict(zip(table, answers(), strict=True)) == {row: row[-1] for row in table}


def test_a_kubeconfig_that_acts_as_another_user_has_that_user_s_rights(
    bed: Bed, tmp_path: Path
) -> None:
    """The API server's own reading of the headers: its refusals name the user that it saw."""
    plane = bed.plane
    config = yaml.safe_load(plane.kubeconfig.read_text())

    def status_as(**user: Any) -> subprocess.CompletedProcess[str]:
        acting = json.loads(json.dumps(config))
        for entry in acting["users"]:
            entry["user"].update(user)
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(acting))
        return subprocess.run(
            [GOSERVICE, "status", "-n", "nowhere", "--kubeconfig", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert status_as().returncode == 0
    refused = status_as(**{"as": "ann@example.com"})
    assert refused.returncode == 1
    assert 'User "ann@example.com" cannot list resource "goservices"' in refused.stderr
    plane.kubectl("create", "namespace", "nowhere")
    bind = ("--clusterrole=view", "--group=lookers", "-n", "nowhere")
    plane.kubectl("create", "rolebinding", "lookers", *bind)
    extra = {"example.com/team": ["a", "b"]}
    wanted = {"as": "ann@example.com", "as-uid": "u-1", "as-user-extra": extra}
    until(
        "the second of two groups counts",
        lambda: status_as(**wanted, **{"as-groups": ["dev", "lookers"]}).returncode == 0,
    )
    assert status_as(**wanted, **{"as-groups": ["dev"]}).returncode == 1
