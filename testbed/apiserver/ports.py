"""Ports of loopback for the servers that the tests start."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """A port of loopback that nobody uses.

    The kernel gives the ports of its own range to outgoing connections at any time, also between
    this look and the start of a server, so this one is from below that range.
    """
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port of 15000 to 29999 is free on loopback")
