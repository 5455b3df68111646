"""A field says what it reaches: that is true of every field, and no hash of old has changed.

Each field is tried: what an image is made of and the pods are compared before and after a change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel

from goservice import names, settings
from goservice.api import crd, resource
from goservice.api.reaches import Reaches, answers, reaching, renamed
from goservice.build import dockerfile
from goservice.build.inputs import inputs_hash
from goservice.objects.pod_template import Deployed, pod_template
from goservice.objects.template_inputs import template_hash
from goservice.settings import Settings
from tests.contract import old_hashes
from tests.support import corpus
from tests.support import factories as f

RECORDED = yaml.safe_load(old_hashes.FILE.read_text())


# --- one field after the other ----------------------------------------------------------------------

HASHED_ALL_THE_SAME = {"ports.servicePort"}
"""No input of the pod template, but in its hash since the first version."""

SAME_IMAGE = {"build.toolchain"}
"""Changes the Dockerfile, but not the image that comes out: the tests on a node hold that."""


def services(path: str) -> tuple[resource.GoService, resource.GoService]:
    """A service before and after a change of the field."""
    before, after = corpus.otherwise(path)
    return f.service(**before), f.service(**after)


def running(service: resource.GoService) -> Deployed:
    image = names.image(service, service.spec.image.digest or f.DIGEST)
    return Deployed(image, service.spec.user.uid, service.spec.time_zone)


def made_of(service: resource.GoService) -> tuple[object, ...]:
    """What decides what an image is and where it goes."""
    source = service.spec.source
    assert source is not None
    return (
        source.git.url,
        source.git.directory,
        dockerfile.render(service, f.SETTINGS, f.COMMIT, "inputs"),
        names.destination(service, f.COMMIT, "inputs"),
    )


def effect(path: str) -> Reaches:
    """What a change of a field makes anew: found by making one."""
    before, after = services(path)
    if made_of(before) != made_of(after) and path not in SAME_IMAGE:
        return Reaches.IMAGE
    pods = [pod_template(s, f.SETTINGS, running(s)) for s in (before, after)]
    return Reaches.POD if pods[0] != pods[1] else Reaches.NOTHING


def leaves(node: Any, path: str = "") -> Iterator[str]:
    for name, below in node.get("properties", {}).items():
        full = f"{path}.{name}".strip(".")
        inside = below.get("items", below)
        if "properties" in inside:
            yield from leaves(inside, full)
        else:
            yield full


def said(path: str) -> set[Reaches | None]:
    """What the field and all that is below it say, but for what is tried on its own."""
    every = {known.replace("[]", ""): reaches for known, reaches in answers(resource.Spec).items()}
    return {
        reaches
        for known, reaches in every.items()
        if (known == path or known.startswith(f"{path}."))
        and (known == path or known not in corpus.OTHERWISE)
    }


def test_every_field_has_a_value_that_is_tried() -> None:
    tried = tuple(corpus.OTHERWISE)
    for path in leaves(crd.schema(resource.Spec)):
        assert any(path == known or path.startswith(f"{known}.") for known in tried), path


@pytest.mark.parametrize("path", corpus.OTHERWISE)
def test_a_field_reaches_what_it_says(path: str) -> None:
    assert said(path) == {effect(path)}


@pytest.mark.parametrize("path", corpus.OTHERWISE)
def test_what_a_field_reaches_has_it_in_its_hash(path: str) -> None:
    """Else a change would not be built, or be taken for one of the operator's own and not applied."""
    before, after = services(path)
    (reaches,) = said(path)
    built = {inputs_hash(s, f.SETTINGS, f.COMMIT) for s in (before, after)}
    assert (len(built) == 2) == (reaches is Reaches.IMAGE)
    image = running(before if reaches is Reaches.IMAGE else after)
    pods = {
        template_hash(before, f.SETTINGS, running(before)),
        template_hash(after, f.SETTINGS, image),
    }
    assert (len(pods) == 2) == (reaches is Reaches.POD or path in HASHED_ALL_THE_SAME)


@pytest.mark.parametrize(
    ("path", "reaches"),
    [
        ("build.tags", Reaches.IMAGE),
        ("build.baseImage", Reaches.IMAGE),
        ("timeZone", Reaches.IMAGE),
        ("env", Reaches.POD),
        ("ports", Reaches.POD),
        ("ports.servicePort", Reaches.NOTHING),
        ("image.digest", Reaches.POD),
        ("image.pullSecretRefs", Reaches.POD),
        ("build.timeoutSeconds", Reaches.NOTHING),
        ("rollout.maxSurge", Reaches.NOTHING),
        ("autoscaling", Reaches.NOTHING),
        ("suspend", Reaches.NOTHING),
    ],
)
def test_the_effect_of_a_change_is_found_by_making_one(path: str, reaches: Reaches) -> None:
    assert effect(path) is reaches


