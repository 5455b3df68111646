"""An event loop whose clock jumps: hours of back-off cost milliseconds."""

import asyncio
import selectors
from typing import Any

from typing_extensions import override


class StuckError(Exception):
    """Nothing is ready and no timer is set: the program would wait for ever."""


class _Jump(selectors.SelectSelector):
    """Waits by moving the clock. There are no sockets to wait for."""

    loop: "VirtualLoop"

    @override
    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError
        self.loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on virtual time, from a given second on."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)

    @override
    def time(self) -> float:
        return self.now
