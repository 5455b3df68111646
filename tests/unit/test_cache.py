"""The cache keeps the newest of what events, lists and our own writes bring, in any order."""

import json
from typing import Any

import pytest

from goservice import names
from goservice.loop.cache import MOST_TOMBSTONES, OLDEST_TOMBSTONE, Cache, slim
from goservice.loop.words import LONGEST_EVENT, LONGEST_WORDS, told
from goservice.metrics import Metrics
from goservice.objects import children
from tests.support import factories as f

KEY = ("shop", "checkout")


def job(
    version: str, name: str = "checkout", uid: str = "u1", service: str | None = "checkout"
) -> dict[str, Any]:
    labels = {"goservice.dev/service": service} if service else {}
    return {
        "apiVersion": "batch/v1",
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": uid,
            "resourceVersion": version,
            "labels": labels,
        },
    }


def version(cache: Cache) -> str | None:
    held = cache.get("Job", KEY)
    return held["metadata"]["resourceVersion"] if held else None


def test_newer_replaces_older_never_the_other_way_round() -> None:
    cache = Cache()
    assert cache.put("Job", job("9"))
    assert cache.put("Job", job("10"))
    assert not cache.put("Job", job("10"))
    assert not cache.put("Job", job("9"))
    assert version(cache) == "10"


def test_versions_that_are_not_numbers_are_taken_as_they_come() -> None:
    cache = Cache()
    assert cache.put("Job", job("b"))
    assert cache.put("Job", job("a"))
    assert version(cache) == "a"


def test_a_late_event_of_an_older_namesake_is_ignored() -> None:
    cache = Cache()
    cache.put("Job", job("20", uid="u2"))
    assert not cache.put("Job", job("12", uid="u1"))
    assert not cache.drop("Job", job("15", uid="u1"))
    assert version(cache) == "20"


def test_a_deletion_drops_and_a_late_answer_does_not_bring_it_back() -> None:
    cache = Cache()
    cache.put("Job", job("5"))
    assert cache.drop("Job", job("8"))
    assert not cache.drop("Job", job("8"))
    assert not cache.put("Job", job("7"))
    assert version(cache) is None
    assert cache.put("Job", job("9", uid="u2"))


def test_an_object_that_gets_its_label_back_comes_back() -> None:
    cache = Cache()
    cache.put("Job", job("5"))
    cache.drop("Job", job("6"))
    assert cache.put("Job", job("7"))
    assert not cache.drop("Job", job("6"))
    assert version(cache) == "7"


def test_drop_by_key() -> None:
    cache = Cache()
    cache.put("Job", job("5"))
    assert cache.drop("Job", KEY)
    assert not cache.drop("Job", KEY)
    assert not cache.put("Job", job("5"))


def test_children_are_found_by_label_and_move_with_it() -> None:
    cache = Cache()
    cache.put("Job", job("1", "a"))
    cache.put("ConfigMap", job("2", "b"))
    cache.put("Pod", job("3", "c", service=None))
    cache.put("GoService", job("4", "checkout"))
    assert [(c["kind"], c["metadata"]["name"]) for c in cache.children(*KEY)] == [
        ("ConfigMap", "b"),
        ("Job", "a"),
    ]
    cache.put("Job", job("5", "a", service="other"))
    assert [c["kind"] for c in cache.children(*KEY)] == ["ConfigMap"]
    assert [c["kind"] for c in cache.children("shop", "other")] == ["Job"]
    cache.drop("Job", job("6", "a"))
    assert not list(cache.children("shop", "other"))
    assert cache.keys("GoService") == [KEY]
    assert cache.keys("Pod") == [("shop", "c")]


def build(version: str, name: str, service: str) -> dict[str, Any]:
    """A Job that the service with this name controls."""
    made = job(version, name, service=service, uid=name)
    controller = {"kind": "GoService", "controller": True, "uid": f"uid of {service}"}
    made["metadata"]["ownerReferences"] = [controller]
    return made


