"""What the operator relies on, asked of any `goservice.cluster.Cluster`.

The same scenarios run against the in-memory world and against a real API server: where they differ,
the world is wrong. Each has a namespace of its own and cleans up nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from goservice import errors
from goservice.cluster import HANDOVER_MANAGER, Cluster

Manifest = dict[str, Any]
Scenario = Callable[[Cluster, str], Awaitable[None]]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Add a scenario to the list."""
    SCENARIOS.append(function)
    return function


def deployment(namespace: str, replicas: int | None = None, **metadata: Any) -> Manifest:
    """The smallest Deployment that a server accepts."""
    labels = {"goservice.dev/service": "checkout"}
    container = {"name": "app", "image": "registry.example.com/a@sha256:" + "a" * 64}
    wanted: Manifest = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        wanted["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": namespace, **metadata},
        "spec": wanted,
    }


def only_replicas(namespace: str, replicas: int) -> Manifest:
    """The Deployment as the handover manager applies it."""
    return {**deployment(namespace), "spec": {"replicas": replicas}}


def config(namespace: str, name: str = "checkout", **metadata: Any) -> Manifest:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": {"Dockerfile": "FROM scratch\n"},
    }


def service(namespace: str) -> Manifest:
    """A GoService."""
    return {
        "apiVersion": "goservice.dev/v1alpha1",
        "kind": "GoService",
        "metadata": {"name": "checkout", "namespace": namespace},
        "spec": {
            "source": {"git": {"url": "https://git.example.com/shop/checkout.git"}},
            "image": {"repository": "registry.example.com/shop/checkout"},
        },
    }


def status(made: Manifest, **fields: Any) -> Manifest:
    """An apply of a GoService's status, bound to its uid."""
    metadata = {field: made["metadata"][field] for field in ("name", "namespace", "uid")}
    return {
        "apiVersion": made["apiVersion"],
        "kind": made["kind"],
        "metadata": metadata,
        "status": fields,
    }


def version(manifest: Manifest) -> int:
    """The resourceVersion, which is a number that grows."""
    return int(manifest["metadata"]["resourceVersion"])


@scenario
async def an_idle_apply_writes_nothing(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(deployment(namespace, 3))
    second = await cluster.apply(deployment(namespace, 3))
    assert version(first) == version(second)
    third = await cluster.apply(deployment(namespace, 4))
    assert version(third) > version(second)
    generations = [m["metadata"]["generation"] for m in (first, second, third)]
    assert generations == [1, 1, 2]
    assert "managedFields" not in third["metadata"]


@scenario
async def a_sole_owner_that_drops_replicas_resets_them(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, 5))
    assert (await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 1


@scenario
async def replicas_are_handed_over(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, 5))
    await cluster.apply(only_replicas(namespace, 5), manager=HANDOVER_MANAGER)
    assert (await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 5
    with pytest.raises(errors.Conflict, match=HANDOVER_MANAGER):
        await cluster.apply(deployment(namespace, 2), force=False)
    assert (await cluster.apply(deployment(namespace, 2)))["spec"]["replicas"] == 2


@scenario
async def own_annotations_go_and_others_stay(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, annotations={"goservice.dev/a": "1"}))
    body = {"metadata": {"annotations": {"example.com/theirs": "1"}}}
    await cluster.patch_merge("Deployment", namespace, "checkout", body)
    live = await cluster.apply(deployment(namespace))
    assert live["metadata"]["annotations"] == {"example.com/theirs": "1"}


