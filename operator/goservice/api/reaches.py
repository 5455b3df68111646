"""What a field reaches: the image, the pods, or neither.

Each field of the resource says it once, at the field: `args: Annotated[list[str], Reaches.POD]`. From
there come the build's inputs, the pod template's inputs and the documentation's column "a change",
so that none of them keeps a list of names. The settings say it in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


class Reaches(Enum):
    """What a change of a field makes anew. A field without one has that of the group it is in."""

    IMAGE = "image"
    """Another image, and with it new pods: the field is an input of the build."""
    POD = "pod"
    """New pods of the same image: the field is an input of the pod template."""
    NOTHING = "nothing"
    """Neither of them."""


Written = dict[str, Any]


def reaching(model: BaseModel, wanted: Reaches) -> Written:
    """The fields that reach this, as a user would write them: camelCase, defaults left out.

    A new field with a default is therefore in it only where somebody has set it to something else.

    Raises:
        TypeError: if a field of the model's type does not say what it reaches.
    """
    shape = type(model)
    written = model.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include=_asked(shape, wanted)
    )
    return _part(written, shape, None, wanted)


def renamed(written: Written, names: Mapping[str, str]) -> Written:
    """The same, with fields under other names: `{"go": "runtime", "image.tag": "tag"}`.

    A field of a group leaves it, and a group that is left empty goes. What is not named stays.
    """
    rest, taken = dict(written), {}
    for path, name in names.items():
        group, _, field = path.rpartition(".")
        place = dict(rest.get(group, {})) if group else rest
        if field in place:
            taken[name] = place.pop(field)
        if group in rest:
            rest[group] = place
            if not place:
                del rest[group]
    return rest | taken


def answers(shape: type[BaseModel]) -> dict[str, Reaches | None]:
    """What each field reaches, by its path: `ports[].servicePort`.

    Groups are in it too; None for one that leaves the answer to each of its fields.

    Raises:
        TypeError: if a field does not say what it reaches.
    """
    return dict(_answers(shape, None, ""))


def _answers(
    shape: type[BaseModel], inherited: Reaches | None, path: str
) -> Iterator[tuple[str, Reaches | None]]:
    for name, field in _fields(shape, inherited).items():
        yield f"{path}{name}", field.reaches
        if field.group is not None:
            inside = f"{path}{name}[]." if field.listed else f"{path}{name}."
            yield from _answers(field.group, field.reaches, inside)


@dataclass(frozen=True)
class _Field:
    """One field of a model, as far as the walk needs it."""

    reaches: Reaches | None
    """Its own answer, else that of the group it is in; None where each field below has its own."""
    every: frozenset[Reaches]
    """The answers of the field and of all fields below it."""
    group: type[BaseModel] | None
    """The model of its value, or of its value's items; None if it holds plain values."""
    listed: bool
    """Whether the value is a list of groups."""
    default: Any
    """The default as it would be written; None where there is none."""


@cache
def _fields(shape: type[BaseModel], inherited: Reaches | None) -> Mapping[str, _Field]:
    """The fields of a model by their written names."""
    found = {}
    for name, field in shape.model_fields.items():
        said = [*_said(field.annotation), *field.metadata]
        reaches = next((fact for fact in reversed(said) if isinstance(fact, Reaches)), inherited)
        group, listed = _group(field.annotation)
        if group is not None:
            below = _fields(group, reaches).values()
            every = frozenset[Reaches]().union(*(one.every for one in below))
        elif reaches is not None:
            every = frozenset({reaches})
        else:
            raise TypeError(
                f"{shape.__name__}.{name} does not say what a change of it reaches: write"
                " Annotated[…, Reaches.IMAGE] if it makes another image, Reaches.POD if it makes"
                " new pods of the same image, Reaches.NOTHING if neither"
            )
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found[field.alias or name] = _Field(
            reaches,
            every if reaches is None else every | {reaches},
            group,
            listed,
            _default(default),
        )
    return found


@cache
def _asked(shape: type[BaseModel], wanted: Reaches) -> set[str]:
    """The attributes in which something reaches this: the others need not be written out."""
    fields = _fields(shape, None).values()
    return {
        name
        for name, field in zip(shape.model_fields, fields, strict=True)
        if wanted in field.every
    }


def _default(default: object) -> Any:
    """A default that is a group or a list of groups, written as the user's own would be."""
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(default, list | tuple):
        return [_default(item) for item in default]
    return default


def _said(annotation: Any) -> Iterator[object]:
    """What stands beside the types of a union: `Annotated[int, Reaches.POD] | None` is an answer too."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    elif get_origin(annotation) in (Union, UnionType):
        for choice in get_args(annotation):
            yield from _said(choice)


def _group(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model in a field's type, and whether it stands in a list. A mapping is a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _group(arguments[0])
    if origin in (Union, UnionType):
        return next((found for a in arguments if (found := _group(a))[0]), (None, False))
    if origin in (list, tuple):
        return _group(arguments[0])[0], True
    return None, False


def _part(
    written: Written, shape: type[BaseModel], inherited: Reaches | None, wanted: Reaches
) -> Written:
    """Of what is written, the fields that reach this."""
    result: Written = {}
    fields = _fields(shape, inherited)
    for name, value in written.items():
        field = fields[name]
        if wanted not in field.every:
            continue
        if field.every == {wanted}:
            result[name] = value
            continue
        part = _below(value, field, wanted)
        if part != _below(field.default, field, wanted):
            result[name] = part
    return result


def _below(value: Any, field: _Field, wanted: Reaches) -> Any:
    """Of a group or a list of groups, the fields that reach this.

    Without a group there is nothing below; but that there is one is a change too, where the group
    itself says that it reaches this.
    """
    assert field.group is not None
    match value:
        case None:
            return None if field.reaches is wanted else {}
        case list():
            return [_part(item, field.group, field.reaches, wanted) for item in value]
        case _:
            return _part(value, field.group, field.reaches, wanted)
