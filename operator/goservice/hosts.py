"""Which hosts a platform lets git URLs name: one rule for what is decided and for what is connected to."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

PORTS = {"http": 80, "https": 443}
"""The port that a URL of each scheme means without naming one."""


def is_allowed(url: str, hosts: Collection[str]) -> bool:
    """Whether a URL's host is listed, as host or host:port, in any case; with an empty list all are."""
    if not hosts:
        return True
    try:
        address = urlsplit(url)
        named = _forms(address)
    except ValueError:
        return False
    return any(host.lower() in named for host in hosts)


def _forms(address: SplitResult) -> set[str]:
    host = (address.hostname or "").lower()
    bracketed = f"[{host}]" if ":" in host else host
    port = address.port or PORTS.get(address.scheme.lower(), 0)
    return {host, bracketed, f"{bracketed}:{port}"} - {""}
