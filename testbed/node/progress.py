"""Progress on standard error: one line when a step starts to take long, one when it ends.

Works without a terminal. A step that ends within two seconds prints one line only.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

QUIET_SECONDS = 2.0
"""A step that ends within these prints one line only."""
INTERVAL_SECONDS = 10.0
"""Between two lines of a longer step."""


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line at once."""
    print(text, file=stream or sys.stderr, flush=True)


def elapsed(seconds: float) -> str:
    """Seconds as people read them: `0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


class Step:
    """A running step; `note` says what it is doing right now."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note: str | Callable[[], str] = ""
        self.skipped = ""

    def line(self, seconds: float) -> str:
        """The line that tells a reader that the step is still alive."""
        now = self.note() if callable(self.note) else self.note
        note = f", {now}" if now else ""
        return f"  .. {self.title} ({elapsed(seconds)}{note})"


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Report a step: a sign of life while it runs, then how long it took or that it failed."""
    current = Step(title)
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        wait = QUIET_SECONDS
        while not done.wait(wait):
            say(current.line(time.monotonic() - started))
            wait = INTERVAL_SECONDS

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    ended = "FAILED after"
    try:
        yield current
        ended = "ok"
    finally:
        done.set()
        thread.join()
        took = elapsed(time.monotonic() - started)
        if ended == "ok" and current.skipped:
            say(f"  ok {title}: {current.skipped} ({took})")
        else:
            say(f"  {ended} {title} ({took})" if ended == "ok" else f"  !! {title} {ended} {took}")
