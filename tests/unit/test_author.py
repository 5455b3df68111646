"""What somebody tries with a GoService, or with forged objects around it, and what comes of it.

The operator has its own role's rights here and no others. `docs/security.md` says which of these
need more than the right to write GoServices.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from goservice import errors, names
from goservice.manifest import Manifest, owned
from goservice.objects import children
from goservice.objects.children import Upkeep
from goservice.objects.pod_template import Deployed
from testbed.inmemory import world
from tests.support import factories as f
from tests.support.lab import KEY, Lab

Key = tuple[str, str, str]

REPOSITORY = "registry.example.com/shop/checkout"
EVIL = "sha256:" + "e" * 64
LABELS = {
    names.MANAGED_BY: names.OPERATOR,
    names.SERVICE: "checkout",
    names.COMPONENT: "build",
}
WRITTEN = [child for child in children.CHILDREN if child.upkeep is not Upkeep.WATCHED]
"""The rows of the table that the operator writes."""


def stranger(kind: str, name: str, namespace: str = "shop", **metadata: Any) -> Manifest:
    """An object of somebody else's."""
    made = {
        "apiVersion": children.CHILD_KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
    }
    if kind == "Deployment":
        labels = {"app": "other"}
        pod = {"containers": [{"name": "app", "image": "other"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        made["spec"] = {"selector": {"matchLabels": labels}, "template": template}
    return made


def put(lab: Lab, manifest: Manifest) -> Key:
    lab.world.add(manifest)
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]


def uid(lab: Lab) -> str:
    (found,) = [g for g in lab.world.all("GoService") if g["metadata"]["name"] == "checkout"]
    return str(found["metadata"]["uid"])


def owner(uid: str, *, controller: bool = True, **more: Any) -> list[Manifest]:
    return [
        {
            "apiVersion": "goservice.dev/v1alpha1",
            "kind": "GoService",
            "name": "checkout",
            "uid": uid,
            "controller": controller,
            **more,
        }
    ]


def forged_job(lab: Lab, namespace: str = "shop", **metadata: Any) -> Key:
    """A Job that says that it is the next attempt of the build that there was, and has succeeded."""
    real = lab.world.all("Job")[0]
    name = real["metadata"]["name"][:-1] + "2"
    notes = {**real["metadata"]["annotations"], names.ATTEMPT: "2"}
    made = {
        **real,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": LABELS,
            "annotations": notes,
            **metadata,
        },
    }
    key = put(lab, made)
    end = {"type": "Complete", "status": "True", "lastTransitionTime": f.stamp(lab.now)}
    lab.world.set_status("Job", namespace, name, {"conditions": [end]})
    return key


def forged_pod(
    lab: Lab, job: str, namespace: str = "shop", digest: str = EVIL, name: str = "forged"
) -> Key:
    """A pod of a Job's uid whose containers say that they built this."""
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": job}
    made = stranger("Pod", name, namespace, labels=LABELS, ownerReferences=[reference])
    lab.world.clock = lambda: f.stamp(f.later(7200))
    key = put(lab, made)
    ends = [
        f.terminated("fetch", message=f.FETCHED % f.COMMIT),
        f.terminated("build", message=digest),
    ]
    status = {"initContainerStatuses": ends, "containerStatuses": [f.terminated("push")]}
    lab.world.set_status("Pod", namespace, name, status)
    return key


def job_uid(lab: Lab) -> str:
    return str(lab.world.all("Job")[0]["metadata"]["uid"])


@dataclass(frozen=True)
class Attempt:
    """What is tried. `act` gives the objects that must stay exactly as they are."""

    title: str
    act: Callable[[Lab], list[Key]]
    late: bool = False
    """Tried while the service serves, not before it is made."""
    reason: str = ""
    """What Ready says of it; empty: that it serves, with what was built."""


def sharing_a_name(kind: str, name: str = "checkout") -> Callable[[Lab], list[Key]]:
    return lambda lab: [put(lab, stranger(kind, name))]


def _claim(lab: Lab) -> list[Key]:
    cache = {"build": {"cache": {"size": "1Gi"}}}
    lab.world.edit("GoService", *KEY, lambda g: g["spec"].update(cache))
    return [put(lab, stranger("PersistentVolumeClaim", "checkout-build-cache"))]


def _labelled(lab: Lab) -> list[Key]:
    kinds = {child.kind.kind for child in WRITTEN}
    return [put(lab, stranger(kind, "theirs", labels=LABELS)) for kind in sorted(kinds)]


def _owned_by(reference: Callable[[Lab], list[Manifest]]) -> Callable[[Lab], list[Key]]:
    def act(lab: Lab) -> list[Key]:
        above = reference(lab)
        return [
            put(lab, stranger(kind, "theirs", labels=LABELS, ownerReferences=above))
            for kind in ("ConfigMap", "Service")
        ]

    return act


def another(lab: Lab) -> str:
    """The uid of another GoService; the garbage collector takes what names one that is not there."""
    lab.submit("other")
    return str(lab.world.all("GoService")[-1]["metadata"]["uid"])


def _elsewhere(lab: Lab) -> list[Key]:
    marks = {"labels": LABELS, "ownerReferences": owner(uid(lab))}
    kinds = {child.kind.kind for child in WRITTEN} - {"Job"}
    found = [put(lab, stranger(kind, "checkout", "bank", **marks)) for kind in sorted(kinds)]
    return [
        *found,
        forged_job(lab, "bank", ownerReferences=owner(uid(lab))),
        forged_pod(lab, job_uid(lab), "bank"),
    ]


def _job_of_nobody(lab: Lab) -> list[Key]:
    return [forged_job(lab)]


def _job_of_another(lab: Lab) -> list[Key]:
    key = forged_job(lab, ownerReferences=owner(another(lab)))
    return [key, forged_pod(lab, lab.world.all("Job")[-1]["metadata"]["uid"])]


def _half_owned_job(lab: Lab) -> list[Key]:
    key = forged_job(lab, ownerReferences=owner(uid(lab), controller=False))
    return [key, forged_pod(lab, lab.world.all("Job")[-1]["metadata"]["uid"])]


def _pods_of_another_job(lab: Lab) -> list[Key]:
    lab.world.add(stranger("Job", "theirs"))
    theirs = lab.world.find("Job", "shop", "theirs")
    assert theirs is not None
    return [
        forged_pod(lab, theirs["metadata"]["uid"]),
        forged_pod(lab, theirs["metadata"]["uid"], digest="\x1b[31m{{7*7}}", name="second"),
    ]


def _own_metadata(lab: Lab) -> list[Key]:
    key = put(lab, stranger("ConfigMap", "theirs"))
    made = lab.world.find(*key)
    assert made is not None
    marks = {
        "labels": {**LABELS, "app.kubernetes.io/instance": "x"},
        "annotations": {"kubectl.kubernetes.io/restartedAt": "x", names.COMMIT: "f" * 40},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "theirs",
                "uid": made["metadata"]["uid"],
            }
        ],
    }
    lab.world.edit("GoService", *KEY, lambda g: g["metadata"].update(marks))
    return [key]


