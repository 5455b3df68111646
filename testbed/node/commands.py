"""Run a program and fail with what it said.

The one place that starts short-lived programs, so that every failure reads alike.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

TAIL_LINES = 15
"""How much of a failed program's output an error shows."""


class Failed(Exception):
    """Something of the test bed went wrong; the text says what and what to do."""


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    text: str | None = None,
    timeout: float | None = None,
    advice: str = "",
    log: Path | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Args:
        arguments: Program and arguments; never a shell line.
        environment: Variables added to this process's own.
        folder: Where to run it.
        text: Standard input; nothing by default.
        timeout: Seconds after which it is ended.
        advice: What the user can do, added to the failure.
        log: A file that takes standard error, for whoever wants to read it meanwhile.

    Raises:
        Failed: It could not be started, took too long or ended with another code than 0.
    """
    words = [str(word) for word in arguments]
    try:
        with log.open("wb") if log else nullcontext(subprocess.PIPE) as errors:
            result = subprocess.run(
                words,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                input=text if text is not None else "",
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
    except FileNotFoundError as error:
        raise Failed(f"{words[0]} is not installed: {error}. {advice}".rstrip()) from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shlex.join(words)} took longer than {timeout} s. {advice}") from error
    if result.returncode != 0:
        output = log.read_text(errors="replace") if log else result.stderr
        said = (output.strip() or result.stdout.strip()).splitlines()[-TAIL_LINES:]
        tail = "\n    ".join(said)
        raise Failed(
            f"{shlex.join(words)} ended with code {result.returncode}:\n    {tail}\n{advice}".rstrip()
        )
    return result.stdout


def succeeds(arguments: Sequence[str | Path], timeout: float = 30) -> bool:
    """Whether a program ends with code 0."""
    try:
        run(arguments, timeout=timeout)
    except Failed:
        return False
    return True
