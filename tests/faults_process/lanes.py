"""A lane: a namespace, the operator's process that watches it, and the proxy between it and the API.

What the proxy does to a request is decided here, by the script of the service that it concerns.
Whenever the process ends unasked, it is started again at once, as a kubelet would.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.apiserver.controlplane import ControlPlane, Operator
from testbed.apiserver.proxy import Proxy
from testbed.faults import Fault, Script
from tests.faults_process.asked import Asked, asked

SETTINGS: dict[str, Any] = {
    "git": {"allowHttp": True, "allowedNetworks": ["127.0.0.0/8"]},
    "builds": {"maxConcurrent": 100, "maxConcurrentPerNamespace": 100},
}
"""The fake git server is on loopback, and no build waits for another."""


@dataclass
class Requests:
    """What the proxy knows of one service: what strikes it, and what was written for it."""

    script: Script = field(default_factory=Script)
    """What strikes its writes."""
    writes: list[tuple[float, Asked]] = field(default_factory=list)
    """Each with the second of the monotonic clock at which it came."""
    struck_at: float = 0.0
    """The second of the last strike; 0: none yet."""


class Lane:
    """One operator, started again whenever it ends."""

    def __init__(self, plane: ControlPlane, name: str, more: Mapping[str, Any] = {}) -> None:
        self.name = name
        self.exits: list[int] = []
        """How the process ended, each time."""
        self.kills = 0
        self.reads = Script()
        """Strikes at lists and watches of kopf, by kind."""
        self.struck_at = 0.0
        """When one of these was last struck."""
        self.ready_at = 0.0
        """Since when the process that runs now says that it works; 0: not yet."""
        self.strange: list[Asked] = []
        """Writes that belong to no service."""
        self._requests: dict[str, Requests] = {}
        self._ending = False
        self.proxy = Proxy(plane.port, self._judge, self._kill)
        settings = plane.settings({**SETTINGS, "namespaces": [name], **more}, name)
        kubeconfig = plane.through(self.proxy.url, name)
        self.operator = Operator(plane, settings, kubeconfig, name)

    def requests(self, name: str) -> Requests:
        """What is known of the requests for a service."""
        return self._requests.setdefault(name, Requests())

    async def keep(self) -> None:
        """Keep the operator running, until cancelled."""
        self.operator.start(seconds=0)
        while True:
            await asyncio.sleep(0.1)
            code = self.operator.exit_code
            if code is not None and not self._ending:
                self.exits.append(code)
                self.start_again()
            if not self.ready_at and await asyncio.to_thread(self._says_ready):
                self.ready_at = time.monotonic()

    async def end(self) -> int:
        """SIGTERM; the exit code. It stays ended until `start_again`."""
        self._ending = True
        return await asyncio.to_thread(self.operator.stop)

    def start_again(self) -> None:
        """Start it once more."""
        self.ready_at = 0.0
        self.operator.start(seconds=0)
        self._ending = False

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self._ending = True
        if self.operator.running:
            self.operator.stop(kill=True)
        self.proxy.close()

    async def ready(self) -> None:
        """Wait until the operator works, after its last start."""
        while not (self.ready_at and self.operator.running):  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def _says_ready(self) -> bool:
        return self.operator.running and self.operator.answers("/readyz")

    # --- in the proxy's thread ----------------------------------------------------------------------

    def _kill(self) -> None:
        self.kills += 1
        os.kill(self.operator.pid, signal.SIGKILL)

    def _judge(
        self, method: str, line: str, headers: Mapping[str, str], body: bytes
    ) -> Fault | None:
        request = asked(method, line, headers, body)
        if request is None:
            return None
        if not request.is_write:
            return self._strike_read(request) if request.by_kopf else None
        # A copy: services come while this thread looks at them.
        name = next((n for n in list(self._requests) if _is_of(request, n)), None)
        if name is None:
            self.strange.append(request)
            return None
        known = self.requests(name)
        known.writes.append((time.monotonic(), request))
        fault = known.script.arrive(
            request.verb, request.kind, request.name.replace(name, "service")
        )
        if fault is not None:
            known.struck_at = time.monotonic()
        return fault

    def _strike_read(self, request: Asked) -> Fault | None:
        fault = self.reads.arrive(request.verb, request.kind, "")
        if fault is not None:
            self.struck_at = time.monotonic()
        return fault


def _is_of(request: Asked, service: str) -> bool:
    return re.match(rf"{service}($|[-.])", request.name) is not None
