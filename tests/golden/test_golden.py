"""Every case of tests/golden: what people write, and every file that comes of it.

UPDATE_GOLDEN=1 writes the made files anew; the difference is then read like any other change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import validate

from goservice.manifest import find_condition
from goservice.objects.children import CHILDREN, optional_kinds
from tests.golden.cases import Case, all_cases, first_writes
from tests.golden.first_life import COMMIT, ROLLED_OUT
from tests.golden.observed_file import BadCase

CASES = all_cases()
LIVES = [case for case in CASES if (case.folder / "objects.yaml").exists()]
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
HADOLINT = Path(sys.executable).with_name("hadolint")


def called(value: Case | Path) -> str:
    return value.name if isinstance(value, Case) else value.parent.name


@pytest.mark.parametrize("case", CASES, ids=called)
def test_case(case: Case) -> None:
    if UPDATE:
        case.update()
    assert case.found() == case.made()


@pytest.mark.parametrize("case", CASES, ids=called)
def test_names_tell_what_a_case_is(case: Case) -> None:
    assert case.name.startswith("error-") == (case.folder / "error.txt").exists()
    assert case.name.startswith("plan-") == case.has_world


def test_there_are_cases() -> None:
    assert {"classic", "minimal"} <= {case.name for case in CASES}


# --- what is applied -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", LIVES, ids=called)
def test_objects_are_valid_in_the_oldest_and_the_newest_kubernetes(case: Case) -> None:
    objects = list(yaml.safe_load_all((case.folder / "objects.yaml").read_text()))
    places = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects]
    assert len(set(places)) == len(places) >= 2
    # What a cluster may not serve is not of Kubernetes itself, which has no schema of it.
    of_kubernetes = [each for each in objects if each["kind"] not in optional_kinds(CHILDREN)]
    for version in ("1.33", "1.37"):
        for manifest in of_kubernetes:
            validate(manifest, version, strict=True)


@pytest.mark.parametrize("case", LIVES, ids=called)
def test_a_first_life_ends_with_a_service_that_is_left_alone(case: Case) -> None:
    world = case.first_life()
    assert find_condition(world.status, "Ready")["status"] == "True"
    world.passes(ROLLED_OUT, "" if world.service.spec.image.digest else COMMIT)
    last = world.plans[-1]
    assert (last.writes, last.status, last.requeue_after) == ((), None, None)
    assert first_writes(world)


@pytest.mark.parametrize("file", sorted(Path(__file__).parent.glob("*/Dockerfile")), ids=called)
def test_hadolint_finds_nothing(file: Path) -> None:
    policy = Path(__file__).parents[2] / ".hadolint.yaml"
    run = subprocess.run(
        [HADOLINT, "--no-color", "--config", policy, file], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "")


# --- what is wrong with a case is said -----------------------------------------------------------


def copied(name: str, to: Path) -> Case:
    shutil.copytree(Path(__file__).parent / name, to / name)
    return Case(to / name)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("resolutoin: {}", "resolutoin: no such key; there are: now, generation, made, change"),
        ("fleet: {runing: 1}", "fleet.runing: no such key; there are: running, ahead"),
        ("generation: two", "generation: Input should be a valid integer"),
        ("resolution: {reason: GitIsDown}", "resolution.reason: "),
        ("change: {Job pay: {}}", "change: there is no Job pay; there is: nothing"),
        (
            "lookups: [{kind: Pod, occasion: never, found: []}]",
            "lookups: nobody asks for Lookup\\(kind='Pod'",
        ),
    ],
)
def test_a_mistake_in_observed_yaml_is_named(tmp_path: Path, more: str, said: str) -> None:
    case = copied("minimal", tmp_path)
    (case.folder / "observed.yaml").write_text(f"now: 2026-11-24T12:00:00Z\n{more}\n")
    with pytest.raises(BadCase, match=said):
        case.made()


def test_an_object_that_is_made_is_not_given_too(tmp_path: Path) -> None:
    case = copied("minimal", tmp_path)
    (case.folder / "observed.yaml").write_text(
        "now: 2026-11-24T12:00:00Z\n"
        "made: {stage: serving}\n"
        "objects: [{kind: Deployment, metadata: {name: checkout}}]\n"
    )
    with pytest.raises(BadCase, match="objects: Deployment checkout is made: change it"):
        case.made()


def test_a_missing_a_superfluous_and_a_changed_file_fail(tmp_path: Path) -> None:
    case = copied("minimal", tmp_path)
    (case.folder / "plan.yaml").write_text("writes: []\n")
    assert case.found() != case.made()
    case.update()
    assert case.found() == case.made()
    (case.folder / "Dockerfile").unlink()
    assert case.found() != case.made()
    case.update()
    (case.folder / "objects.yaml").write_text("")
    assert case.found() != case.made()


def test_an_update_writes_only_what_is_made(tmp_path: Path) -> None:
    case = copied("minimal", tmp_path)
    (case.folder / "observd.yaml").write_text("now: 2026-11-24T12:00:00Z\n")
    before = (case.folder / "goservice.yaml").read_text()
    case.update()
    assert (case.folder / "goservice.yaml").read_text() == before
    assert set(case.found()) - set(case.made()) == {"observd.yaml"}
