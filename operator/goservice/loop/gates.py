"""What must be so before any pass is made: workers begin when every gate is open.

A gate that is open stays open: what can be lost again, such as a lease, ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class StartGate:
    """One thing that must be so: its name, and what to say while it is not."""

    def __init__(self, name: str, closed_because: Callable[[], str]) -> None:
        """`closed_because` is asked only while the gate is closed; /readyz says its words."""
        self.name = name
        self._closed_because = closed_because
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it was opened."""
        return self._opened.is_set()

    def open(self) -> None:
        """Let the workers pass, for good."""
        self._opened.set()

    def why_closed(self) -> str:
        """What is missing; empty once it is open."""
        return "" if self.is_open else self._closed_because()

    async def opened(self) -> None:
        """Wait until it is open."""
        await self._opened.wait()


class Gates:
    """Every gate of a process."""

    def __init__(self, gates: Iterable[StartGate]) -> None:
        self._gates = tuple(gates)

    def why_closed(self) -> str:
        """What is missing at each closed gate; empty once all are open."""
        return "; ".join(gate.why_closed() for gate in self._gates if not gate.is_open)

    async def all_open(self) -> None:
        """Wait until every gate is open, in whichever order they open."""
        for gate in self._gates:
            await gate.opened()