SERVICES: dict[str, Any] = {
    "resources": settings.Compute(limits={"memory": "1Gi"}),
    "tmp_size_limit": "1Gi",
    "run_as_user": False,
}
"""Another value of every setting of `services`."""


def test_every_setting_of_services_is_tried() -> None:
    assert set(SERVICES) == set(settings.Services.model_fields)


@pytest.mark.parametrize("name", SERVICES)
def test_a_setting_reaches_the_pods_as_it_says(name: str) -> None:
    alias = settings.Services.model_fields[name].alias
    assert answers(settings.Services)[str(alias)] is Reaches.POD
    changed = platform(services=f.SETTINGS.services.model_copy(update={name: SERVICES[name]}))
    pods = [pod_template(f.service(), s, running(f.service())) for s in (f.SETTINGS, changed)]
    assert pods[0] != pods[1]
    assert template(f.service()) != template(f.service(), changed)


# --- a new field --------------------------------------------------------------------------------------


def test_every_field_says_what_it_reaches() -> None:
    assert set(answers(resource.Spec)) >= {"env[].value", "image.tag", "rollout"}
    assert set(answers(Settings)) >= {"services.resources.limits", "port"}


def test_a_new_field_without_an_answer_is_told_what_to_write() -> None:
    class Forgetful(resource.Spec):
        priority: int = 0

    with pytest.raises(TypeError, match=r"Forgetful.priority does not say .* write Annotated\["):
        answers(Forgetful)


class Image(resource.Image):
    pull_always: Annotated[bool, Reaches.POD] = False
    labelled: Annotated[bool, Reaches.IMAGE] = False


class Git(resource.Git):
    submodules: Annotated[bool, Reaches.IMAGE] = False


class Source(resource.Source):
    git: Git


class Rollout(resource.Rollout):
    min_ready_seconds: Annotated[int, Reaches.NOTHING] = 0
    drain: Annotated[bool, Reaches.POD] = False


class Spec(resource.Spec):
    """The resource of some later day, with a new field in every kind of place."""

    source: Source
    image: Image
    rollout: Rollout = Rollout()
    shared_memory: Annotated[str | None, Reaches.POD] = None
    stripped: Annotated[bool, Reaches.IMAGE] = False
    note: Annotated[str, Reaches.NOTHING] = ""


class Services(settings.Services):
    runtime_class: Annotated[str, Reaches.POD] = ""
    note: Annotated[str, Reaches.NOTHING] = ""


class Builds(settings.Builds):
    trimmed: Annotated[bool, Reaches.IMAGE] = False


def of_later(**changes: Any) -> resource.GoService:
    body = f.body()["spec"]
    for group, fields in changes.items():
        body[group] = {**body.get(group, {}), **fields} if isinstance(fields, dict) else fields
    return replace(f.service(), spec=Spec.model_validate(body))


def platform(**changes: Any) -> Settings:
    return f.SETTINGS.model_copy(update=changes)


def template(service: resource.GoService, settings: Settings = f.SETTINGS) -> str:
    return template_hash(service, settings, running(f.service()))


def inputs(service: resource.GoService, settings: Settings = f.SETTINGS) -> str:
    return inputs_hash(service, settings, f.COMMIT)


def test_a_new_field_changes_no_hash_while_it_has_its_default() -> None:
    written = of_later(shared_memory=None, stripped=False, rollout={"drain": False})
    for service in (of_later(), written):
        assert inputs(service) == inputs(f.service())
        assert template(service) == template(f.service())


URL = f.body()["spec"]["source"]["git"]["url"]


@pytest.mark.parametrize(
    ("changes", "reaches"),
    [
        ({"sharedMemory": "1Gi"}, Reaches.POD),
        ({"rollout": {"drain": True}}, Reaches.POD),
        ({"image": {"pullAlways": True}}, Reaches.POD),
        ({"stripped": True}, Reaches.IMAGE),
        ({"image": {"labelled": True}}, Reaches.IMAGE),
        ({"source": {"git": {"url": URL, "submodules": True}}}, Reaches.IMAGE),
        ({"note": "a"}, Reaches.NOTHING),
        ({"rollout": {"minReadySeconds": 3}}, Reaches.NOTHING),
    ],
)
def test_a_new_field_is_in_the_hash_of_what_it_reaches(
    changes: dict[str, Any], reaches: Reaches
) -> None:
    service = of_later(**changes)
    assert (inputs(service) != inputs(of_later())) == (reaches is Reaches.IMAGE)
    assert (template(service) != template(of_later())) == (reaches is Reaches.POD)


