"""Other writers of a service's objects: people with kubectl, webhooks, controllers, what was left behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from goservice import errors, names
from goservice.api.conditions import Type
from goservice.manifest import covers, find_condition, item_key
from tests.support import factories as f
from tests.support.lab import KEY, Lab

Change = Callable[[dict[str, Any]], object]


def app(live: dict[str, Any]) -> dict[str, Any]:
    """The app container of a Deployment."""
    found: dict[str, Any] = live["spec"]["template"]["spec"]["containers"][0]
    return found


def pod_spec(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]
    return found


async def serving(**changes: Any) -> Lab:
    lab = Lab()
    lab.submit(**changes)
    await lab.serve()
    assert lab.ready() == ("True", "Serving")
    return lab


def warnings(lab: Lab) -> list[dict[str, str]]:
    found: list[dict[str, str]] = lab.status().get("warnings", [])
    return found


def theirs(after: Any, before: Any, field: str = "") -> Any:
    """What an object has more than before, with the keys of the items that it stands in."""
    if isinstance(after, dict):
        old = before if isinstance(before, dict) else {}
        return {
            key: theirs(value, old.get(key), key)
            for key, value in after.items()
            if value != old.get(key) and key not in ("resourceVersion", "generation", "status")
        }
    if isinstance(after, list) and all(item_key(field, item) for item in after):
        old_items = {item_key(field, item): item for item in before or ()}
        keyed = ((item, item_key(field, item) or ()) for item in after)
        return [
            {k: item[k] for k, _ in key if k in item} | theirs(item, old_items.get(key))
            for item, key in keyed
            if item != old_items.get(key)
        ]
    return after


ADDITIONS: dict[str, tuple[str, Change]] = {
    "kubectl set env": (
        "Deployment",
        lambda live: app(live)["env"].insert(0, {"name": "DEBUG", "value": "1"}),
    ),
    "a sidecar": (
        "Deployment",
        lambda live: pod_spec(live)["containers"].append({"name": "proxy", "image": "p"}),
    ),
    "a native sidecar": (
        "Deployment",
        lambda live: pod_spec(live).update(
            initContainers=[{"name": "proxy", "image": "p", "restartPolicy": "Always"}]
        ),
    ),
    "a volume and its mount": (
        "Deployment",
        lambda live: (
            pod_spec(live)["volumes"].append({"name": "certs", "emptyDir": {}}),
            app(live)["volumeMounts"].append({"name": "certs", "mountPath": "/certs"}),
        ),
    ),
    "a second owner": (
        "Deployment",
        lambda live: live["metadata"]["ownerReferences"].append(
            {"apiVersion": "apps.example.com/v1", "kind": "App", "name": "a", "uid": "1-1"}
        ),
    ),
    "a rollout restart": (
        "Deployment",
        lambda live: live["spec"]["template"]["metadata"]["annotations"].update(
            {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
        ),
    ),
    "a node selector": (
        "Deployment",
        lambda live: pod_spec(live).update(nodeSelector={"disk": "ssd"}),
    ),
    "tolerations": (
        "Deployment",
        lambda live: pod_spec(live).update(tolerations=[{"key": "a", "operator": "Exists"}]),
    ),
    "a spread of one's own": (
        "Deployment",
        lambda live: pod_spec(live)["topologySpreadConstraints"].insert(
            0, {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
        ),
    ),
    "a port of the metrics sidecar": (
        "Deployment",
        lambda live: app(live)["ports"].append({"name": "metrics", "containerPort": 9999}),
    ),
    "a pull Secret": (
        "Deployment",
        lambda live: pod_spec(live).update(imagePullSecrets=[{"name": "mirror"}]),
    ),
    "what a cloud adds to a Service": (
        "Service",
        lambda live: (
            live["spec"].update(clusterIP="10.0.0.7", ipFamilies=["IPv4"]),
            live["spec"]["ports"][0].update(nodePort=30080),
            live["metadata"].update(finalizers=["service.kubernetes.io/load-balancer-cleanup"]),
        ),
    ),
    "another port of the Service": (
        "Service",
        lambda live: live["spec"]["ports"].insert(0, {"name": "admin", "port": 9000}),
    ),
    "a Secret of the ServiceAccount": (
        "ServiceAccount",
        lambda live: live.update(
            secrets=[{"name": "checkout-dockercfg"}], imagePullSecrets=[{"name": "dockercfg"}]
        ),
    ),
}


@pytest.mark.parametrize("name", ADDITIONS)
async def test_what_others_add_is_left_alone_and_does_not_count(name: str) -> None:
    kind, change = ADDITIONS[name]
    lab = await serving()
    before_it = lab.world.find(kind, *KEY)
    lab.world.edit(kind, *KEY, change)
    lab.roll_out()
    before = len(lab.world.writes)
    await lab.settle()
    assert lab.world.writes[before:] == [], "nothing to do, nothing to say"
    lab.start()
    await lab.settle()
    assert lab.world.writes[before:] == [], "nor after a restart of the operator"
    added = lab.world.find(kind, *KEY)

    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    await lab.settle()
    lab.finish_build(f.OTHER_DIGEST)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    assert lab.status()["servingImage"].endswith(f.OTHER_DIGEST), "a new commit goes on"
    assert added is not None
    assert covers(lab.world.find(kind, *KEY), theirs(added, before_it)), "and theirs is kept"


async def test_a_foreign_variable_comes_and_goes() -> None:
    lab = await serving()
    lab.world.edit("Deployment", *KEY, ADDITIONS["kubectl set env"][1])
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    lab.world.edit("Deployment", *KEY, lambda live: app(live)["env"].pop(0))
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    assert warnings(lab) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda live: app(live).update(image="evil.example.com/a@sha256:" + "e" * 64),
        lambda live: app(live)["env"][0].update(value="elsewhere"),
        lambda live: app(live)["securityContext"].update(readOnlyRootFilesystem=False),
        lambda live: live["spec"].update(replicas=7),
    ],
)
async def test_what_is_ours_is_put_right(change: Change) -> None:
    lab = await serving()
    before = lab.world.find("Deployment", *KEY)
    lab.world.edit("Deployment", *KEY, change)
    await lab.settle()
    after = lab.world.find("Deployment", *KEY)
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]


def mirrored(manifest: dict[str, Any]) -> None:
    """A policy that makes all pods pull from a mirror, and asks for more memory."""
    if manifest["kind"] != "Deployment":
        return
    container = app(manifest)
    if not container["image"].startswith("mirror.example.com/"):
        container["image"] = f"mirror.example.com/{container['image']}"
    container.setdefault("resources", {}).setdefault("requests", {})["memory"] = "512Mi"


async def test_what_a_webhook_makes_of_an_apply_is_what_was_wanted() -> None:
    lab = Lab()
    lab.world.admission = mirrored
    lab.submit()
    await lab.serve()
    assert lab.ready() == ("True", "Serving")
    [image, *_] = [w for w in warnings(lab) if w["field"].endswith("[app].image")]
    assert "mirror.example.com/" in image["message"]
    assert "webhook" in image["message"]
    before = len(lab.world.writes)
    for _ in range(3):
        lab.now += timedelta(minutes=10)
        await lab.settle()
    assert lab.world.writes[before:] == [], "said once, and no loop"
    shown = lab.status()
    lab.start()
    await lab.settle()
    assert [w for w in lab.world.writes[before:] if w[0] != "apply"] == []
    assert len(lab.world.writes) - before <= 1, "one idle apply after a restart"
    assert lab.status() == shown

    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    assert app(live)["image"].count("mirror.example.com/") == 1, "while it builds, too"
    lab.finish_build(f.OTHER_DIGEST)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    assert lab.status()["servingImage"] == lab.status()["latestImage"]


async def test_two_writers_of_one_field_meet_ever_less_often() -> None:
    lab = await serving()
    applies = []
    for second in range(0, 1200, 2):
        lab.now += timedelta(seconds=2)
        lab.world.edit(
            "Deployment", *KEY, lambda live: app(live)["env"][0].update(value="x"), "tuner"
        )
        before = len(lab.world.writes)
        await lab.operator.reconcile(KEY)
        if ("apply", "Deployment", "checkout") in lab.world.writes[before:]:
            applies.append(second)
    assert len(applies) < 12, applies
    assert applies[-1] - applies[-2] > 100
    [warning] = warnings(lab)
    assert warning["field"] == "Deployment: spec.template.spec.containers[app].env[TZ].value"
    assert warning["message"].startswith("tuner changes this field")
    writes = lab.world.writes
    statuses = writes.count(("apply_status", "GoService", "checkout"))
    assert statuses < 12 + 3 * len(applies), "a contested field costs no status a second"
    lab.now += timedelta(minutes=10)
    await lab.settle()
    lab.roll_out()
    lab.now += timedelta(minutes=20)
    await lab.settle()
    assert warnings(lab) == [], "once nobody contests it any more"
    assert lab.ready() == ("True", "Serving")


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ServiceAccount"])
async def test_what_cascade_orphan_left_is_taken_up_again(kind: str) -> None:
    lab = await serving()
    pods = lab.world.find("Deployment", *KEY)
    lab.world.remove("GoService", *KEY, orphan=True)
    await lab.operator.reconcile(KEY)
    lab.now += timedelta(minutes=1)
    lab.submit()
    jobs = len(lab.world.all("Job"))
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    uid = lab.world.all("GoService")[0]["metadata"]["uid"]
    live = lab.world.find(kind, *KEY)
    assert live is not None
    assert [r["uid"] for r in live["metadata"]["ownerReferences"]] == [uid]
    assert len(lab.world.all("Job")) == jobs, "what the Deployment remembers is not built again"
    now = lab.world.find("Deployment", *KEY)
    assert pods is not None
    assert now is not None
    assert now["spec"] == pods["spec"], "and no pod is restarted"


async def test_a_larger_claim_is_not_asked_to_shrink() -> None:
    lab = await serving(build={"cache": {"size": "10Gi"}})
    claim = ("PersistentVolumeClaim", "shop", "checkout-build-cache")
    grow: Change = lambda live: live["spec"]["resources"]["requests"].update(storage="20Gi")  # noqa: E731
    lab.world.edit(*claim, grow)
    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    before = len(lab.world.writes)
    await lab.settle()
    assert ("apply", claim[0], claim[2]) not in lab.world.writes[before:]


async def test_a_template_of_an_older_version_keeps_no_foreign_image() -> None:
    lab = await serving()

    def older(live: dict[str, Any]) -> None:
        live["metadata"]["annotations"][names.RENDERED] = "0" * 10
        app(live)["imagePullPolicy"] = "Always"

    lab.world.edit("Deployment", *KEY, older)
    lab.roll_out()
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    assert app(live)["imagePullPolicy"] == "Always", "an upgrade restarts nothing"
    lab.world.edit("Deployment", *KEY, lambda live: app(live).update(image="a@sha256:" + "e" * 64))
    lab.roll_out()
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    assert app(live)["image"].endswith(f.DIGEST)


async def test_quota_words_reach_the_status() -> None:
    lab = Lab()
    words = "exceeded quota: jobs, requested: count/jobs.batch=1, used: 5, limited: 5"
    lab.world.quota = lambda manifest: words if manifest["kind"] == "Job" else ""
    lab.submit()
    with pytest.raises(errors.Forbidden):
        await lab.settle()
    await lab.operator.reconcile(KEY)
    assert lab.ready() == ("False", "ClusterRefused")
    assert words in find_condition(lab.status(), Type.READY)["message"]
