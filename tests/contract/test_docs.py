"""The docs name everything that there is: fields, reasons, settings, metrics, commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from goservice import cli, conditions, metrics, settings, spec
from goservice.spec.types import Model

ROOT = Path(__file__).parents[2]
GOSERVICE = (ROOT / "docs" / "goservice.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
README = (ROOT / "README.md").read_text()


def models(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from models(argument)


def fields(model: type[Model], seen: set[type[Model]]) -> Iterator[tuple[str, str]]:
    seen.add(model)
    model.model_rebuild()  # A field of a class that is written below has no alias before.
    for name, field in model.model_fields.items():
        yield field.alias or name, field.description or ""
        for below in models(field.annotation):
            if below not in seen:
                yield from fields(below, seen)


@pytest.mark.parametrize("field", sorted(set(fields(spec.Spec, set()))))
def test_every_field_has_its_row(field: tuple[str, str]) -> None:
    name, description = field
    assert description
    assert f"| `{name}` |" in GOSERVICE
    assert description in GOSERVICE


def test_every_reason_and_condition_is_explained() -> None:
    assert set(conditions.MEANING) == set(conditions.Reason)
    for reason, meaning in conditions.MEANING.items():
        assert f"| `{reason}` | {meaning} |" in GOSERVICE
    for kind in conditions.Type:
        assert f"| `{kind}` |" in GOSERVICE


def sections(section: type[settings.Section], path: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        full = f"{path}.{field.alias or name}".strip(".")
        below = field.annotation
        if (
            isinstance(below, type)
            and issubclass(below, settings.Section)
            and below is not settings.Compute
        ):
            yield from sections(below, full)
        else:
            yield full


@pytest.mark.parametrize("setting", list(sections(settings.Settings)))
def test_every_setting_has_its_row(setting: str) -> None:
    assert f"| `{setting}` |" in OPERATIONS


@pytest.mark.parametrize("metric", list(metrics.NAMES))
def test_every_metric_has_its_row(metric: str) -> None:
    assert f"| `{metric}` |" in OPERATIONS


def test_every_command_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for name, command in cli.main.commands.items():
        if not command.hidden:
            assert f"`{name}`" in changelog


def test_every_command_has_an_example() -> None:
    for name, command in cli.main.commands.items():
        if not command.hidden:
            assert f"goservice {name}" in (command.help or "")
