"""The API server in memory keeps the rules that it promises."""

from typing import Any

import pytest

from goservice import errors
from goservice.cluster import protocol
from testbed.inmemory.world import HANDOVER_MANAGER, MANAGER, Request, World

DEPLOYMENT = ("Deployment", "shop", "checkout")


def deployment(replicas: int | None = None, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"selector": {"matchLabels": {"a": "b"}}, "template": {"x": "1"}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "checkout", **more},
        "spec": spec,
    }


def only_replicas(replicas: int) -> dict[str, Any]:
    return {**deployment(), "spec": {"replicas": replicas}}


def job(name: str = "j", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"namespace": "shop", "name": name, **metadata},
        "spec": {"template": {}},
    }


def is_a_cluster(world: World) -> protocol.Cluster:
    return world


async def test_an_idle_apply_changes_nothing() -> None:
    world = World()
    first = await world.apply(deployment(3))
    assert first["metadata"]["generation"] == 1
    assert await world.apply(deployment(3)) == first
    second = await world.apply(deployment(4))
    assert second["metadata"]["generation"] == 2
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert world.writes == [("apply", "Deployment", "checkout")] * 3


async def test_dropping_replicas_as_the_only_owner_resets_them() -> None:
    world = World()
    await world.apply(deployment(5))
    assert (await world.apply(deployment()))["spec"]["replicas"] == 1


async def test_replicas_are_handed_over_by_a_second_manager() -> None:
    world = World()
    await world.apply(deployment(5))
    await world.apply(only_replicas(5), manager=HANDOVER_MANAGER)
    assert world.owners(*DEPLOYMENT, "spec", "replicas") == {MANAGER, HANDOVER_MANAGER}
    assert (await world.apply(deployment()))["spec"]["replicas"] == 5
    assert world.owners(*DEPLOYMENT, "spec", "replicas") == {HANDOVER_MANAGER}


async def test_another_managers_field_is_taken_over() -> None:
    world = World()
    await world.apply(deployment(5))
    world.edit(*DEPLOYMENT, lambda d: d["spec"].update(replicas=2), manager="kubectl")
    assert world.owners(*DEPLOYMENT, "spec", "replicas") == {"kubectl"}
    assert (await world.apply(deployment(5)))["spec"]["replicas"] == 5
    assert world.owners(*DEPLOYMENT, "spec", "replicas") == {MANAGER}


async def test_others_fields_stay_and_own_empty_parents_go() -> None:
    world = World()
    await world.apply(deployment(annotations={"mine": "1"}))
    world.edit(*DEPLOYMENT, lambda d: d["metadata"].setdefault("labels", {}).update(theirs="1"))
    live = await world.apply(deployment())
    assert "annotations" not in live["metadata"]
    assert live["metadata"]["labels"] == {"theirs": "1"}


async def test_status_and_spec_are_apart() -> None:
    world = World()
    made = await world.apply({**deployment(1), "status": {"replicas": 9}})
    assert "status" not in made
    body = {**deployment(7, uid=made["metadata"]["uid"]), "status": {"replicas": 1, "old": 1}}
    live = await world.apply_status(body)
    assert (live["spec"]["replicas"], live["status"]) == (1, {"replicas": 1, "old": 1})
    assert live["metadata"]["generation"] == 1
    body["status"] = {"replicas": 1}
    live = await world.apply_status(body)
    assert live["status"] == {"replicas": 1}
    assert await world.apply_status(body) == live
    world.set_status(*DEPLOYMENT, {"replicas": 3})
    assert world.all("Deployment")[0]["status"] == {"replicas": 3}


async def test_a_recreated_object_is_refused() -> None:
    world = World()
    with pytest.raises(errors.NotFound):
        await world.apply_status({**deployment(), "status": {}})
    with pytest.raises(errors.Conflict):
        await world.apply(deployment(uid="old"))
    made = await world.apply(deployment())
    with pytest.raises(errors.Invalid, match="uid"):
        await world.apply(deployment(uid="old"))
    with pytest.raises(errors.Conflict, match="made anew"):
        await world.apply_status({**deployment(uid="old"), "status": {}})
    old = {"uid": made["metadata"]["uid"], "resourceVersion": "1"}
    for call in (world.apply, world.apply_status):
        with pytest.raises(errors.Conflict, match="modified"):
            await call({**deployment(**old), "status": {"x": "1"}})
    with pytest.raises(errors.Conflict, match="uid is"):
        await world.delete(*DEPLOYMENT, uid="old")


async def test_names_exist_once() -> None:
    world = World()
    await world.create(job())
    with pytest.raises(errors.AlreadyExists):
        await world.create(job())
    with pytest.raises(errors.NotFound):
        await world.get("Job", "shop", "other")
    with pytest.raises(errors.NotFound):
        await world.get("Secret", "shop", "s")


@pytest.mark.parametrize(
    "manifest",
    [
        job("Upper"),
        job("x" * 254),
        job(labels={"a": "x" * 64}),
        job(labels={"a": "-x"}),
        only_replicas(1),
        {"kind": "Service", "metadata": {"namespace": "shop", "name": "a.b"}},
    ],
)
async def test_what_no_server_accepts_is_refused(manifest: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid):
        await World().create(manifest)


