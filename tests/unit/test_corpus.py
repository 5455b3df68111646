"""`goservice validate` and the operator against the corpus; the API server has its turn in e2e."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from click.testing import CliRunner

from goservice.api import parsing
from goservice.api.conditions import Type
from goservice.cli import main
from goservice.decide import plan
from goservice.manifest import find_condition
from goservice.settings import Settings
from tests.support import corpus, generate
from tests.support import factories as f

BY_SCHEMA = [row for row in corpus.REFUSED if row.by == "schema"]
BY_OPERATOR = [row for row in corpus.REFUSED if row.by == "operator"]


def validated(change: corpus.Change, name: str = "") -> tuple[int, str]:
    """Exit code and output of `goservice validate`."""
    text = yaml.safe_dump(corpus.body(change, name))
    done = CliRunner().invoke(main.main, ["validate", "-f", "-"], input=text)
    return done.exit_code, done.output


@pytest.mark.parametrize("row", BY_SCHEMA, ids=lambda row: ascii(row.title))
def test_validate_names_the_field_the_fault_and_what_is_allowed(row: corpus.Bad) -> None:
    code, output = validated(row.change, row.name)
    assert code == 2
    said = [line for line in output.splitlines() if row.field in line]
    assert any(row.says in line for line in said), output
    assert "\x1b" not in output


@pytest.mark.parametrize("change", corpus.ACCEPTED.values(), ids=corpus.ACCEPTED)
def test_validate_takes_what_is_good(change: corpus.Change) -> None:
    assert validated(change) == (0, "goservice/checkout is valid\n")


@pytest.mark.parametrize("row", BY_OPERATOR, ids=lambda row: row.title)
def test_the_operator_says_what_the_platform_refuses(row: corpus.Bad) -> None:
    assert validated(row.change)[0] == 0
    service = parsing.parse({**corpus.body(row.change), "metadata": f.body()["metadata"]})
    decided = plan.decide(service, f.observed(), platform(row), f.NOW)
    assert decided.writes == ()
    assert decided.status is not None
    ready = find_condition(decided.status, Type.READY)
    assert (ready["status"], ready["reason"]) == ("False", row.reason)
    assert ready["message"].startswith(f"{row.field}: ")
    assert row.says in ready["message"]


def platform(row: corpus.Bad) -> Settings:
    """The settings that refuse a row: those of the install, with its change; no default requests."""
    services = f.SETTINGS.services.model_copy(
        update={"resources": type(f.SETTINGS.services.resources)()}
    )
    changed = {
        part: getattr(f.SETTINGS, part).model_copy(update=values)
        for part, values in row.settings.items()
    }
    return f.SETTINGS.model_copy(update={"services": services, **changed})


def test_only_the_closed_list_is_left_to_the_operator() -> None:
    assert {row.reason for row in BY_OPERATOR} == corpus.OPERATOR_REFUSES


def test_every_title_is_there_once() -> None:
    titles = [row.title for row in corpus.REFUSED]
    assert len(titles) == len(set(titles))
    assert len(titles) >= 90
    assert len(corpus.ACCEPTED) >= 25


def shape(field: str) -> str:
    """A field of a row as the schema has it: `build.files[].to`."""
    field = re.sub(r"\[\d+\]", ".[]", field.removeprefix("spec."))
    return re.sub(r"((requests|limits|matchLabels))\..+", r"\1.{}", field)


@pytest.mark.parametrize("leaf", generate.leaves(), ids=".".join)
def test_every_leaf_has_a_bad_row(leaf: generate.Path) -> None:
    assert ".".join(leaf) in {shape(row.field) for row in BY_SCHEMA}


def test_a_leaf_without_a_row_would_be_seen() -> None:
    assert shape("spec.build.files[0].to") == "build.files.[].to"
    assert shape("spec.resources.limits.memory") == "resources.limits.{}"
    assert shape(dataclasses.replace(BY_SCHEMA[0], field="spec.new").field) == "new"