@scenario
async def a_name_is_taken_once(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(config(namespace))
    with pytest.raises(errors.AlreadyExists):
        await cluster.create(config(namespace))
    assert (await cluster.get("ConfigMap", namespace, "checkout"))["data"] == made["data"]
    with pytest.raises(errors.NotFound):
        await cluster.get("ConfigMap", namespace, "other")


@scenario
async def deletion_is_of_one_uid(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(config(namespace))
    with pytest.raises(errors.Conflict):
        await cluster.delete("ConfigMap", namespace, "checkout", uid="0-0-0-0")
    await cluster.delete("ConfigMap", namespace, "checkout", uid=made["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        await cluster.delete("ConfigMap", namespace, "checkout", uid=None)


@scenario
async def what_is_wrong_is_invalid(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(errors.Invalid):
        await cluster.create(config(namespace, "Upper"))
    with pytest.raises(errors.Invalid):
        await cluster.create(config(namespace, labels={"a": "x" * 64}))
    with pytest.raises(errors.Invalid):
        await cluster.apply(only_replicas(namespace, 1))
    await cluster.apply(deployment(namespace))
    changed = deployment(namespace)
    changed["spec"]["selector"] = {"matchLabels": {"a": "b"}}
    with pytest.raises(errors.Invalid, match="immutable"):
        await cluster.apply(changed)


@scenario
async def lists_are_selected_by_label_and_field(cluster: Cluster, namespace: str) -> None:
    await cluster.create(config(namespace, "a", labels={"app": "x"}))
    await cluster.create(config(namespace, "b", labels={"app": "x", "tier": "back"}))
    await cluster.create(config(namespace, "c", labels={"app": "y"}))
    for selector, expected in {
        "app=x": "ab",
        "app=x,tier!=back": "a",
        "tier": "b",
        "!tier,app": "ac",
        "app in (y, z)": "c",
    }.items():
        found = await cluster.list("ConfigMap", namespace, label_selector=selector)
        assert [m["metadata"]["name"] for m in found] == list(expected), selector
        assert all(m["kind"] == "ConfigMap" and m["apiVersion"] == "v1" for m in found)
    found = await cluster.list("ConfigMap", namespace, field_selector="metadata.name=b")
    assert [m["metadata"]["name"] for m in found] == ["b"]


@scenario
async def long_lists_come_whole(cluster: Cluster, namespace: str) -> None:
    names = [f"c{n:04}" for n in range(520)]
    for start in range(0, len(names), 52):
        batch = names[start : start + 52]
        await asyncio.gather(
            *(cluster.create(config(namespace, name, labels={"many": "1"})) for name in batch)
        )
    found = await cluster.list("ConfigMap", namespace, label_selector="many=1")
    assert [m["metadata"]["name"] for m in found] == names


@scenario
async def status_and_spec_are_apart(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create({**service(namespace), "status": {"goVersion": "1.0"}})
    assert not made.get("status")
    live = await cluster.apply_status(status(made, goVersion="1.26", observedGeneration=1))
    assert live["status"] == {"goVersion": "1.26", "observedGeneration": 1}
    assert live["metadata"]["generation"] == made["metadata"]["generation"] == 1
    again = await cluster.apply_status(status(made, goVersion="1.26", observedGeneration=1))
    assert version(again) == version(live)
    live = await cluster.apply_status(status(made, observedGeneration=1))
    assert live["status"] == {"observedGeneration": 1}


@scenario
async def a_recreated_namesake_gets_no_status(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(service(namespace))
    await cluster.delete("GoService", namespace, "checkout", uid=made["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        await cluster.apply_status(status(made, goVersion="1.26"))
    anew = await cluster.create(service(namespace))
    old = status(made, goVersion="1.26")
    old["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with pytest.raises(errors.Conflict):
        await cluster.apply_status(old)
    live = await cluster.get("GoService", namespace, "checkout")
    assert version(live) == version(anew)
    # Without a version the server does not look at the uid: the client notices by the answer.
    with pytest.raises(errors.Conflict):
        await cluster.apply_status(status(made, goVersion="1.26"))


@scenario
async def an_apply_is_bound_by_uid_and_version(cluster: Cluster, namespace: str) -> None:
    other = "00000000-0000-0000-0000-000000000001"
    with pytest.raises(errors.Conflict):
        await cluster.apply(deployment(namespace, uid=other))
    made = await cluster.apply(deployment(namespace))
    with pytest.raises(errors.Invalid):
        await cluster.apply(deployment(namespace, uid=other))
    with pytest.raises(errors.Conflict):
        await cluster.apply(deployment(namespace, 2, resourceVersion="1"))
    held = made["metadata"]["resourceVersion"]
    assert (await cluster.apply(deployment(namespace, 2, resourceVersion=held)))["spec"]["replicas"]
