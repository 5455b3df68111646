from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from goservice.api import crd
from goservice.api.fields import Model, Quantity, Rule, Text, listing


class Colour(StrEnum):
    """A colour."""

    RED = "Red"


class Inner(Model):
    """An inner thing."""

    rules = (Rule("has(self.size)", "must have a size", lambda self: True, path="size"),)

    size: Annotated[int, Field(ge=0, le=9)] = 3
    """How big."""


class Plain(Model):
    """A thing without defaults."""

    note: Annotated[str, Field(max_length=3)] | None = None
    """A note."""


class Outer(Model):
    """An outer thing."""

    inner: Inner = Inner()
    """Its inside."""
    plain: Plain = Plain()
    """Its outside."""
    maybe: Inner | None = None
    """Another one."""
    colour: Colour = Colour.RED
    """Its colour."""
    many: Annotated[list[Inner], listing(max_length=2)] = []
    """More of them."""
    start: Annotated[list[Plain], listing(max_length=2)] = [Plain(note="a")]
    """Notes to start with."""
    amounts: Annotated[
        dict[Annotated[str, Text("[a-z]+", 5, "a word")], Quantity], Field(max_length=4)
    ] = {}
    """Amounts by name."""
    total: Annotated[int, Field(ge=0, le=9, json_schema_extra={"format": "int64"})]
    """A number."""


FIELDS = crd.schema(Outer)["properties"]


def test_a_model_is_an_object_with_its_words() -> None:
    schema = crd.schema(Outer)
    assert schema["type"] == "object"
    assert schema["description"] == "An outer thing."
    assert schema["required"] == ["total"]


def test_a_reference_is_put_in_place_with_the_field_s_own_words() -> None:
    assert FIELDS["inner"]["description"] == "Its inside."
    assert FIELDS["inner"]["properties"]["size"]["maximum"] == 9


def test_a_rule_becomes_cel() -> None:
    assert FIELDS["inner"]["x-kubernetes-validations"] == [
        {"rule": "has(self.size)", "message": "must have a size", "fieldPath": ".size"}
    ]


def test_an_object_s_default_is_empty_and_only_where_a_field_has_one() -> None:
    assert FIELDS["inner"]["default"] == {}
    assert "default" not in FIELDS["plain"]


def test_an_optional_field_is_just_not_required() -> None:
    assert FIELDS["maybe"]["type"] == "object"
    assert "anyOf" not in FIELDS["maybe"]
    assert "default" not in FIELDS["maybe"]
    assert FIELDS["maybe"]["properties"]["size"]["default"] == 3


def test_an_enum_keeps_its_default() -> None:
    assert FIELDS["colour"] == {
        "description": "Its colour.",
        "type": "string",
        "enum": ["Red"],
        "default": "Red",
    }


def test_list_items_have_no_defaults_and_a_list_may_have_one() -> None:
    assert "default" not in FIELDS["many"]["items"]["properties"]["size"]
    assert "default" not in FIELDS["many"]
    assert FIELDS["start"]["default"] == [{"note": "a"}]


def test_a_map_s_keys_are_checked_by_a_rule() -> None:
    amounts = FIELDS["amounts"]
    assert amounts["maxProperties"] == 4
    assert amounts["additionalProperties"]["x-kubernetes-int-or-string"] is True
    assert amounts["x-kubernetes-validations"] == [
        {
            "rule": "self.all(key, size(key) <= 5 && key.matches(r'^([a-z]+)$'))",
            "message": "must have keys that are a word, of at most 5 characters",
        }
    ]


def test_numbers_are_32_bits_wide_unless_they_say_otherwise() -> None:
    assert FIELDS["inner"]["properties"]["size"]["format"] == "int32"
    assert FIELDS["total"]["format"] == "int64"


def test_the_text_is_the_same_every_time_and_has_no_anchors() -> None:
    assert crd.dump() == crd.dump()
    assert not any(line.strip().endswith("&id001") for line in crd.dump().splitlines())