async def test_some_fields_never_change() -> None:
    world = World()
    await world.apply(deployment())
    changed = deployment()
    changed["spec"]["selector"] = {"matchLabels": {"a": "c"}}
    with pytest.raises(errors.Invalid, match="immutable"):
        await world.apply(changed)


async def test_what_is_owned_goes_with_its_owner() -> None:
    world = World()
    told: list[tuple[str, str]] = []
    world.on_change(lambda change, m: told.append((change, m["kind"])))
    owner = await world.apply(deployment())
    reference = [{"uid": owner["metadata"]["uid"], "controller": True}]
    child = await world.create(job(ownerReferences=reference))
    above = [{"uid": child["metadata"]["uid"]}]
    metadata = {"namespace": "shop", "name": "p", "ownerReferences": above}
    world.add({"kind": "Pod", "metadata": metadata})
    await world.delete(*DEPLOYMENT, uid=None)
    assert not world.all("Job")
    assert not world.all("Pod")
    assert [kind for change, kind in told if change == "DELETED"] == ["Deployment", "Job", "Pod"]


async def test_orphans_stay() -> None:
    world = World()
    owner = await world.apply(deployment())
    await world.create(job(ownerReferences=[{"uid": owner["metadata"]["uid"]}]))
    await world.delete_orphaning(*DEPLOYMENT)
    assert "ownerReferences" not in world.all("Job")[0]["metadata"]


async def test_a_finalizer_holds_an_object_back() -> None:
    world = World()
    await world.create(job(finalizers=["x"]))
    await world.delete("Job", "shop", "j", uid=None)
    live = world.find("Job", "shop", "j")
    assert live is not None
    assert live["metadata"]["deletionTimestamp"]
    world.edit("Job", "shop", "j", lambda j: j["metadata"].update(finalizers=[]))
    assert world.find("Job", "shop", "j") is None


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("", ["a", "b", "c"]),
        ("app=x", ["a", "b"]),
        ("app==x,tier!=back", ["a"]),
        ("tier", ["b"]),
        ("!tier", ["a", "c"]),
        ("app in (x, y), tier notin (back)", ["a", "c"]),
    ],
)
async def test_label_selectors(selector: str, names: list[str]) -> None:
    world = World()
    await world.create(job("a", labels={"app": "x"}))
    await world.create(job("b", labels={"app": "x", "tier": "back"}))
    world.add(job("c", labels={"app": "y"}))
    world.add({**job("d"), "metadata": {"namespace": "other", "name": "d"}})
    found = await world.list("Job", "shop", label_selector=selector)
    assert [j["metadata"]["name"] for j in found] == names


async def test_field_selectors_and_all_namespaces() -> None:
    world = World()
    world.add({**job("d"), "metadata": {"namespace": "other", "name": "d"}})
    world.add(job("a"))
    assert len(await world.list("Job", None)) == 2
    found = await world.list("Job", None, field_selector="metadata.name=d,metadata.namespace=other")
    assert [j["metadata"]["name"] for j in found] == ["d"]


async def test_a_merge_patch_changes_what_it_names() -> None:
    world = World()
    await world.apply(deployment(annotations={"a": "1", "b": "2"}))
    body = {"metadata": {"annotations": {"a": None, "c": "3"}, "labels": {"x": "y"}}, "status": {}}
    live = await world.patch_merge(*DEPLOYMENT, body)
    assert live["metadata"]["annotations"] == {"b": "2", "c": "3"}
    assert live["metadata"]["labels"] == {"x": "y"}
    assert "status" not in live


async def test_faults_come_before_or_after_the_effect() -> None:
    world = World()

    def fail(request: Request) -> None:
        raise errors.Unavailable(f"{request.verb} lost")

    world.before = fail
    with pytest.raises(errors.Unavailable, match="create lost"):
        await world.create(job())
    assert not world.all("Job")
    world.before, world.after = None, fail
    with pytest.raises(errors.Unavailable):
        await world.create(job())
    with pytest.raises(errors.Unavailable):
        await world.list("Job", None)
    assert world.all("Job")
    with pytest.raises(errors.Unavailable):
        await world.delete("Job", "shop", "j", uid=None)
    assert not world.all("Job")
    assert world.requests["create", "Job"] == 2


async def test_only_what_is_granted_is_done() -> None:
    world = World(
        access={
            "jobs.batch": frozenset({"create", "list"}),
            "deployments.apps": frozenset({"patch"}),
        }
    )
    await world.create(job())
    assert await world.list("Job", "shop")
    with pytest.raises(errors.Forbidden, match=r"cannot delete jobs\.batch"):
        await world.delete("Job", "shop", "j", uid=None)
    with pytest.raises(errors.Forbidden, match=r"cannot create deployments\.apps"):
        await world.apply(deployment())
    assert await world.can_i("list", "Job")
    assert not await world.can_i("patch", "GoService", "status")


async def test_logs() -> None:
    world = World()
    world.add({"kind": "Pod", "metadata": {"namespace": "shop", "name": "p"}})
    world.log["shop", "p", "build"] = ["one", "two", "three"]
    lines = is_a_cluster(world).logs("shop", "p", "build", tail_lines=2)
    assert [line async for line in lines] == ["two", "three"]