def gadget(version: str, name: str, uid: str = "") -> dict[str, Any]:
    """A GoService."""
    return job(version, name, service=None, uid=uid or f"uid of {name}")


def test_objects_that_pass_the_test_are_counted_by_service() -> None:
    cache = Cache()
    cache.put("GoService", gadget("1", "a"))
    cache.put("Job", build("1", "a-build-one", "a"))
    cache.count_where("Job", lambda j: not j.get("status"))
    cache.put("Job", build("2", "two", "a"))
    cache.put("Job", build("3", "three", "b"))
    assert cache.counts("Job") == {("shop", "a"): 2}, "of b nothing is known yet"
    cache.put("GoService", gadget("4", "b"))
    assert cache.counts("Job") == {("shop", "a"): 2, ("shop", "b"): 1}
    cache.put("Job", {**build("5", "a-build-one", "a"), "status": {"succeeded": 1}})
    cache.put("Job", build("6", "three", "a"))
    assert cache.counts("Job") == {("shop", "a"): 2}
    cache.drop("Job", ("shop", "two"))
    cache.drop("Job", ("shop", "three"))
    assert cache.counts("Job") == {}
    assert cache.counts("Pod") == {}


def test_what_names_a_service_by_its_label_alone_is_not_counted() -> None:
    cache = Cache()
    cache.count_where("Job", lambda j: not j.get("status"))
    cache.put("GoService", gadget("1", "a"))
    cache.put("Job", job("2", "ownerless", service="a", uid="1"))
    cache.put("Job", build("3", "of another", "b") | {"spec": {"suspend": True}})
    stolen = build("4", "stolen", "b")
    stolen["metadata"]["labels"] = job("4", "stolen", service="a")["metadata"]["labels"]
    cache.put("Job", stolen)
    assert cache.counts("Job") == {}


def test_a_namesake_made_anew_does_not_inherit_the_count() -> None:
    cache = Cache()
    cache.count_where("Job", lambda j: not j.get("status"))
    cache.put("GoService", gadget("1", "a"))
    cache.put("Job", build("2", "one", "a"))
    cache.drop("GoService", gadget("3", "a"))
    assert cache.counts("Job") == {}
    cache.put("GoService", gadget("4", "a", uid="another"))
    assert cache.counts("Job") == {}
    cache.drop("GoService", gadget("5", "a", uid="another"))
    cache.put("GoService", gadget("2", "a"))
    assert cache.counts("Job") == {}, "it was deleted: a late word of it counts for nothing"


def test_a_list_removes_what_is_gone_and_says_what_changed() -> None:
    cache = Cache()
    for name in ("same", "changed", "gone"):
        cache.put("Job", job("1", name, uid=name))
    listing = cache.listing("Job")
    assert listing.add([job("1", "same", uid="same"), job("2", "changed", uid="changed")]) == [KEY]
    assert listing.add([job("3", "new", service="other")]) == [("shop", "other")]
    assert listing.end() == [KEY]
    assert sorted(cache.keys("Job")) == [("shop", "changed"), ("shop", "new"), ("shop", "same")]


def test_a_list_does_not_undo_what_happened_while_it_was_read() -> None:
    cache = Cache()
    cache.put("Job", job("1", "deleted", uid="deleted"))
    cache.put("Job", job("2", "newer", uid="newer"))
    listing = cache.listing("Job")
    cache.put("Job", job("9", "created", uid="created"))
    cache.put("Job", job("10", "newer", uid="newer"))
    cache.drop("Job", job("11", "deleted", uid="deleted"))
    page = [job("1", "deleted", uid="deleted"), job("2", "newer", uid="newer")]
    assert listing.add(page) == []
    assert listing.end() == []
    assert sorted(cache.keys("Job")) == [("shop", "created"), ("shop", "newer")]
    held = cache.get("Job", ("shop", "newer"))
    assert held is not None
    assert held["metadata"]["resourceVersion"] == "10"


