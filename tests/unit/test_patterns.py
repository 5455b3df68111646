"""Each pattern of the operator takes time in proportion to the text, whatever the text is.

Times are compared within one run, so that a busy machine fails nothing: a text twice as long takes
twice as long, not four times; and no text takes much longer than a bounded pattern that is known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.support import patterns
from tests.support.patterns import Used

LENGTH = 64 * 1024
"""Characters of a hostile text; a container's last words have 4096."""
SIZES = (16, 20, 24, 28, 32, 64, 128, 256, 512, *(1024 * 2**n for n in range(7)))
"""Characters, step by step, so that what grows too fast is noticed before it takes for ever."""
LONG_ENOUGH = 0.02
"""Seconds of CPU from which on two times are compared: shorter ones are noise."""
QUADRATIC = 3.2
"""Times as long for a text twice as long: 2 where time is in proportion, 4 where it is quadratic."""
SLOWEST = 6.0
"""Times as long as the known pattern takes for a text of the same length."""


def took(work: Callable[[], object], best_of: int = 1) -> float:
    """Seconds of this thread's CPU, the least of some tries."""
    found = []
    for _ in range(best_of):
        begun = time.thread_time()
        work()
        found.append(time.thread_time() - begun)
    return min(found)


@pytest.fixture(scope="module")
def known() -> float:
    """Seconds for 64 KiB of a pattern that looks at each character 300 times."""
    pattern = re.compile(r"[^\n]{0,300}:")
    return took(lambda: pattern.search("a" * LENGTH), best_of=5)


def too_slow(used: Used, known: float) -> str:
    """A text for which a pattern takes too long; empty if there is none."""
    for title, made in patterns.texts(used):
        why = slow_on(used, made, known)
        if why:
            return f"{used.where}: {used.pattern!r} on {title}: {why}"
    return ""


def slow_on(used: Used, made: Callable[[int], str], known: float) -> str:
    """Why one text is too much; empty if it is not."""
    for size in SIZES:
        if size > used.longest:
            break
        text = made(size)
        seconds = took(lambda text=text: used.run(text))  # type: ignore[misc]
        if seconds * LENGTH / size > known * SLOWEST and seconds > LONG_ENOUGH:
            seconds = took(lambda text=text: used.run(text), best_of=3)  # type: ignore[misc]
            if seconds * LENGTH / size > known * SLOWEST:
                return f"{seconds:.2f} s for {size} characters"
        if seconds > LONG_ENOUGH and size >= 64:
            half = made(size // 2)
            ratio = min(
                took(lambda text=text: used.run(text), 3)  # type: ignore[misc]
                / took(lambda half=half: used.run(half), 3)  # type: ignore[misc]
                for _ in range(2)
            )
            return f"twice as long a text, {ratio:.1f} times as long" if ratio > QUADRATIC else ""
    return ""


USED = patterns.used()


@pytest.mark.parametrize("used", USED, ids=lambda used: f"{used.where} {used.pattern[:40]}")
def test_a_pattern_takes_time_in_proportion_to_the_text(used: Used, known: float) -> None:
    assert too_slow(used, known) == ""


def test_every_pattern_is_found() -> None:
    where = {used.where.split(":")[0].split(" ")[0] for used in USED}
    assert {"build/kaniko.py", "build/skopeo.py", "decide/pod_words.py", "manifest.py"} <= where
    assert {"api/resource.py", "fetch/download.py", "sources/refs.py", "redirects.py"} <= where
    assert len(USED) > 130


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(?m)^.*x: .*y$|[^\n]*undefined: ",
        r"\S+@\S+: ",
        r"(\w|\d)*x",
        r"[ \t]*x",
        r"[^\n]{0,300}[^\n]{0,300}:",
        "failed: .*at .*: code",
    ],
)
def test_a_bad_pattern_would_be_noticed(pattern: str, known: float) -> None:
    assert too_slow(Used("here", pattern, 0, "search"), known)
