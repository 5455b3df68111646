"""A reader of Dockerfiles for tests: instructions in order, with their arguments as a builder has them.

It knows what the rendered files use and fails on everything else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

KNOWN = ("FROM", "RUN", "USER", "ENV", "WORKDIR", "COPY", "LABEL", "ENTRYPOINT")
"""All instructions that our templates use; another one fails a test."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, its flags, and its arguments without quotes."""

    name: str
    """In capitals."""
    arguments: tuple[str, ...]
    """Without quotes."""
    flags: tuple[str, ...] = ()
    """With their dashes, such as --from=build."""


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile."""
    joined: list[str] = []
    pending = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or (not line.strip() and not pending):
            continue
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        joined.append(pending + line)
        pending = ""
    assert not pending, "ends inside an instruction"
    return [_instruction(line) for line in joined]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    assert name in KNOWN, line
    rest = rest.strip()
    if name in ("RUN", "ENTRYPOINT"):
        words = json.loads(rest) if rest.startswith("[") else [rest]
        return Instruction(name, tuple(words))
    words = _words(rest)
    flags = tuple(word for word in words if word.startswith("--"))
    return Instruction(name, tuple(words[len(flags) :]), flags)


def _words(text: str) -> list[str]:
    """Words as Docker's lexer has them; an expansion fails."""
    assert not re.search(r"(?<!\\)\$", text), f"expands: {text}"
    found = re.findall(r'(?:[^\s"\\]|"(?:[^"\\]|\\.)*")+', text)
    assert "".join(found) == re.sub(r'\s+(?=(?:[^"]|"(?:[^"\\]|\\.)*")*$)', "", text), text
    return [re.sub(r"\\(.)", r"\1", word.replace('"', "")) for word in found]
