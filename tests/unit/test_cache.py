"""The cache keeps the newest of what events, lists and our own writes bring, in any order."""

from typing import Any

import pytest

from goservice.loop.cache import Cache, slim
from goservice.metrics import Metrics

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


def test_objects_that_pass_the_test_are_counted_by_service() -> None:
    cache = Cache()
    cache.put("Job", job("1", "one", service="a"))
    cache.count_where("Job", lambda j: not j.get("status"))
    cache.put("Job", job("2", "two", service="a"))
    cache.put("Job", job("3", "three", service="b"))
    assert cache.counts("Job") == {("shop", "a"): 2, ("shop", "b"): 1}
    cache.put("Job", {**job("4", "one", service="a"), "status": {"succeeded": 1}})
    cache.put("Job", job("5", "three", service="a"))
    assert cache.counts("Job") == {("shop", "a"): 2}
    cache.drop("Job", ("shop", "two"))
    cache.drop("Job", ("shop", "three"))
    assert cache.counts("Job") == {}
    assert cache.counts("Pod") == {}


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


@pytest.mark.parametrize("count", [0, 3])
def test_objects_are_counted(count: int) -> None:
    metrics = Metrics()
    cache = Cache(metrics)
    listing = cache.listing("Job")
    listing.add(job("1", f"j{n}") for n in range(count))
    listing.end()
    line = f'goservice_operator_cache_objects{{kind="Job"}} {float(count)}'
    assert line.encode() in metrics.text()
