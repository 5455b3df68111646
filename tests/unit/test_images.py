"""What a build learns of its image beside the digest: the architecture it is for, and whether it has a tag."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from goservice import names
from goservice.build import kaniko, outcome
from goservice.build.outcome import Succeeded
from goservice.decide import plan
from goservice.decide.observed import Observed, Resolution
from goservice.decide.writes import Apply, Plan
from goservice.fetch.main import ARCHITECTURES
from goservice.manifest import Manifest, annotation
from goservice.objects.pod_template import Deployed, pod_template
from goservice.objects.template_inputs import template_hash
from tests.support import factories as f
from tests.support.lab import KEY, Lab

ARCH = "kubernetes.io/arch"


def told(job: Manifest, arch: str = "", push: str = "") -> Manifest:
    """The pod of a build that reported these of its image."""
    report = {"commit": f.COMMIT, "go": "1.26", "arch": arch}
    return f.pod(
        job,
        init=[f.terminated("fetch", message=json.dumps(report)), f.terminated("build", message=f.DIGEST)],
        main=[f.terminated("push", message=push)],
    )  # fmt: skip


def decide(observed: Observed) -> Plan:
    return plan.decide(f.service(), observed, f.SETTINGS, f.later(60))


def deployment(decided: Plan) -> Manifest:
    (found,) = (
        w.manifest
        for w in decided.writes
        if isinstance(w, Apply) and w.manifest["kind"] == "Deployment"
    )
    return dict(found)


def served(arch: str = "", push: str = "") -> tuple[Observed, Plan]:
    """The world after a build that reported this, and the plan that made it."""
    job = f.job(f.service(), ended="Complete")
    pod = told(job, arch, push)
    first = decide(f.observed(job, pod))
    applied = [
        f.settled(w.manifest) if w.manifest["kind"] == "Deployment" else f.live(w.manifest)
        for w in first.writes
        if isinstance(w, Apply)
    ]
    second = decide(f.observed(job, pod, *applied, status=dict(first.status or {})))
    assert second.writes == ()
    return f.observed(job, pod, *applied, status=dict(second.status or first.status or {})), first


def without_job(world: Observed, **more: Any) -> Observed:
    bare = {k: v for k, v in world.children.items() if k[0] not in ("Job", "Pod")}
    return dataclasses.replace(world, children=bare, **more)


# --- architecture ---------------------------------------------------------------------------------


def test_an_image_runs_on_nodes_of_the_architecture_of_its_build() -> None:
    world, first = served("arm64")
    made = deployment(first)
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {ARCH: "arm64"}
    assert annotation(made, names.ARCH) == "arm64"
    assert world.status["history"][0]["arch"] == "arm64"


def test_of_an_image_whose_build_told_none_nothing_changes() -> None:
    """So no upgrade restarts a pod: builds of older operators reported none."""
    _, first = served("")
    made = deployment(first)
    assert "nodeSelector" not in made["spec"]["template"]["spec"]
    assert not annotation(made, names.ARCH)
    image = f"registry.example.com/shop/checkout@{f.DIGEST}"
    plain = Deployed(image, 10001, "UTC", "1.26")
    assert template_hash(f.service(), f.SETTINGS, plain) == annotation(made, names.TEMPLATE)
    bound = dataclasses.replace(plain, arch="amd64")
    assert template_hash(f.service(), f.SETTINGS, bound) != annotation(made, names.TEMPLATE)


@pytest.mark.parametrize("lost", ["nothing", "the job", "the job and the status"])
def test_the_architecture_and_the_missing_tag_are_remembered(lost: str) -> None:
    world, _ = served("arm64", f.DIGEST)
    if lost != "nothing":
        world = without_job(world, **({"status": {}} if lost.endswith("status") else {}))
    assert decide(world).writes == ()


def test_an_image_of_the_history_is_bound_as_it_was() -> None:
    """The Deployment remembers another one by then."""
    world, _ = served("arm64")
    live = dict(world.children["Deployment", "checkout"])
    other = f"registry.example.com/shop/checkout@{f.OTHER_DIGEST}"
    notes = {
        **live["metadata"]["annotations"],
        names.INPUTS: "0000000000",
        names.ARCH: "amd64",
        names.IMAGE: other,
    }
    live["metadata"] = {**live["metadata"], "annotations": notes}
    bare = without_job(world)
    moved = dataclasses.replace(bare, children={**bare.children, ("Deployment", "checkout"): live})
    made = deployment(decide(moved))
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {ARCH: "arm64"}


@pytest.mark.parametrize("text", ["", "amd64 ", "x86_64", "arm64\n", '{"a": 1}', "a" * 99])
def test_no_other_word_of_a_pod_or_person_becomes_a_selector(text: str) -> None:
    assert outcome.fetched(json.dumps({"arch": text})).arch == ""
    world, _ = served("arm64")
    live = dict(world.children["Deployment", "checkout"])
    notes = {**live["metadata"]["annotations"], names.ARCH: text}
    live["metadata"] = {**live["metadata"], "annotations": notes}
    bare = without_job(world, status={})
    moved = dataclasses.replace(bare, children={**bare.children, ("Deployment", "checkout"): live})
    for write in decide(moved).writes:
        if isinstance(write, Apply) and write.manifest["kind"] == "Deployment":
            assert "nodeSelector" not in write.manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.values()))
def test_every_name_of_gos_is_taken(name: str) -> None:
    assert outcome.fetched(json.dumps({"arch": name})).arch == name


async def test_a_selector_and_an_affinity_of_somebody_else_stay_beside_ours() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    (job,) = lab.world.all("Job")
    lab.finish_build()
    pod = lab.world.all("Pod")[0]
    status = told(job, "arm64")["status"]
    lab.world.set_status("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"], status)
    await lab.settle()
    lab.roll_out()
    await lab.settle()
    assert lab.ready() == ("True", "Serving")
    affinity: Manifest = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}

    def theirs(live: Manifest) -> None:
        spec = live["spec"]["template"]["spec"]
        spec["nodeSelector"]["disk"] = "ssd"
        spec["affinity"] = affinity

    lab.world.edit("Deployment", *KEY, theirs)
    lab.roll_out()
    before = len(lab.world.writes)
    await lab.settle()
    assert lab.world.writes[before:] == []
    lab.git.sha = f.NEWER
    lab.now += timedelta(hours=1)
    await lab.settle()
    lab.finish_build(f.OTHER_DIGEST)
    await lab.settle()
    live = lab.world.find("Deployment", *KEY)
    assert live is not None
    spec = live["spec"]["template"]["spec"]
    # The newer build told none, so only theirs is left.
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["affinity"] == affinity


def test_a_template_that_is_kept_keeps_its_architecture() -> None:
    """Not where somebody has taken the selector away by hand."""
    world, _ = served("arm64")
    live = json.loads(json.dumps(world.children["Deployment", "checkout"]))
    live["metadata"]["annotations"][names.RENDERED] = "otherwise"
    children = {**world.children, ("Deployment", "checkout"): live}
    assert decide(dataclasses.replace(world, children=children)).writes == ()
    del live["spec"]["template"]["spec"]["nodeSelector"]
    made = deployment(decide(dataclasses.replace(world, children=children)))
    assert made["spec"]["template"]["spec"]["nodeSelector"] == {ARCH: "arm64"}


def test_the_selector_names_the_label_that_kubelets_write() -> None:
    runs = Deployed("a@sha256:0", 1, "UTC", "", "s390x")
    assert pod_template(f.service(), f.SETTINGS, runs)["spec"]["nodeSelector"] == {ARCH: "s390x"}


# --- an image without a tag -----------------------------------------------------------------------


def test_an_image_that_the_registry_took_without_its_tag_is_told_while_it_serves() -> None:
    world, first = served("", f.DIGEST)
    tag = names.tag(f.service(), f.COMMIT, annotation(deployment(first), names.INPUTS))
    assert annotation(deployment(first), names.UNTAGGED) == tag
    assert world.status["history"][0]["untagged"] is True
    (warning,) = world.status["warnings"]
    assert warning["field"] == "spec.image.tag"
    assert f"registry.example.com/shop/checkout:{tag}" in warning["message"]
    assert f.DIGEST in warning["message"]
    gone = decide(without_job(world))
    assert gone.status is None or gone.status["warnings"] == [warning], "nor is it forgotten"


def test_an_image_with_its_tag_is_no_news() -> None:
    world, first = served("", "")
    assert not annotation(deployment(first), names.UNTAGGED)
    assert "warnings" not in world.status
    assert "untagged" not in world.status["history"][0]


@pytest.mark.parametrize("says", ["", "x", f.OTHER_DIGEST, f"{f.DIGEST} and more"])
def test_only_the_digest_of_the_build_says_that_the_push_went_without_a_tag(says: str) -> None:
    job = f.job(f.service(), ended="Complete")
    found = kaniko.outcome(job, told(job, "", says))
    assert isinstance(found, Succeeded)
    assert not found.untagged


def test_what_is_known_of_the_image_stays_while_the_next_one_is_built() -> None:
    world, _ = served("arm64", f.DIGEST)
    moved = dataclasses.replace(world, resolution=Resolution(sha=f.NEWER))
    building = decide(moved)
    assert not [
        w for w in building.writes if isinstance(w, Apply) and w.manifest["kind"] == "Deployment"
    ]
    assert building.status is not None
    assert building.status["warnings"] == world.status["warnings"]
