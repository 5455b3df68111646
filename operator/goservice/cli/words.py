"""How the command line ends badly: one line that says what, to which object, what to do next."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from goservice.errors import GoServiceError


class Trouble(GoServiceError):
    """Something that the command line has words for; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong and end."""
    click.echo(f"{click.style('error', fg='red')}: {message}", err=True)
    sys.exit(code)