def test_a_list_that_breaks_off_removes_nothing() -> None:
    cache = Cache()
    cache.put("Job", job("1", "kept", uid="kept"))
    cache.listing("Job").add([job("2", "new", uid="new")])
    assert sorted(cache.keys("Job")) == [("shop", "kept"), ("shop", "new")]


def test_an_object_seen_again_while_the_list_is_read_stays() -> None:
    cache = Cache()
    cache.put("Job", job("1"))
    listing = cache.listing("Job")
    cache.put("Job", job("1"))
    assert listing.end() == []
    assert version(cache) == "1"


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    cache = Cache()
    cache.put("Job", job("1"))
    assert cache.listing("Job", "other").end() == []
    assert cache.listing("Job", "shop").end() == [KEY]


def test_deletions_are_remembered_for_two_lists() -> None:
    cache = Cache()
    cache.put("Job", job("1"))
    cache.drop("Job", job("2"))
    cache.listing("Job").end()
    assert not cache.put("Job", job("1"))
    cache.listing("Job").end()
    assert cache.put("Job", job("1"))


def test_what_nobody_reads_is_not_kept_and_the_original_is_not_touched() -> None:
    original = job("1")
    original["metadata"]["managedFields"] = [{}]
    original["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "goservice.dev/commit": "c0ffee",
    }
    kept = slim("Job", original)
    assert "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"goservice.dev/commit": "c0ffee"}
    assert kept["kind"] == "Job"
    assert "managedFields" in original["metadata"]
    assert len(original["metadata"]["annotations"]) == 2


def made(kind: str, name: str = "", **more: Any) -> dict[str, Any]:
    """An object that a GoService (or a build's Job) controls, with a MiB where anybody may put one."""
    name = name or ("checkout-build-a" if kind in children.UNREAD else "checkout")
    controller = {"kind": "Job" if kind == "Pod" else "GoService", "uid": "s", "controller": True}
    return {
        "kind": kind,
        "metadata": {
            "namespace": "shop", "name": name, "uid": name, "resourceVersion": "1",
            "labels": {"goservice.dev/service": "checkout", **{f"l{n}": "x" * 63 for n in range(5000)}},
            "annotations": {"example.com/a": "B" * 100_000, "goservice.dev/mine": "C" * 100_000,
                            "goservice.dev/commit": "D" * 100_000},
            "finalizers": [f"example.com/{n}" for n in range(5000)],
            "ownerReferences": [{"kind": "Other", "uid": str(n)} for n in range(5000)] + [controller],
        },
        "status": {"conditions": [{"type": str(n), "message": "m" * 3000} for n in range(100)],
                   "other": "x" * 100_000},
    } | more  # fmt: skip


@pytest.mark.parametrize("kind", children.CHILD_KINDS)
def test_of_an_object_as_much_is_kept_as_is_read(kind: str) -> None:
    found = made(kind, binaryData={"a": "A" * 1_000_000})
    if kind in children.UNREAD:
        found[children.UNREAD[kind]] = {"a": "x" * 1_000_000}
    kept = slim(kind, found)
    assert len(json.dumps(kept)) < 18_000
    assert kept["metadata"]["ownerReferences"][0]["controller"], "whose it is, is not cut off"
    assert kept["metadata"]["annotations"] == {"goservice.dev/commit": "D" * 1024}
    assert kept["metadata"]["labels"] == {"goservice.dev/service": "checkout"}


def test_of_what_no_service_made_the_name_is_kept() -> None:
    cache = Cache()
    cache.put("GoService", gadget("1", "checkout", "s"))
    large = {"spec": {"template": {"a": "x" * 1_000_000}}, "data": {"a": "x" * 1_000_000}}
    forged: dict[str, dict[str, Any]] = {
        "no controller": {"ownerReferences": []},
        "another's controller": {"ownerReferences": [{"kind": "Argo", "controller": True}]},
        "another name": {"name": "checkout2"},
    }
    for kind in children.CHILD_KINDS:
        for number, changes in enumerate(forged.values()):
            name = f"checkout-build-{number}"
            one = made(kind, name, **large)
            one["metadata"] |= {"name": name, **changes}
            cache.put(kind, one)
            kept = cache.get(kind, ("shop", one["metadata"]["name"]))
            assert kept is not None
            assert kept.keys() == {"apiVersion", "kind", "metadata"}
            assert len(json.dumps(kept)) < 2500, (kind, changes)


