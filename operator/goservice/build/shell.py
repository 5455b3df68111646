"""The shell programs of a build: files in templates/, where a linter reads them.

The head of a file, down to its first empty line, is for who reads it: which shell runs it, what its
arguments are. It is not part of the program: what is rendered is what follows.
"""

from __future__ import annotations

import functools

from goservice.data import data_dir


@functools.cache
def program(name: str) -> str:
    """The program of templates/NAME.sh, without the file's head.

    Raises:
        OSError: if there is no such file.
    """
    text = (data_dir("templates") / f"{name}.sh").read_text(encoding="utf-8")
    _, _, rendered = text.partition("\n\n")
    return rendered
