"""`observed.yaml`: what is seen of a service in one pass, written by a person and read strictly."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from goservice.api import parsing
from goservice.api.conditions import Reason
from goservice.api.resource import API_VERSION, KIND
from goservice.decide.observed import Fleet, Lookup, Observed, Resolution
from goservice.manifest import Manifest
from goservice.settings import Settings
from tests.golden import plain_yaml
from tests.golden.first_life import Place, Stage, first_life, uid_of
from tests.golden.merge import patched


class BadCase(Exception):
    """A case that cannot be read as it is written; the message says what to correct."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, use_attribute_docstrings=True
    )


class Made(_Part):
    """What the operator made before, and a cluster shows of it."""

    stage: Stage
    """How far it had come."""
    of: dict[str, Any] = {}
    """What the resource said then, where it said something else: laid over goservice.yaml."""


class Answer(_Part):
    """What the repository answered."""

    sha: str = ""
    """The newest commit that is known, 40 hex digits."""
    reason: Reason | None = None
    """Why the last question had no answer."""
    message: str = ""
    """The same, in a sentence."""
    fresh: bool = False
    """Whether it was asked after the rebuild request was seen."""
    tag: str = ""
    """The commit of a tag that has the branch's name, 40 hex digits."""


class Others(_Part):
    """The other services' builds."""

    running: int = 0
    """Builds that hold a build slot."""
    ahead: int = 0
    """Services whose turn comes before."""
    running_here: int = 0
    """Of those builds, the ones in the service's namespace."""
    ahead_here: int = 0
    """Of those services, the ones in the service's namespace."""
    before: int = 0
    """Services of the namespace that have waited longer."""


class Found(_Part):
    """What a lookup of an earlier pass found."""

    kind: Literal["Pod", "Event"]
    """Of what was asked for."""
    label_selector: str = ""
    """As the plan asked."""
    field_selector: str = ""
    """As the plan asked."""
    occasion: str = ""
    """As the plan asked."""
    found: list[dict[str, Any]]
    """The objects."""


class ObservedFile(_Part):
    """All keys of observed.yaml."""

    now: AwareDatetime
    """The time of the pass. A first life begins at 2026-11-24T12:00:00Z."""
    generation: int = 1
    """The resource's."""
    made: Made | None = None
    """A stage of a first life to start from."""
    change: dict[str, dict[str, Any] | None] = {}
    """What is otherwise: changes by `Kind name`, or `status`. Null: it is not there."""
    objects: list[dict[str, Any]] = []
    """More objects; without ownerReferences they are the service's own."""
    status: dict[str, Any] | None = None
    """The whole status as last written; as made if it is left out."""
    resolution: Answer | None = None
    """The repository's answer; left out if there was none yet."""
    fleet: Others = Others()
    """The other services' builds."""
    lookups: list[Found] = []
    """What lookups found."""
    foreign: list[str] = []
    """Objects, as `Kind name`, that stand where ours should and are not ours."""
    refusal: str = ""
    """The API server's words when it refused an object."""
    absent: list[str] = []
    """Optional kinds that the cluster does not serve."""


_PARTS: Mapping[tuple[str, ...], type[_Part]] = {
    (): ObservedFile,
    ("made",): Made,
    ("resolution",): Answer,
    ("fleet",): Others,
    ("lookups",): Found,
}
"""Where each part stands."""


@dataclass(frozen=True)
class Given:
    """A case's world, as it goes into `decide`."""

    body: Manifest
    """The resource as the API server has it."""
    observed: Observed
    """What is seen of it."""
    now: datetime
    """The time of the pass."""


def read(path: Path) -> ObservedFile:
    """The file.

    Raises:
        BadCase: with a line for each key that is unknown, missing or of the wrong type.
    """
    try:
        return ObservedFile.model_validate(plain_yaml.load(path.read_text()) or {})
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            place = ".".join(map(str, fault["loc"]))
            what = fault["msg"]
            if fault["type"] == "extra_forbidden":
                part = _PARTS[tuple(step for step in fault["loc"][:-1] if isinstance(step, str))]
                known = (field.alias or name for name, field in part.model_fields.items())
                what = f"no such key; there are: {', '.join(known)}"
            lines.append(f"{path.parent.name}/{path.name}: {place}: {what}")
        raise BadCase("\n".join(lines)) from None


def given(path: Path, body: Manifest, settings: Settings, go: str) -> Given:
    """The world that the file tells of.

    Raises:
        BadCase: what it says does not fit together.
    """
    file = read(path)
    children: dict[Place, Manifest] = {}
    status: Manifest = {}
    if file.made is not None:
        then = parsing.parse(patched(body, file.made.of))
        world = first_life(then, settings, go, file.made.stage)
        children, status = copy.deepcopy(world.children), world.status
    if file.status is not None:
        status = file.status
    for words, change in file.change.items():
        if words == "status":
            status = patched(status, change or {})
            continue
        place = _place(words)
        if place not in children:
            there = ", ".join(" ".join(known) for known in children) or "nothing"
            raise BadCase(f"{path.parent.name}: change: there is no {words}; there is: {there}")
        if change is None:
            del children[place]
        else:
            children[place] = patched(children[place], change)
    for written in file.objects:
        manifest = _own(written, body)
        place = (manifest["kind"], manifest["metadata"]["name"])
        if place in children:
            raise BadCase(f"{path.parent.name}: objects: {' '.join(place)} is made: change it")
        children[place] = manifest
    namespace = body["metadata"]["namespace"]
    observed = Observed(
        status=status,
        children=children,
        resolution=Resolution(**file.resolution.model_dump()) if file.resolution else None,
        fleet=Fleet(**file.fleet.model_dump()),
        lookups={
            Lookup(
                asked.kind,
                namespace,
                label_selector=asked.label_selector,
                field_selector=asked.field_selector,
                occasion=asked.occasion,
            ): tuple(asked.found)
            for asked in file.lookups
        },
        foreign=frozenset(_place(words) for words in file.foreign),
        refusal=file.refusal,
        absent=frozenset(file.absent),
    )
    metadata = {**body["metadata"], "generation": file.generation}
    return Given({**body, "metadata": metadata}, observed, file.now)


def _place(words: str) -> Place:
    kind, _, name = words.partition(" ")
    return kind, name


def _own(manifest: Manifest, body: Manifest) -> Manifest:
    """An object of the file with what need not be written there."""
    metadata = manifest["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": body["metadata"]["name"],
        "uid": body["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    full = {
        "namespace": body["metadata"]["namespace"],
        "uid": uid_of(manifest["kind"], metadata["name"]),
        "ownerReferences": [owner],
        **metadata,
    }
    return {**manifest, "metadata": full}
