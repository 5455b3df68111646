"""What the operator relies on, asked of any `goservice.cluster.Cluster`.

The same scenarios run against the in-memory world and against a real API server: where they differ,
the world is wrong. Each has a namespace of its own and cleans up nothing. Every assertion is counted,
so that both runs can be seen to have made the same ones.
"""

import asyncio
from collections.abc import Awaitable, Callable

from goservice import errors
from goservice.cluster.kinds import KINDS
from goservice.cluster.protocol import HANDOVER_MANAGER, ONLY_NEW
from goservice.manifest import Manifest, covers
from tests.support.conforming import (
    NOT_SERVED,
    Check,
    Server,
    changes,
    config,
    deployment,
    gone,
    only_replicas,
    reference,
    service,
    status,
    version,
)

Scenario = Callable[[Server, str, Check], Awaitable[None]]
"""Asks a server in a namespace, and checks."""
SCENARIOS: list[Scenario] = []
"""Filled by `scenario`, in the order of this file."""
LEAST = 40
"""How many assertions there are at the least."""


def scenario(function: Scenario) -> Scenario:
    """Add a scenario to the list."""
    SCENARIOS.append(function)
    return function


@scenario
async def an_apply_that_may_only_create_touches_nothing_that_is_there(
    cluster: Server, namespace: str, check: Check
) -> None:
    wanted = {"only": "new"}
    made = await cluster.apply(config(namespace, resourceVersion=ONLY_NEW))
    check.that(made["metadata"]["resourceVersion"] != ONLY_NEW)
    with check.refused(errors.Conflict):
        await cluster.apply(config(namespace, labels=wanted, resourceVersion=ONLY_NEW))
    with check.refused(errors.Conflict):
        await cluster.apply(
            config(namespace, labels=wanted, resourceVersion=ONLY_NEW), manager=HANDOVER_MANAGER
        )
    check.that(await cluster.get("ConfigMap", namespace, "checkout") == made)


@scenario
async def what_such_an_apply_made_is_owned_as_by_any_other(
    cluster: Server, namespace: str, check: Check
) -> None:
    notes = {"note.example.com/a": "b"}
    await cluster.apply(deployment(namespace, annotations=notes, resourceVersion=ONLY_NEW))
    after = await cluster.apply(deployment(namespace))
    check.that("note.example.com/a" not in after["metadata"].get("annotations", {}))


@scenario
async def an_idle_apply_writes_nothing(cluster: Server, namespace: str, check: Check) -> None:
    first = await cluster.apply(config(namespace, labels={"a": "b"}))
    second = await cluster.apply(config(namespace, labels={"a": "b"}))
    check.that(version(first) == version(second))
    third = await cluster.apply(config(namespace, labels={"a": "c"}))
    check.that(version(third) > version(second))
    first = await cluster.apply(deployment(namespace, 3))
    second = await cluster.apply(deployment(namespace, 3))
    third = await cluster.apply(deployment(namespace, 4))
    generations = [m["metadata"]["generation"] for m in (first, second, third)]
    check.that(generations == [1, 1, 2])
    check.that("managedFields" not in third["metadata"])


