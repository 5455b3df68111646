"""Plain factories for tests: services, settings and the objects that a cluster would show."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from goservice import names, settings
from goservice.api import parsing, resource
from goservice.build.inputs import inputs_hash
from goservice.data import data_dir
from goservice.decide.observed import Observed, Resolution
from goservice.manifest import Manifest
from goservice.objects.job import build_job

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
"""The moment at which tests decide."""
COMMIT = "1" * 40
"""The commit that the repository has."""
NEWER = "2" * 40
"""The commit after it."""
DIGEST = "sha256:" + "a" * 64
"""What a build of a test pushes."""
OTHER_DIGEST = "sha256:" + "b" * 64
"""What another build pushes."""
UID = "7b3c6f0e-0000-4000-8000-000000000001"
"""The GoService's."""
SETTINGS = settings.load(data_dir("manifests") / "operator" / "settings.yaml", {})
"""The settings that the manifests install."""


def body(
    *, generation: int = 1, annotations: dict[str, str] | None = None, **changes: Any
) -> Manifest:
    """A GoService as the API server stores it; `changes` replace fields of its spec."""
    wanted: Manifest = {
        "source": {"git": {"url": "https://git.example.com/shop/checkout.git"}},
        "image": {"repository": "registry.example.com/shop/checkout"},
    }
    wanted.update(copy.deepcopy(changes))
    metadata: Manifest = {
        "name": "checkout",
        "namespace": "shop",
        "uid": UID,
        "generation": generation,
        "annotations": annotations or {},
    }
    return {
        "apiVersion": resource.API_VERSION,
        "kind": resource.KIND,
        "metadata": metadata,
        "spec": wanted,
    }


def service(
    *, generation: int = 1, annotations: dict[str, str] | None = None, **changes: Any
) -> resource.GoService:
    """The same, parsed."""
    return parsing.parse(body(generation=generation, annotations=annotations, **changes))


def later(seconds: float) -> datetime:
    """A moment after NOW."""
    return NOW + timedelta(seconds=seconds)


def stamp(moment: datetime) -> str:
    """A moment as the API server writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def observed(*manifests: Manifest, status: Manifest | None = None, **more: Any) -> Observed:
    """A world with these children."""
    more.setdefault("resolution", Resolution(sha=COMMIT))
    children = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    return Observed(status=status or {}, children=children, **more)


def job(
    owner: resource.GoService,
    *,
    commit: str = COMMIT,
    attempt: int = 1,
    ended: str = "",
    ended_reason: str = "",
    created: datetime = NOW,
    finished: datetime | None = None,
    notes: Mapping[str, str] | None = None,
) -> Manifest:
    """A build Job as the API server shows it. `ended`: Complete, Failed or nothing."""
    inputs = inputs_hash(owner, SETTINGS, commit)
    every = {
        names.GENERATION: str(owner.generation),
        names.TRIES: "1",
        names.TRIGGER: "FirstBuild",
        **(notes or {}),
    }
    made = build_job(owner, SETTINGS, commit, inputs, attempt=attempt, notes=every)
    made["metadata"] |= {
        "uid": f"job-{inputs}-{attempt}",
        "creationTimestamp": stamp(created),
        "resourceVersion": "1",
    }
    made["status"] = {}
    if ended:
        at = stamp(finished or later(60))
        condition = {
            "type": ended,
            "status": "True",
            "reason": ended_reason,
            "lastTransitionTime": at,
        }
        made["status"] = {"conditions": [condition]}
        if ended == "Complete":
            made["status"]["completionTime"] = at
    return made


FETCHED = (
    '{"commit": "%s", "time": "2026-11-24T11:59:00+00:00", "author": "A. Author",'
    ' "subject": "Take payments", "go": "1.26", "toolchain": ""}'
)
"""The fetch container's report, in which the commit is to be put."""


def terminated(name: str, code: int = 0, message: str = "", reason: str = "") -> Manifest:
    """A container status that has ended."""
    state = {
        "exitCode": code,
        "message": message,
        "reason": reason or ("Error" if code else "Completed"),
    }
    return {"name": name, "state": {"terminated": state}}


def pod(
    owner_job: Manifest,
    *,
    init: list[Manifest] | None = None,
    main: list[Manifest] | None = None,
    **status: Any,
) -> Manifest:
    """The pod of a build Job with these container statuses; a successful one if none are given."""
    commit = owner_job["metadata"]["annotations"][names.COMMIT]
    if init is None and main is None:
        init = [terminated("fetch", message=FETCHED % commit), terminated("build", message=DIGEST)]
        main = [terminated("push")]
    metadata = {
        "name": owner_job["metadata"]["name"] + "-abcde",
        "namespace": "shop",
        "uid": "pod-" + owner_job["metadata"]["uid"],
        "creationTimestamp": owner_job["metadata"]["creationTimestamp"],
        "ownerReferences": [
            {"kind": "Job", "uid": owner_job["metadata"]["uid"], "controller": True}
        ],
    }
    full = {"initContainerStatuses": init or [], "containerStatuses": main or [], **status}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": full}


def broken_pod(owner_job: Manifest, log: str = "undefined: x") -> Manifest:
    """The pod of a build Job whose program does not compile."""
    commit = owner_job["metadata"]["annotations"][names.COMMIT]
    fetched = terminated("fetch", message=FETCHED % commit)
    return pod(owner_job, init=[fetched, terminated("build", 1, log)])


def settled(manifest: Manifest, *, replicas: int | None = None, generation: int = 1) -> Manifest:
    """A Deployment as it looks when it has rolled out."""
    live = copy.deepcopy(manifest)
    count = live["spec"].get("replicas", 1) if replicas is None else replicas
    live["spec"]["replicas"] = count
    live["metadata"] |= {"uid": "deployment", "generation": generation, "resourceVersion": "5"}
    live["status"] = {
        "observedGeneration": generation,
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": count,
        "availableReplicas": count,
        "conditions": [
            {"type": "Available", "status": "True"},
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable",
                "lastUpdateTime": stamp(NOW),
            },
        ],
    }
    return live


def live(manifest: Manifest) -> Manifest:
    """Any other object as the API server shows it."""
    shown = copy.deepcopy(manifest)
    shown["metadata"] |= {"uid": f"{manifest['kind']}-uid", "resourceVersion": "5"}
    return shown
