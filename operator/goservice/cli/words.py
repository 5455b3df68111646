"""The one way of the command line to the terminal, and how it ends badly.

What is printed may come from anybody: a file, a resource, a log, an argument, an error that quotes
them. `say` lets no character through that a terminal obeys or that makes a text look like another:
escape codes, control characters, and those that turn the direction of writing. Colours are ours
alone: `paint` marks them with a word that nobody else can know.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import unicodedata
from typing import Any, NoReturn

import click
from typing_extensions import override

from goservice.errors import GoServiceError
from goservice.manifest import without_codes

_MARK = secrets.token_hex(16)
"""What stands around each text that is painted: no text from outside holds it."""

_STYLES: list[dict[str, Any]] = []
"""The styles that were painted with, each once; a mark names one by its place."""

_PAINTED = re.compile(rf"{_MARK}(\d{{1,4}}):(.*?){_MARK}", re.DOTALL)
"""A painted text, as `paint` writes it: the place of its style, and the text."""

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what is no text: controls, formats (the direction of writing is among them),
halves of characters, and separators of lines."""

_SEEN = "\n\t\u200c\u200d"
"""Those among them that are needed: lines, columns, and what joins letters and emoji."""


class Warnings(logging.Handler):
    """Says on stderr what a library logs, such as a kubeconfig's login program that is not there."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{paint('warning', fg='yellow')}: {one_line(record.getMessage())}", err=True)


class Trouble(GoServiceError):
    """Something that the command line has words for; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print a text of several lines."""
    click.echo(rendered(text) + end, err=err, nl=False)


def rendered(text: str) -> str:
    """A text as `say` prints it: everything but what `paint` made is harmless after this."""
    parts = _PAINTED.split(text)
    shown = [shown_lines(parts[0])]
    for style, painted, plain in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        shown += [click.style(shown_lines(painted), **_STYLES[int(style)]), shown_lines(plain)]
    return "".join(shown)


def paint(text: str, **style: Any) -> str:
    """A text in a colour, for `say`; arguments as of click.style."""
    if style not in _STYLES:
        _STYLES.append(style)
    return f"{_MARK}{_STYLES.index(style)}:{text}{_MARK}"


def shown_lines(text: str) -> str:
    """A text as `say` shows it: what is no text stands there as it is written in Go, such as \\x1b."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(map(_shown, text))


def as_json(value: object) -> str:
    """A value as JSON, in which nothing is left that a terminal obeys."""
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def one_line(text: object) -> str:
    """What somebody else wrote, for a place that has one line: newlines and tabs are spaces."""
    return " ".join(str(text).split())


def log_line(text: str) -> str:
    """A line of a log: escape codes are left out whole, as Go's colours would be noise in a file."""
    return without_codes(text.replace("\n", " ")).rstrip()


def _shown(character: str) -> str:
    if character in _SEEN or unicodedata.category(character) not in _UNSEEN:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong and end."""
    say(f"{paint('error', fg='red')}: {one_line(message)}", err=True)
    sys.exit(code)
