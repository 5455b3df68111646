"""Texts that a pattern takes, made from a number: fast enough for a hundred thousand resources.

Hypothesis makes them too, one choice a character; whole resources took 50 ms each that way. Number
0 gives the shortest text, larger ones give longer and stranger ones, so examples still shrink.
"""

from __future__ import annotations

import random
import re
from functools import cache
from re import _parser as parser  # type: ignore[attr-defined]  # the stubs leave private modules out
from typing import Any

LONG = 1 << 20
"""From this number on repeats go to the length that the field allows."""


def text(pattern: str, longest: int, number: int) -> str:
    """A text that the pattern takes whole, of at most this length."""
    dice = random.Random(f"{pattern}/{number}")
    longer = min(number.bit_length(), 8) if number < LONG else min(longest, 100)
    for limit in (longer, 8, 4, 2, 1, 0):
        made = "".join(_sequence(_tree(pattern), dice, limit))
        if len(made) <= longest:
            return made
    raise AssertionError(f"{pattern} has nothing of at most {longest} characters")


@cache
def _tree(pattern: str) -> Any:
    return parser.parse(pattern)


def _sequence(items: Any, dice: random.Random, longer: int) -> list[str]:
    return [_item(str(kind), about, dice, longer) for kind, about in items]


def _item(kind: str, about: Any, dice: random.Random, longer: int) -> str:
    match kind:
        case "LITERAL":
            return chr(about)
        case "NOT_LITERAL":
            return _item("IN", [("NEGATE", None), ("LITERAL", about)], dice, longer)
        case "IN":
            return chr(dice.choice(_characters(tuple(about))))
        case "SUBPATTERN":
            return "".join(_sequence(about[3], dice, longer))
        case "BRANCH":
            return "".join(_sequence(dice.choice(about[1]), dice, longer))
        case "MAX_REPEAT":
            least, most, inner = about
            many = dice.randint(least, min(int(most), least + longer))
            return "".join("".join(_sequence(inner, dice, longer // 4)) for _ in range(many))
        case _:
            raise AssertionError(f"not known here: {kind}")


@cache
def _characters(about: tuple[Any, ...]) -> tuple[int, ...]:
    """Every code point of a character class; of one that excludes, the printable and some others."""
    found: set[int] = set()
    excluded = False
    for kind, value in about:
        match str(kind):
            case "NEGATE":
                excluded = True
            case "LITERAL":
                found.add(value)
            case "RANGE":
                found.update(range(value[0], min(value[1], 0x24F) + 1))
            case _:
                raise AssertionError(f"not known here: {kind}")
    if excluded:
        return tuple(c for c in (*range(0x180), 0x2028, 0x202E, 0x1F600) if c not in found)
    return tuple(sorted(found))


def takes(pattern: str, made: str) -> bool:
    """Whether the pattern takes the text."""
    return re.fullmatch(pattern, made) is not None
