"""docs/goservice.md shows each class of failure with a message that the suite has really made.

UPDATE_GOLDEN=1 writes the tables anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from goservice.api.conditions import After, Reason
from goservice.decide import pod_words
from goservice.manifest import find_condition
from tests.unit.test_pod_words import TOLD, pod

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "goservice.md"
PLANS = sorted((ROOT / "tests" / "golden").glob("plan-*/plan.yaml"))
LONGEST = 260
"""Characters of a message in the table."""


def told(reason: Reason) -> str:
    """Ready's message in the first golden plan that has this reason; empty if none has it."""
    for path in PLANS:
        plan: dict[str, Any] = yaml.safe_load(path.read_text())
        status = plan.get("status")
        ready = find_condition(status, "Ready") if isinstance(status, dict) else {}
        if ready.get("reason") == reason and ready.get("status") != "True":
            return str(ready["message"])
    return ""


def cell(text: str) -> str:
    one_line = re.sub(r"\s+", " ", text).replace("|", "\\|")
    return one_line if len(one_line) <= LONGEST else one_line[:LONGEST] + "…"


def failures() -> Iterator[str]:
    yield "| reason | Ready says, for example |"
    yield "| --- | --- |"
    for reason in Reason:
        if reason.after in (After.STOP, After.RETRY, After.LOOK_AGAIN) and told(reason):
            yield f"| `{reason}` | {cell(told(reason))} |"


def pods() -> Iterator[str]:
    yield "| a pod has | the message says |"
    yield "| --- | --- |"
    for name, (container, _) in TOLD.items():
        words = pod_words.look([pod("checkout-7d9f", containerStatuses=[container])]).words
        yield f"| {name} | {cell(words)} |"


TABLES = {"failures": failures, "pods": pods}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_has_messages_of_the_suite(name: str) -> None:
    marked = re.compile(rf"(<!-- messages: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    table = "\n".join(TABLES[name]())
    page = PAGE.read_text()
    assert marked.search(page), f"the page has no place for {name}"
    written = marked.sub(lambda found: found[1] + table + found[2], page)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(written)
    assert PAGE.read_text() == written, "UPDATE_GOLDEN=1 writes it anew"


def test_every_way_to_fail_has_a_row() -> None:
    missing = {
        reason
        for reason in Reason
        if reason.after in (After.STOP, After.RETRY) and not told(reason)
    }
    assert missing <= {Reason.INVALID_SPEC}