@scenario
async def a_sole_owner_that_drops_replicas_resets_them(
    cluster: Server, namespace: str, check: Check
) -> None:
    await cluster.apply(deployment(namespace, 5))
    check.that((await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 1)


@scenario
async def replicas_are_handed_over(cluster: Server, namespace: str, check: Check) -> None:
    await cluster.apply(deployment(namespace, 5))
    await cluster.apply(only_replicas(namespace, 5), manager=HANDOVER_MANAGER)
    check.that((await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 5)
    check.that((await cluster.apply(deployment(namespace, 2)))["spec"]["replicas"] == 2)
    await cluster.apply(only_replicas(namespace, 3), manager=HANDOVER_MANAGER)
    check.that((await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 3, "forced too")


@scenario
async def own_annotations_go_and_others_stay(cluster: Server, namespace: str, check: Check) -> None:
    await cluster.apply(deployment(namespace, annotations={"goservice.dev/a": "1"}))
    body = {"metadata": {"annotations": {"example.com/theirs": "1"}}}
    await cluster.patch_merge("Deployment", namespace, "checkout", body)
    live = await cluster.apply(deployment(namespace))
    kept = {k for k in live["metadata"]["annotations"] if not k.startswith("deployment.kubernetes")}
    check.that(kept == {"example.com/theirs"})


def _env(*names: str, value: str = "1") -> list[Manifest]:
    return [{"name": name, "value": value} for name in names]


def _pod(live: Manifest) -> Manifest:
    found: Manifest = live["spec"]["template"]["spec"]
    return found


@scenario
async def items_of_lists_are_merged_by_their_keys(
    cluster: Server, namespace: str, check: Check
) -> None:
    ours = deployment(namespace)
    _pod(ours)["containers"][0]["env"] = _env("A", "B")
    _pod(ours)["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    _pod(ours)["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    await cluster.apply(ours)
    theirs = deployment(namespace)
    _pod(theirs)["containers"] = [
        {"name": "app", "env": _env("DEBUG"), "ports": [{"containerPort": 9999}]},
        {"name": "sidecar", "image": "registry.example.com/b:1"},
    ]
    _pod(theirs)["volumes"] = [{"name": "certs", "emptyDir": {}}]
    live = await cluster.apply(theirs, manager=HANDOVER_MANAGER)
    app = next(c for c in _pod(live)["containers"] if c["name"] == "app")
    check.that({one["name"] for one in app["env"]} == {"A", "B", "DEBUG"})
    check.that({one["containerPort"] for one in app["ports"]} == {8080, 9999})
    check.that({one["name"] for one in _pod(live)["containers"]} == {"app", "sidecar"})
    check.that({one["name"] for one in _pod(live)["volumes"]} == {"tmp", "certs"})
    check.that(covers(live, ours), "what others add does not count")

    fewer = deployment(namespace)
    _pod(fewer)["containers"][0]["env"] = _env("B", value="2")
    live = await cluster.apply(fewer)
    app = next(c for c in _pod(live)["containers"] if c["name"] == "app")
    check.that({one["name"]: one["value"] for one in app["env"]} == {"B": "2", "DEBUG": "1"})
    check.that([one["containerPort"] for one in app["ports"]] == [9999])
    check.that([one["name"] for one in _pod(live)["volumes"]] == ["certs"])
    check.that(covers(live, fewer))
    check.that(not covers(live, ours))
    generation = live["metadata"]["generation"]
    again = await cluster.apply(fewer)
    check.that(again["metadata"]["generation"] == generation, "an idle apply changes nothing")


@scenario
async def an_item_that_two_managers_own_stays_for_the_other(
    cluster: Server, namespace: str, check: Check
) -> None:
    both = deployment(namespace)
    _pod(both)["containers"][0]["env"] = _env("A")
    await cluster.apply(both)
    await cluster.apply(both, manager=HANDOVER_MANAGER)
    live = await cluster.apply(deployment(namespace))
    check.that(_pod(live)["containers"][0]["env"] == _env("A"))
    live = await cluster.apply(deployment(namespace), manager=HANDOVER_MANAGER)
    check.that(not _pod(live)["containers"][0].get("env"))
    check.that(len(_pod(live)["containers"]) == 1)


@scenario
async def applied_items_come_in_the_order_that_was_applied(
    cluster: Server, namespace: str, check: Check
) -> None:
    for order in (("A", "B", "C"), ("C", "A", "B"), ("B", "C")):
        wanted = deployment(namespace)
        _pod(wanted)["containers"][0]["env"] = _env(*order)
        live = await cluster.apply(wanted)
        check.that(_pod(live)["containers"][0]["env"] == _env(*order))


@scenario
async def a_second_owner_stays(cluster: Server, namespace: str, check: Check) -> None:
    owner = await cluster.create(service(namespace))
    other = await cluster.create(config(namespace, "other"))
    await cluster.apply(deployment(namespace, ownerReferences=[reference(owner)]))
    second = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "other",
        "uid": other["metadata"]["uid"],
    }
    body = {"metadata": {"ownerReferences": [reference(owner), second]}}
    await cluster.patch_merge("Deployment", namespace, "checkout", body)
    wanted = deployment(namespace, ownerReferences=[reference(owner)])
    live = await cluster.apply(wanted)
    uids = {one["uid"] for one in live["metadata"]["ownerReferences"]}
    check.that(uids == {owner["metadata"]["uid"], other["metadata"]["uid"]})
    check.that(covers(live, wanted))


@scenario
async def conditions_of_others_stay_in_the_status(
    cluster: Server, namespace: str, check: Check
) -> None:
    made = await cluster.create(service(namespace))

    def condition(kind: str, reason: str) -> Manifest:
        return {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }

    both = [condition("Ready", "Serving"), condition("Built", "Succeeded")]
    live = await cluster.apply_status(status(made, conditions=both))
    check.that([one["type"] for one in live["status"]["conditions"]] == ["Ready", "Built"])
    live = await cluster.apply_status(status(made, conditions=[condition("Ready", "Other")]))
    check.that(live["status"]["conditions"] == [condition("Ready", "Other")])


@scenario
async def a_name_is_taken_once(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create(config(namespace))
    with check.refused(errors.AlreadyExists):
        await cluster.create(config(namespace))
    check.that((await cluster.get("ConfigMap", namespace, "checkout"))["data"] == made["data"])
    with check.refused(errors.NotFound):
        await cluster.get("ConfigMap", namespace, "other")


@scenario
async def deletion_is_of_one_uid(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create(config(namespace))
    with check.refused(errors.Conflict):
        await cluster.delete("ConfigMap", namespace, "checkout", uid="0-0-0-0")
    await cluster.delete("ConfigMap", namespace, "checkout", uid=made["metadata"]["uid"])
    with check.refused(errors.NotFound):
        await cluster.delete("ConfigMap", namespace, "checkout", uid=None)


@scenario
async def what_is_wrong_is_invalid(cluster: Server, namespace: str, check: Check) -> None:
    with check.refused(errors.Invalid):
        await cluster.create(config(namespace, "Upper"))
    with check.refused(errors.Invalid):
        await cluster.create(config(namespace, labels={"a": "x" * 64}))
    with check.refused(errors.Invalid):
        await cluster.apply(only_replicas(namespace, 1))
    await cluster.apply(deployment(namespace))
    changed = deployment(namespace)
    changed["spec"]["selector"] = {"matchLabels": {"a": "b"}}
    with check.refused(errors.Invalid, match="immutable"):
        await cluster.apply(changed)


@scenario
async def lists_are_selected_by_label_and_field(
    cluster: Server, namespace: str, check: Check
) -> None:
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
        check.that([m["metadata"]["name"] for m in found] == list(expected), selector)
        check.that(all(m["kind"] == "ConfigMap" and m["apiVersion"] == "v1" for m in found))
    found = await cluster.list("ConfigMap", namespace, field_selector="metadata.name=b")
    check.that([m["metadata"]["name"] for m in found] == ["b"])


@scenario
async def long_lists_come_whole(cluster: Server, namespace: str, check: Check) -> None:
    names = [f"c{n:04}" for n in range(520)]
    for start in range(0, len(names), 52):
        batch = names[start : start + 52]
        await asyncio.gather(
            *(cluster.create(config(namespace, name, labels={"many": "1"})) for name in batch)
        )
    found = await cluster.list("ConfigMap", namespace, label_selector="many=1")
    check.that([m["metadata"]["name"] for m in found] == names)


@scenario
async def status_and_spec_are_apart(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create({**service(namespace), "status": {"goVersion": "1.0"}})
    check.that(not made.get("status"))
    live = await cluster.apply_status(status(made, goVersion="1.26", observedGeneration=1))
    check.that(live["status"] == {"goVersion": "1.26", "observedGeneration": 1})
    check.that(live["metadata"]["generation"] == made["metadata"]["generation"] == 1)
    again = await cluster.apply_status(status(made, goVersion="1.26", observedGeneration=1))
    check.that(version(again) == version(live))
    live = await cluster.apply_status(status(made, observedGeneration=1))
    check.that(live["status"] == {"observedGeneration": 1})


@scenario
async def a_recreated_namesake_gets_no_status(
    cluster: Server, namespace: str, check: Check
) -> None:
    made = await cluster.create(service(namespace))
    await cluster.delete("GoService", namespace, "checkout", uid=made["metadata"]["uid"])
    with check.refused(errors.NotFound):
        await cluster.apply_status(status(made, goVersion="1.26"))
    anew = await cluster.create(service(namespace))
    old = status(made, goVersion="1.26")
    old["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with check.refused(errors.Conflict):
        await cluster.apply_status(old)
    live = await cluster.get("GoService", namespace, "checkout")
    check.that(version(live) == version(anew))
    # Without a version the server does not look at the uid: the client notices by the answer.
    with check.refused(errors.Conflict):
        await cluster.apply_status(status(made, goVersion="1.26"))


@scenario
async def an_apply_is_bound_by_uid_and_version(
    cluster: Server, namespace: str, check: Check
) -> None:
    other = "00000000-0000-0000-0000-000000000001"
    with check.refused(errors.Conflict):
        await cluster.apply(config(namespace, uid=other))
    made = await cluster.apply(config(namespace))
    with check.refused(errors.Invalid):
        await cluster.apply(config(namespace, uid=other))
    with check.refused(errors.Conflict):
        await cluster.apply(config(namespace, labels={"a": "b"}, resourceVersion="1"))
    held = made["metadata"]["resourceVersion"]
    live = await cluster.apply(config(namespace, labels={"a": "b"}, resourceVersion=held))
    check.that(live["metadata"]["labels"] == {"a": "b"})


@scenario
async def a_generation_counts_specs_only(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.apply(deployment(namespace, 1))
    labelled = await cluster.apply(deployment(namespace, 1, labels={"a": "b"}))
    check.that(version(labelled) > version(made))
    check.that(labelled["metadata"]["generation"] == 1)
    one = await cluster.create(service(namespace))
    body = {"spec": {"replicas": 3}, "status": {"goVersion": "1.0"}}
    two = await cluster.patch_merge("GoService", namespace, "checkout", body)
    check.that([m["metadata"]["generation"] for m in (one, two)] == [1, 2])
    check.that("goVersion" not in two.get("status", {}), "a patch of the object reached the status")
    body = {"metadata": {"annotations": {"goservice.dev/rebuild-requested-at": "now"}}}
    three = await cluster.patch_merge("GoService", namespace, "checkout", body)
    check.that(three["metadata"]["generation"] == 2)


@scenario
async def a_status_reaches_nothing_else(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create(service(namespace))
    more = status(made, goVersion="1.26")
    more["spec"] = {**made["spec"], "replicas": 7}
    live = await cluster.apply_status(more)
    check.that("replicas" not in live["spec"] or live["spec"]["replicas"] != 7)
    live = await cluster.patch_merge("GoService", namespace, "checkout", {"spec": {"replicas": 2}})
    check.that(live["status"] == {"goVersion": "1.26"})
    held = status(made, goVersion="1.27")
    held["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with check.refused(errors.Conflict):
        await cluster.apply_status(held)


@scenario
async def ownership_is_lost_by_a_change(cluster: Server, namespace: str, check: Check) -> None:
    await cluster.apply(deployment(namespace, 2))
    await cluster.patch_merge("Deployment", namespace, "checkout", {"spec": {"paused": True}})
    live = await cluster.apply(deployment(namespace, 2))
    check.that(live["spec"]["paused"] is True, "what nobody applied was taken away")
    await cluster.apply(only_replicas(namespace, 4), manager=HANDOVER_MANAGER)
    check.that((await cluster.apply(deployment(namespace)))["spec"]["replicas"] == 4)
    check.that((await cluster.apply(deployment(namespace, 5)))["spec"]["replicas"] == 5)
    live = await cluster.apply(deployment(namespace))
    check.that(live["spec"]["replicas"] == 1, "the other manager still owns what was taken over")


@scenario
async def children_go_with_their_owner(cluster: Server, namespace: str, check: Check) -> None:
    owner = await cluster.create(service(namespace))
    await cluster.create(config(namespace, "child", ownerReferences=[reference(owner)]))
    await cluster.create(config(namespace, "stranger"))
    await cluster.delete("GoService", namespace, "checkout", uid=owner["metadata"]["uid"])
    check.that(await gone(cluster, "ConfigMap", namespace, "child"))
    check.that((await cluster.get("ConfigMap", namespace, "stranger"))["data"])
    late = {**reference(owner), "name": "checkout"}
    await cluster.create(config(namespace, "late", ownerReferences=[late]))
    check.that(await gone(cluster, "ConfigMap", namespace, "late"), "the owner is gone already")


@scenario
async def orphans_stay(cluster: Server, namespace: str, check: Check) -> None:
    owner = await cluster.create(service(namespace))
    await cluster.create(config(namespace, "child", ownerReferences=[reference(owner)]))
    await cluster.delete_orphaning("GoService", namespace, "checkout")
    check.that(await gone(cluster, "GoService", namespace, "checkout"))
    live = await cluster.get("ConfigMap", namespace, "child")
    check.that(not live["metadata"].get("ownerReferences"))


@scenario
async def finalizers_hold_an_object(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create(config(namespace, finalizers=["example.com/hold"]))
    await cluster.delete("ConfigMap", namespace, "checkout", uid=made["metadata"]["uid"])
    live = await cluster.get("ConfigMap", namespace, "checkout")
    check.that(live["metadata"]["deletionTimestamp"])
    with check.refused(errors.AlreadyExists):
        await cluster.create(config(namespace))
    body = {"metadata": {"finalizers": None}}
    await cluster.patch_merge("ConfigMap", namespace, "checkout", body)
    with check.refused(errors.NotFound):
        await cluster.get("ConfigMap", namespace, "checkout")


@scenario
async def what_is_not_there_is_not_found(cluster: Server, namespace: str, check: Check) -> None:
    with check.refused(errors.NotFound):
        await cluster.patch_merge("ConfigMap", namespace, "none", {"data": {"a": "b"}})
    with check.refused(errors.NotFound):
        await cluster.delete("Job", namespace, "none", uid=None)
    check.that(await cluster.list("Job", namespace) == [])


@scenario
async def what_is_served_is_told(cluster: Server, namespace: str, check: Check) -> None:
    for kind in KINDS:
        check.that(await cluster.serves(kind), kind)
    for kind in NOT_SERVED:
        check.that(not await cluster.serves(kind), kind)
        with check.refused(errors.NotFound):
            await cluster.list(kind, namespace)
        with check.refused(errors.NotFound):
            await cluster.apply({**config(namespace), "kind": kind})


@scenario
async def pages_are_of_one_moment(cluster: Server, namespace: str, check: Check) -> None:
    for name in "abcde":
        await cluster.create(config(namespace, name, labels={"page": "1"}))
    everything = [m["metadata"]["name"] for m in await cluster.list("ConfigMap", namespace)]
    first, token, moment = await cluster.page("ConfigMap", namespace, 2)
    check.that(len(first) == 2 and token)
    await cluster.create(config(namespace, "zz"))
    seen = [m["metadata"]["name"] for m in first]
    while token:
        more, token, then = await cluster.page("ConfigMap", namespace, 2, token)
        seen += [m["metadata"]["name"] for m in more]
        check.that(len(more) <= 2 and then == moment)
    check.that(seen == everything)
    with check.refused(errors.Invalid):
        await cluster.page("ConfigMap", namespace, 2, "nonsense")


@scenario
async def a_watch_tells_every_change(cluster: Server, namespace: str, check: Check) -> None:
    _, _, since = await cluster.page("ConfigMap", namespace, 500)
    made = await cluster.create(config(namespace, "a", labels={"app": "x"}))
    body = {"data": {"more": "1"}}
    changed = await cluster.patch_merge("ConfigMap", namespace, "a", body)
    await cluster.delete("ConfigMap", namespace, "a", uid=None)
    told = await changes(cluster.watch("ConfigMap", namespace, since, label_selector="app=x"), 3)
    check.that([change for change, _ in told] == ["ADDED", "MODIFIED", "DELETED"])
    check.that([version(m) for _, m in told[:2]] == [version(made), version(changed)])
    check.that(version(told[2][1]) > version(changed), "a deletion has a version of its own")
    again = await changes(cluster.watch("ConfigMap", namespace, str(version(made))), 2)
    check.that([change for change, _ in again] == ["MODIFIED", "DELETED"])


@scenario
async def who_loses_the_label_leaves_the_watch(
    cluster: Server, namespace: str, check: Check
) -> None:
    made = await cluster.create(config(namespace, "a", labels={"app": "x"}))
    for value in ("y", "x"):
        body = {"metadata": {"labels": {"app": value}}}
        await cluster.patch_merge("ConfigMap", namespace, "a", body)
    watch = cluster.watch("ConfigMap", namespace, str(version(made)), label_selector="app=x")
    told = await changes(watch, 2)
    check.that([change for change, _ in told] == ["DELETED", "ADDED"])
    check.that(version(told[1][1]) > version(told[0][1]) > version(made))


@scenario
async def a_watch_sends_bookmarks(cluster: Server, namespace: str, check: Check) -> None:
    made = await cluster.create(config(namespace))
    watch = cluster.watch("ConfigMap", namespace, str(version(made) - 1))
    [mark] = await changes(watch, 1, bookmarks=True)
    check.that(mark[0] == "BOOKMARK")
    check.that(version(mark[1]) >= version(made))


@scenario
async def a_version_that_is_too_old_is_gone(cluster: Server, namespace: str, check: Check) -> None:
    await cluster.create(service(namespace))
    with check.refused(errors.Gone):
        await changes(cluster.watch("GoService", namespace, "1"), 1)


@scenario
async def a_terminating_namespace_takes_nothing_new(
    cluster: Server, namespace: str, check: Check
) -> None:
    held = config(namespace, "held", finalizers=["example.com/hold"])
    await cluster.create(held)
    await cluster.create(config(namespace, "free"))
    await cluster.end_namespace(namespace)
    with check.refused(errors.Forbidden):
        await cluster.create(config(namespace, "new"))
    with check.refused(errors.Forbidden):
        await cluster.apply(deployment(namespace))
    check.that(await gone(cluster, "ConfigMap", namespace, "free"))
    live = await cluster.get("ConfigMap", namespace, "held")
    check.that(live["metadata"]["deletionTimestamp"])
    body: Manifest = {"metadata": {"finalizers": None}}
    await cluster.patch_merge("ConfigMap", namespace, "held", body)
    check.that(await gone(cluster, "ConfigMap", namespace, "held"))
