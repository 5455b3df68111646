"""Questions to `testbed/node/checks`: BuildKit's parser and Kubernetes' Pod Security, as they are."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from testbed.node import programs
from tests.support.dockerfiles import Instruction


@dataclass(frozen=True)
class Reading:
    """What BuildKit makes of a Dockerfile. `variables` are those that the file asks for."""

    instructions: tuple[Instruction, ...]
    """As BuildKit's parser splits them."""
    variables: tuple[str, ...]
    """Names of the variables that the file asks for."""
    error: str
    """What BuildKit says against the file; empty if it takes it."""


class Checks:
    """The program, asked a line at a time."""

    def __init__(self) -> None:
        binary = programs.build_quietly(programs.CHECKS)
        self._process = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def dockerfile(self, text: str) -> Reading:
        """How BuildKit reads a Dockerfile."""
        answer = self._ask({"dockerfile": text})
        found = [
            Instruction(each["name"], tuple(each["arguments"]), tuple(each["flags"]))
            for each in answer["instructions"]
        ]
        return Reading(tuple(found), tuple(answer["variables"]), answer["error"])

    def forbidden(self, level: str, template: dict[str, Any]) -> str:
        """Why a pod is not admitted at a level, empty if it is."""
        metadata = template.get("metadata", {})
        asked = {"level": level, "metadata": metadata, "spec": template["spec"]}
        answer = self._ask({"pod": asked})
        return "" if answer["allowed"] else str(answer["reason"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it; it ends well."""
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0
