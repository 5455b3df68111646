"""Desired objects: what the golden files do not show at a glance."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_validate import validate

from goservice import names
from goservice.build.inputs import inputs_hash
from goservice.manifest import covers
from goservice.objects import (
    children,
    pod_template,
)
from goservice.objects.children import BuildOrder, Wants
from tests.support import factories as f

RUNNING = pod_template.Deployed(
    f"registry.example.com/shop/checkout@{f.DIGEST}", 10001, "UTC", "1.26"
)


def container(running: pod_template.Deployed = RUNNING, **changes: Any) -> dict[str, Any]:
    template = pod_template.pod_template(f.service(**changes), f.SETTINGS, running)
    result: dict[str, Any] = template["spec"]["containers"][0]
    return result


def env(running: pod_template.Deployed = RUNNING, **changes: Any) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container(running, **changes)["env"]}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"memory": "128Mi"}, str(int(128 * 2**20 * 0.9))),
        ({"memory": "1G"}, "900000000"),
        ({"memory": "63Mi"}, None),
        ({"memory": "1e9"}, "900000000"),
    ],
)
def test_memory_limit_in_bytes(limits: dict[str, str], expected: str | None) -> None:
    assert env(resources={"limits": limits}).get("GOMEMLIMIT") == expected


def test_the_users_environment_wins() -> None:
    mine = [{"name": "TZ", "value": "Asia/Tokyo"}, {"name": "GOMEMLIMIT", "value": "1"}]
    seen = env(env=mine)
    assert seen["TZ"] == "Asia/Tokyo"
    assert seen["GOMEMLIMIT"] == "1"
    assert seen["PORT"] == "8080"
    assert "GOMAXPROCS" not in seen
    assert "GODEBUG" not in seen


def test_old_go_lines_follow_the_cpu_limit() -> None:
    old = pod_template.Deployed(RUNNING.image, 1, "UTC", "1.24.3")
    assert env(old)["GODEBUG"] == "containermaxprocs=1,updatemaxprocs=1"
    mine = [{"name": "GODEBUG", "value": "http2client=0"}]
    assert env(old, env=mine)["GODEBUG"] == "containermaxprocs=1,updatemaxprocs=1,http2client=0"


def test_probes() -> None:
    probe = {"tcpSocket": {"port": "http"}, "periodSeconds": 2}
    assert container()["readinessProbe"] == probe
    assert "readinessProbe" not in container(probes={"readiness": {}})
    assert "readinessProbe" not in container(ports=[])
    get = container(probes={"liveness": {"httpGet": {"path": "/healthz"}}})
    assert get["livenessProbe"] == {"httpGet": {"path": "/healthz", "port": "http"}}
    grpc = container(probes={"startup": {"grpc": {}}})
    assert grpc["startupProbe"] == {"grpc": {"port": 8080}}


def test_defaults_of_the_platform_fill_what_is_not_named() -> None:
    found = container(resources={"requests": {"cpu": "2"}})["resources"]
    assert found == {"requests": {"cpu": "2", "memory": "128Mi"}, "limits": {"memory": "128Mi"}}


def test_openshift_assigns_the_user() -> None:
    services = f.SETTINGS.services.model_copy(update={"run_as_user": False})
    settings = f.SETTINGS.model_copy(update={"services": services})
    template = pod_template.pod_template(f.service(), settings, RUNNING)
    assert "runAsUser" not in template["spec"]["securityContext"]


def everything() -> list[dict[str, Any]]:
    owner = f.service(
        image={
            "repository": "registry.example.com/a",
            "pushSecretRef": {"name": "p"},
            "pullSecretRefs": [{"name": "q"}],
        },
        autoscaling={
            "minReplicas": 2,
            "maxReplicas": 5,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        },
        env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        envFrom=[{"configMapRef": {"name": "c"}}],
        args=["--a"],
        annotations={},
    )
    inputs = inputs_hash(owner, f.SETTINGS, f.COMMIT)
    order = BuildOrder(f.COMMIT, inputs, 1)
    return children.rendered(Wants(owner, f.SETTINGS, order, RUNNING))


@pytest.mark.parametrize("version", ["1.33", "1.37"])
@pytest.mark.parametrize("manifest", everything(), ids=lambda m: m["kind"])
def test_objects_are_valid(manifest: dict[str, Any], version: str) -> None:
    validate(manifest, version, strict=True)


def test_every_object_is_owned_and_labelled() -> None:
    for manifest in everything():
        metadata = manifest["metadata"]
        assert metadata["ownerReferences"][0]["uid"] == f.UID
        assert metadata["labels"][names.SERVICE] == "checkout"
        assert "app.kubernetes.io/instance" not in metadata["labels"]


def test_requests_without_a_limit_are_rendered_without_limits() -> None:
    named = {"requests": {"cpu": "1m", "memory": "16Mi"}}
    assert container(resources=named)["resources"] == named


def test_covers() -> None:
    assert covers({"a": 1, "b": 2}, {"a": 1})
    assert covers({"cpu": "1"}, {"cpu": "1000m"})
    assert covers("9223372036854775807", "55531401Ti"), "the API server keeps an int64"
    assert covers("1n", "0.1n")
    assert covers("74633299438m", "74633299.4376"), "in a pod, it keeps thousandths"
    assert not covers("2", "1001m")
    assert covers("109484250e-3", "109484.25e0")
    assert covers("2074434300e54", "2074.4343E60")
    assert not covers("1e-3", "1e3")
    assert not covers("9223372036854775806", "55531401Ti")
    assert not covers({"a": [1, 2]}, {"a": [1]})
    assert not covers({"a": [1]}, {"a": [2]})
    assert not covers({}, {"a": 1})
    empty = {"limits": {}, "args": [], "value": "", "initialDelaySeconds": 0}
    assert covers({}, empty), "the API server leaves out what is empty"
    assert not covers({}, {"allowPrivilegeEscalation": False})
    assert not covers({"a": "b"}, {"a": ""})
    assert not covers({"a": {"b": 1}}, {"a": []})
    assert not covers("x", {"a": 1})
