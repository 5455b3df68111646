"""Rules over the fields of one shape that several shapes share."""

from __future__ import annotations

from typing import Any

from goservice.api.fields import Rule
from goservice.quantity import amount


def exactly_one(*fields: str) -> Rule:
    """The rule that one of several optional fields is set."""
    from_cel = " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)
    attributes = [_snake(field) for field in fields]
    return Rule(
        f"{from_cel} == 1",
        f"must have exactly one of {', '.join(fields)}",
        lambda model: sum(getattr(model, a) is not None for a in attributes) == 1,
    )


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def positive(field: str) -> Rule:
    """The rule that a quantity, where it is set, is more than nothing."""
    attribute = _snake(field)

    def holds(self: Any) -> bool:
        value = getattr(self, attribute)
        return value is None or amount(value) > 0

    cel = f"!has(self.{field}) || quantity(string(self.{field})).isGreaterThan(quantity('0'))"
    return Rule(cel, "must be greater than 0", holds, path=field)