def _second_service_on_the_first_ones_objects(lab: Lab) -> list[Key]:
    lab.submit("checkout-build")
    return []


def _status(lab: Lab) -> list[Key]:
    image = f"evil.example.com/x@{EVIL}"
    forged = {"servingImage": image, "latestImage": image, "url": "http://evil.example.com"}
    before = lab.world.all("GoService")[0]["status"]
    history = [{**item, "image": image} for item in before["history"]]
    lab.world.set_status("GoService", *KEY, {**before, **forged, "history": history})
    return []


def _image(lab: Lab) -> list[Key]:
    def change(live: Manifest) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["image"] = f"evil.example.com/x@{EVIL}"

    lab.world.edit("Deployment", *KEY, change)
    return []


def _given_away(lab: Lab) -> list[Key]:
    def change(live: Manifest) -> None:
        [ours] = live["metadata"]["ownerReferences"]
        live["metadata"]["ownerReferences"] = [{**ours, "kind": "App", "uid": "another"}]
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs"

    lab.world.edit("Deployment", *KEY, change)
    return [("Deployment", *KEY)]


def _names() -> Iterator[Attempt]:
    """The name of each object that is written; it counts where the service wants such an object."""
    service = f.service()
    wants = children.Wants(service, f.SETTINGS, deployed=Deployed("image", 1, "UTC"))
    for child in WRITTEN:
        kind, name = child.kind.kind, child.name(service)
        wanted = child.upkeep is not Upkeep.CREATED and child.wanted(wants) is not None
        reason = "NotOwned" if wanted else ""
        yield Attempt(f"the name {name} of a {kind}", sharing_a_name(kind, name), reason=reason)


ATTEMPTS = [
    *_names(),
    Attempt("the name of a claim for caches", _claim, reason="NotOwned"),
    Attempt("labels on objects of others", _labelled, late=True),
    Attempt("an owner of another uid", _owned_by(lambda lab: owner(another(lab))), late=True),
    Attempt(
        "an owner that is no controller",
        _owned_by(lambda lab: owner(uid(lab), controller=False)),
        late=True,
    ),
    Attempt("everything in another namespace", _elsewhere, late=True),
    Attempt("a finished Job of nobody", _job_of_nobody, late=True),
    Attempt("a finished Job of another uid, and its pod", _job_of_another, late=True),
    Attempt("a finished Job that is half owned, and its pod", _half_owned_job, late=True),
    Attempt("pods of another Job", _pods_of_another_job, late=True),
    Attempt("labels, annotations and owners of the GoService", _own_metadata, late=True),
    Attempt("a GoService called NAME-build", _second_service_on_the_first_ones_objects, late=True),
    Attempt("a forged status", _status, late=True),
    Attempt("another image in the Deployment", _image, late=True),
    Attempt("a Deployment that is given away", _given_away, late=True, reason="NotOwned"),
]