def test_a_new_setting_restarts_nobody_until_it_is_set() -> None:
    was = dict(f.SETTINGS.services)
    unset = platform(services=Services(**was))
    assert template(f.service(), unset) == template(f.service())
    noted = platform(services=Services(**was, note="a"))
    assert template(f.service(), noted) == template(f.service())
    changed = platform(services=Services(**was, runtime_class="gvisor"))
    assert template(f.service(), changed) != template(f.service())


def test_a_new_setting_rebuilds_nobody_until_it_is_set() -> None:
    was = dict(f.SETTINGS.builds)
    assert inputs(f.service(), platform(builds=Builds(**was))) == inputs(f.service())
    changed = platform(builds=Builds(**was, trimmed=True))
    assert inputs(f.service(), changed) != inputs(f.service())


class Part(BaseModel):
    shown: Annotated[int, Reaches.POD] = 1
    hidden: Annotated[int, Reaches.NOTHING] = 1


class Whole(BaseModel):
    asked: Annotated[Part | None, Reaches.POD] = None
    either: Part | None = None
    other: Part = Part(shown=2)
    every: Annotated[list[Part], Reaches.POD] = [Part()]


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({}, {}),
        ({"asked": Part(hidden=2)}, {"asked": {}}),
        ({"either": Part(hidden=2)}, {}),
        ({"either": Part(shown=2, hidden=2)}, {"either": {"shown": 2}}),
        ({"other": Part(shown=2, hidden=2)}, {}),
        ({"other": Part(hidden=2)}, {"other": {}}),
        ({"every": [Part(hidden=2)]}, {}),
        ({"every": [Part(), Part(hidden=2)]}, {"every": [{}, {}]}),
        ({"every": []}, {"every": []}),
    ],
)
def test_of_a_group_the_part_that_reaches_is_compared_with_the_default(
    changes: dict[str, Any], written: dict[str, Any]
) -> None:
    assert reaching(Whole(**changes), Reaches.POD) == written


def test_an_answer_inside_a_union_counts() -> None:
    class Part(BaseModel):
        inside: Annotated[int, Reaches.NOTHING] | None = None
        outside: Annotated[int | None, Reaches.NOTHING] = None

    class Whole(BaseModel):
        part: Annotated[Part, Reaches.POD] = Part()

    assert answers(Whole) == {
        "part": Reaches.POD,
        "part.inside": Reaches.NOTHING,
        "part.outside": Reaches.NOTHING,
    }


def test_a_field_that_is_renamed_leaves_its_group() -> None:
    written = {"go": {"a": 1}, "image": {"tag": "t"}, "source": {"git": {}, "other": 2}}
    other = {"go": "runtime", "image.tag": "tag", "source.git": "git", "source.none": "none"}
    assert renamed(written, other) == {
        "runtime": {"a": 1},
        "tag": "t",
        "git": {},
        "source": {"other": 2},
    }
    assert written["image"] == {"tag": "t"}


# --- the hashes of old --------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", RECORDED["settings"])
@pytest.mark.parametrize("name", RECORDED["services"])
def test_a_hash_of_old_comes_out_the_same(name: str, setting: str) -> None:
    recorded = RECORDED["services"][name]
    found = old_hashes.hashes(recorded, RECORDED["settings"][setting])
    assert found == recorded["hashes"][setting]


def test_the_hashes_of_old_are_of_many_services() -> None:
    assert len(RECORDED["services"]) >= 30
    assert len(RECORDED["settings"]) >= 3
    assert old_hashes.unwritten(RECORDED) == [], "make golden records them"


def test_what_is_recorded_anew_changes_no_line_of_old() -> None:
    text = "# of old\n" + yaml.safe_dump(
        {**RECORDED, "services": {"minimal": {"spec": {}}}}, sort_keys=False
    )
    longer = old_hashes.recorded(text)
    assert longer.startswith(text)
    services = yaml.safe_load(longer)["services"]
    assert list(services) == ["minimal", *corpus.OTHERWISE]
    assert services["args"]["spec"]["args"] == ["a"]
    assert old_hashes.recorded(longer) == longer
    for setting, given in RECORDED["settings"].items():
        assert services["args"]["hashes"][setting] == old_hashes.hashes(services["args"], given)
