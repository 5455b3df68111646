"""Whatever others write on what the operator reads, a pass ends with a plan and a good status."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from goservice import names
from goservice.api import resource
from goservice.api.status import Status
from goservice.decide import plan, writes
from goservice.decide.observed import Observed
from goservice.decide.writes import Apply
from tests.support import factories as f

SERVICE = f.service()
GARBAGE = [
    "",
    "x",
    "-1",
    "0",
    "1e9",
    "²",
    "٣",
    "9" * 12,
    "9" * 5000,
    "z" * 5000,
    "\x1b[31mred\nTRUE",
    "{{7*7}}",
    "null",
    "sha256:" + "A" * 64,
    "../../etc/passwd",
]
WRITTEN = sorted(
    value
    for value in vars(names).values()
    if isinstance(value, str) and value.startswith("goservice.dev/")
)
"""Every label and annotation of ours."""


def decide(service: resource.GoService, world: Observed) -> writes.Plan:
    decided = plan.decide(service, world, f.SETTINGS, f.later(3600))
    if decided.status is not None:
        Status.model_validate_json(json.dumps(dict(decided.status)), strict=True)
    for write in decided.writes:
        if isinstance(write, Apply) and write.manifest["kind"] == "Deployment":
            (container,) = write.manifest["spec"]["template"]["spec"]["containers"]
            assert container["image"].startswith("registry.example.com/shop/checkout@sha256:")
    return decided


def serving() -> dict[str, dict[str, Any]]:
    """By kind, the objects of a service that serves."""
    job = f.job(SERVICE, ended="Complete")
    made = {"Job": job, "Pod": f.pod(job)}
    for write in decide(SERVICE, f.observed(*made.values())).writes:
        if isinstance(write, Apply):
            live = write.manifest
            settle = f.settled if live["kind"] == "Deployment" else f.live
            made[live["kind"]] = settle(live)
    return made


WORLD = serving()
STATUS = dict(decide(SERVICE, f.observed(*WORLD.values())).status or {})


def worlds(made: dict[str, dict[str, Any]]) -> Iterator[Observed]:
    """With and without its status, its Job and its pod."""
    for status in (STATUS, {}):
        for left_out in ((), ("Pod",), ("Job", "Pod")):
            yield f.observed(*(m for k, m in made.items() if k not in left_out), status=status)


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
@pytest.mark.parametrize("key", WRITTEN)
def test_garbage_in_an_annotation_that_is_read(kind: str, key: str) -> None:
    for text in GARBAGE:
        made = copy.deepcopy(WORLD)
        made[kind]["metadata"].setdefault("annotations", {})[key] = text
        for world in worlds(made):
            decide(SERVICE, world)


@pytest.mark.parametrize("key", [resource.REBUILD_ANNOTATION, resource.RESTART_ANNOTATION])
def test_garbage_in_a_request(key: str) -> None:
    for text in GARBAGE:
        for world in worlds(WORLD):
            decide(f.service(annotations={key: text}), world)


NESTED = ["[" * 4090, '{"a":' * 800, '{"go": [' * 500]
REPORTS = [
    *GARBAGE,
    *NESTED,
    '{"go": {}, "commit": [], "time": 1e999, "author": null}',
    "[1]",
    '""',
]


@pytest.mark.parametrize("container", [0, 1])
@pytest.mark.parametrize("code", [0, 1])
def test_garbage_in_a_termination_message(container: int, code: int) -> None:
    for text in REPORTS:
        made = copy.deepcopy(WORLD)
        ends = made["Pod"]["status"]["initContainerStatuses"]
        ends[container] = f.terminated(ends[container]["name"], code, text)
        if code:
            made["Job"] = f.job(SERVICE, ended="Failed", ended_reason="BackoffLimitExceeded")
        for world in worlds({"Job": made["Job"], "Pod": made["Pod"]}):
            decide(SERVICE, world)


def test_garbage_in_a_status_that_somebody_wrote() -> None:
    """Only who may write `goservices/status` can; of the roles here none but the operator's may."""
    name = STATUS["history"][0]["build"]
    images = ["", "x", "evil.example.com/x@sha256:" + "b" * 64, f"x@{'9' * 100}"]
    for image, outcome, at in itertools.product(
        images, ["Succeeded", "Evicted", "x"], ["", "x", "0001-01-01T00:00:00+23:59"]
    ):
        item = {"build": name, "outcome": outcome, "builtAt": at, "image": image}
        history = [item, {"build": name + "9" * 200, "outcome": "Succeeded"}]
        for world in worlds(WORLD):
            decide(SERVICE, dataclasses.replace(world, status={**world.status, "history": history}))
            alone = f.observed(status={"history": history, "observedGeneration": 1})
            decide(SERVICE, alone)