def test_what_was_left_is_found_by_name_and_kept_whole_once_it_is_read() -> None:
    cache = Cache()
    left = job("5") | {"spec": {"a": 1}}
    cache.put("Service", left)
    cache.put("Service", job("6", name="other", uid="u2"))
    cache.put("Pod", job("7", uid="u3"))
    assert cache.left("shop", "checkout") == [("Service", KEY)]
    assert cache.put("Service", left, whole=True)
    assert cache.left("shop", "checkout") == []
    assert not cache.put("Service", left), "a watch that shows it again takes nothing away"
    assert (cache.get("Service", KEY) or {})["spec"] == {"a": 1}
    cache.put("Service", job("8") | {"spec": {"a": 2}})
    assert cache.left("shop", "checkout") == [("Service", KEY)]
    cache.drop("Service", KEY)
    assert cache.left("shop", "checkout") == []


def test_deletions_are_remembered_by_age_and_number() -> None:
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    for number in range(MOST_TOMBSTONES + 100):
        cache.drop("Job", job("2", name=f"j{number}", uid=f"u{number}"))
    assert len(cache._tombstones) == MOST_TOMBSTONES
    now[0] += OLDEST_TOMBSTONE + 1
    cache.drop("Job", job("9", uid="new"))
    assert list(cache._tombstones) == [("Job", "new")]


def test_every_annotation_and_label_of_ours_is_kept() -> None:
    ours = {
        v for v in vars(names).values() if isinstance(v, str) and v.startswith("goservice.dev/")
    }
    # Those of a pod template are part of the template.
    assert ours - {names.SERVICE, names.RESTARTED_AT} == names.ANNOTATIONS
    assert set(names.LABELS) == set(names.labels(f.service(), "app"))


def test_of_what_was_asked_for_only_the_words_are_kept() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": "a", "uid": "u", "labels": {"a": "b" * 60}, "annotations": {"x": "y" * 200_000},
            "ownerReferences": [{"uid": "r"}] * 500,
        },
        "spec": {"containers": [{"env": [{"name": "A", "value": "z" * 1_000_000}]}]},
        "status": {
            "phase": "Pending", "message": "m" * 100_000, "podIPs": [{"ip": "i" * 100_000}],
            "containerStatuses": [
                {"name": "app", "state": {"waiting": {"reason": "E", "message": "w" * 9000}}}
            ] * 500,
        },
    }  # fmt: skip
    kept = told(pod)
    assert kept["metadata"].keys() == {"name", "uid", "ownerReferences"}
    assert kept["status"].keys() == {"phase", "message", "containerStatuses"}
    assert kept["status"]["phase"] == "Pending"
    assert len(kept["status"]["containerStatuses"]) == 16
    assert kept["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == "w" * 4096
    assert len(json.dumps(kept)) < LONGEST_WORDS + 3000
    event = {"kind": "Event", "metadata": {"name": "a"}, "reason": "R", "message": "m" * 100_000}
    assert len(json.dumps(told(event))) < LONGEST_EVENT + 200


@pytest.mark.parametrize("count", [0, 3])
def test_objects_are_counted(count: int) -> None:
    metrics = Metrics()
    cache = Cache(metrics)
    listing = cache.listing("Job")
    listing.add(job("1", f"j{n}") for n in range(count))
    listing.end()
    line = f'goservice_operator_cache_objects{{kind="Job"}} {float(count)}'
    assert line.encode() in metrics.text()