def is_ours(lab: Lab, manifest: Manifest) -> bool:
    """Whether the operator made it for this service; what is forged says otherwise somewhere."""
    return owned(manifest, uid(lab)) and manifest["metadata"]["namespace"] == "shop"


async def struggle(lab: Lab) -> None:
    """Passes of an operator, at last of a new one, while the cluster does its part."""
    for _ in range(3):
        with contextlib.suppress(errors.ClusterError):
            await lab.settle()
        lab.finish_build(only=lambda job: is_ours(lab, job))
        with contextlib.suppress(errors.ClusterError):
            await lab.settle()
        lab.roll_out(only=lambda deployment: is_ours(lab, deployment))
        lab.now += timedelta(seconds=30)
    lab.start()
    with contextlib.suppress(errors.ClusterError):
        await lab.settle()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.title)
async def test_it_reaches_nothing_that_is_not_the_services_own(attempt: Attempt) -> None:
    lab = Lab()
    asked: list[world.Request] = []
    lab.world.before = asked.append
    lab.submit()
    if attempt.late:
        await lab.serve()
    keys = attempt.act(lab)
    before = {key: copy.deepcopy(lab.world.find(*key)) for key in keys}
    assert all(before.values())
    jobs = len(lab.world.all("Job"))
    await struggle(lab)
    for key, manifest in before.items():
        assert lab.world.find(*key) == manifest, key
    assert {request.namespace for request in asked} == {"shop"}
    if attempt.reason:
        assert lab.ready() == ("False", attempt.reason)
        return
    assert lab.ready() == ("True", "Serving")
    assert lab.status()["servingImage"] == f"{REPOSITORY}@{f.DIGEST}"
    deployment = lab.world.find("Deployment", *KEY)
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{REPOSITORY}@{f.DIGEST}"
    if attempt.late:
        assert len(lab.world.all("Job")) == jobs


def test_there_are_many() -> None:
    assert len({attempt.title for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 20


# What more than GoServices may be written for: the limits of what comes of it


async def test_whoever_may_write_jobs_and_pods_chooses_the_digest_but_not_the_repository() -> None:
    """Who may do that may run any pod: what it gains them is an image of the service's own repository."""
    lab = Lab()
    lab.submit()
    await lab.serve()
    forged_job(lab, ownerReferences=owner(uid(lab)))
    forged_pod(lab, lab.world.all("Job")[-1]["metadata"]["uid"])
    await struggle(lab)
    assert lab.status()["servingImage"] == f"{REPOSITORY}@{EVIL}"


async def test_user_code_in_a_build_can_name_another_digest_but_not_another_repository() -> None:
    lab = Lab()
    lab.submit()
    await lab.settle()
    lab.finish_build(EVIL)
    await struggle(lab)
    assert lab.status()["servingImage"] == f"{REPOSITORY}@{EVIL}"


@pytest.mark.parametrize("told", [f"{EVIL}\nUSER root", f"evil.example.com/x@{EVIL}", EVIL.upper()])
async def test_user_code_in_a_build_cannot_name_anything_but_a_digest(told: str) -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    lab.git.sha = f.NEWER
    await lab.settle()
    lab.finish_build(told)
    await struggle(lab)
    assert lab.ready() == ("False", "BuildFailed")
    assert lab.status()["servingImage"] == f"{REPOSITORY}@{f.DIGEST}"


async def test_what_somebody_declares_to_be_the_services_own_goes_with_its_builds() -> None:
    """Kubernetes' garbage collector would take it as well; nothing else of that object's is reached."""
    lab = Lab()
    lab.submit()
    await lab.serve()
    above = owner(uid(lab))
    declared = put(lab, stranger("ConfigMap", "theirs", labels=LABELS, ownerReferences=above))
    kept = put(lab, stranger("Service", "theirs", labels=LABELS, ownerReferences=above))
    await struggle(lab)
    assert lab.world.find(*declared) is None
    assert lab.world.find(*kept) is not None
    assert lab.ready() == ("True", "Serving")


async def test_two_services_of_one_repository_do_not_change_each_others_image() -> None:
    lab = Lab()
    lab.submit()
    await lab.serve()
    before = lab.world.find("Deployment", *KEY)
    lab.submit("other")
    await lab.settle(("shop", "other"))
    lab.finish_build(EVIL)
    await lab.settle(("shop", "other"))
    await struggle(lab)
    assert lab.world.find("Deployment", *KEY) == before
    other = lab.world.find("Deployment", "shop", "other")
    assert other is not None
    assert other["spec"]["template"]["spec"]["containers"][0]["image"] == f"{REPOSITORY}@{EVIL}"
