"""Which servers the operator may connect to: a resource must not make it reach what its author cannot."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from goservice.errors import SourceForbidden

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google Cloud, OpenStack and others
        "169.254.170.2",  # AWS: credentials of tasks
        "169.254.170.23",  # AWS: credentials of pods
        "168.63.129.16",  # Azure: the host, at an address that looks public
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS: credentials of pods
        "fd20:ce::254",  # Google Cloud
    )
)
"""Where clouds hand out credentials. Refused whatever is allowed, unless listed one by one."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are the IPv4 address that a NAT64 gateway connects to."""

_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that public hosts get addresses of; Python's is_global is true of more."""


class Gate:
    """Which addresses may be connected to: public ones, and those that the platform lists."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        self._networks: list[IPNetwork] = [ipaddress.ip_network(text) for text in allowed_networks]

    def allows(self, text: str) -> bool:
        """Whether an IP address may be connected to."""
        address = ipaddress.ip_address(text.partition("%")[0])
        return all(self._allows(form) for form in _forms(address))

    def _allows(self, address: IPAddress) -> bool:
        listed = [network for network in self._networks if address in network]
        if address in METADATA:
            return any(network.num_addresses == 1 for network in listed)
        if listed:
            return True
        if address.is_multicast or address.is_unspecified or address.is_link_local:
            return False
        return _public(address)


def _public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _NAT64:
        return address.is_global and address in _PUBLIC_IPV6
    return address.is_global


def written_out(host: str) -> str | None:
    """The IP address that a host stands for in any notation that a resolver takes: 127.1, 0x7f.1.

    None if it is a name.
    """
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    with contextlib.suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    return None


def _forms(address: IPAddress) -> list[IPAddress]:
    """The address and those inside it: an IPv6 address may embed an IPv4 one, which is reached."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inner: list[IPAddress] = [address]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour:
        inner.append(address.sixtofour)
    if address.teredo:
        inner.extend(address.teredo)
    return inner


class CheckedResolver(AbstractResolver):
    """Looks a host up and lets only allowed addresses through, at the moment of connecting.

    Checking before and connecting later would leave time for the name to change its address.
    """

    def __init__(self, gate: Gate, inner: AbstractResolver) -> None:
        self._gate = gate
        self._inner = inner

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [entry for entry in found if self._gate.allows(entry["host"])]
        if found and not allowed:
            raise forbidden(host)
        return allowed

    @override
    async def close(self) -> None:
        await self._inner.close()


def forbidden(host: str) -> SourceForbidden:
    """The refusal of a host that the gate does not let through."""
    return SourceForbidden(
        f"{host} is not at a public address; the platform's settings "
        "must list its network in git.allowedNetworks"
    )
