"""Every case of tests/golden: what a user writes, and every file that comes of it.

UPDATE_GOLDEN=1 writes the files anew; the difference is then read like any other change.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import validate

from goservice import settings
from goservice.api import parsing, resource
from goservice.build import dockerfile
from goservice.build.inputs import inputs_hash
from goservice.cli import offline
from goservice.data import data_dir
from goservice.errors import InvalidSpec

GOLDEN = Path(__file__).parent
CASES = sorted(path.parent for path in GOLDEN.glob("*/goservice.yaml"))
COMMIT = "4f6e1c0b9d2a73855e0f1a2b3c4d5e6f70819203"
UID = "7b3c6f0e-0000-4000-8000-000000000001"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
GIVEN = {"goservice.yaml", "settings.yaml"}
HADOLINT = Path(sys.executable).with_name("hadolint")


def _dockerfile(service: resource.GoService, platform: settings.Settings) -> str:
    inputs = inputs_hash(service, platform, COMMIT)
    return dockerfile.render(service, platform, COMMIT, inputs)


def _dockerignore(service: resource.GoService, platform: settings.Settings) -> str:
    return dockerfile.dockerignore()


def _objects(service: resource.GoService, platform: settings.Settings) -> str:
    """Every object but the ConfigMap, which the other files show."""
    every = [o for o in offline.objects(service, platform, COMMIT) if o["kind"] != "ConfigMap"]
    for version in ("1.33", "1.37"):
        for manifest in every:
            validate(manifest, version, strict=True)
    return yaml.safe_dump_all(every, sort_keys=False, width=100)


RENDERERS: Mapping[str, Callable[[resource.GoService, settings.Settings], str]] = {
    "Dockerfile": _dockerfile,
    "Dockerfile.dockerignore": _dockerignore,
    "objects.yaml": _objects,
}
"""What makes each file of a case. A service that builds nothing has none of these."""


def _made(case: Path) -> dict[str, str]:
    """The files that a case must have beside those that are given."""
    given = case / "settings.yaml"
    installed = data_dir("manifests") / "operator" / "settings.yaml"
    platform = settings.load(given if given.exists() else installed, {})
    try:
        body = yaml.safe_load((case / "goservice.yaml").read_text())
        body["metadata"] |= {"uid": UID}
        service = parsing.parse(body)
    except InvalidSpec as error:
        return {"error.txt": "".join(f"{problem}\n" for problem in sorted(error.problems))}
    return {name: renderer(service, platform) for name, renderer in RENDERERS.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    made = _made(case)
    if UPDATE:
        for path in case.iterdir():
            if path.name not in GIVEN and path.name not in made:
                path.unlink()
        for name, text in made.items():
            (case / name).write_text(text)
    found = {path.name: path.read_text() for path in case.iterdir() if path.name not in GIVEN}
    assert found == made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_cases_named_error_fail(case: Path) -> None:
    assert case.name.startswith("error-") == (case / "error.txt").exists()


def test_there_are_cases() -> None:
    assert {"classic", "minimal"} <= {case.name for case in CASES}


@pytest.mark.parametrize(
    "file", sorted(GOLDEN.glob("*/Dockerfile")), ids=lambda file: file.parent.name
)
def test_hadolint_finds_nothing(file: Path) -> None:
    policy = Path(__file__).parents[2] / ".hadolint.yaml"
    run = subprocess.run(
        [HADOLINT, "--no-color", "--config", policy, file], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "")
