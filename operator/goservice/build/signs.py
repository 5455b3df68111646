"""What a program's log says of its end: a table of signs, of which the first one found counts."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from goservice.api.conditions import Reason


@dataclass(frozen=True)
class Sign:
    """Words in a log, and what they mean."""

    pattern: str
    """A regular expression, looked for anywhere in the log. Its named groups may stand in `message`."""
    reason: Reason
    """The reason that the resource's condition gets."""
    message: str
    """What happened and what to mend, for the user; {a} stands for what the group `a` matched."""


REMEMBERED = 512
"""Objects' last words of which it is known what they mean: each has 4 KiB at the most."""


@functools.lru_cache(REMEMBERED)
def first_match(signs: tuple[Sign, ...], text: str) -> tuple[Sign, re.Match[str]] | None:
    """The first sign of the table that the text shows, wherever in the text, and where it does.

    The words of a build that has ended do not change: each pass that sees them again knows what they mean.
    What the match's groups hold comes out of a pod: whoever fills a message with it cleans it first.
    """
    for sign in signs:
        found = re.search(sign.pattern, text)
        if found:
            return sign, found
    return None
