"""Which hosts and addresses are this host itself or link-local, however they are written."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_THIS_HOST: Final = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")


def leads_here(host: str) -> str:
    """Return why the host of a URL is this host or link-local; empty if its text does not show it.

    The addresses of a name are for the resolver to determine.
    """
    literal = address_of(host)
    if literal is not None:
        return leads_here_by(literal)
    is_local = host in _THIS_HOST or host.endswith((".localhost", ".localdomain"))
    return f"{host} is this host itself" if is_local else ""


def leads_here_by(address: str) -> str:
    """Return why an address is this host's own or link-local; empty if it is neither.

    Private addresses are neither: an organisation's forge may have one.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    for one in (found, *_embedded(found)):
        if one.is_loopback or one.is_unspecified or one in _THIS_NETWORK:
            return f"{address} is this host itself"
        if one.is_link_local:
            return f"{address} is a link-local address"
        if one.is_multicast or str(one) == "255.255.255.255":
            return f"{address} is not the address of a single host"
    return ""


def _embedded(
    found: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 one stands for."""
    if isinstance(found, ipaddress.IPv4Address):
        return ()
    inside = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
    if found in _NAT64 or found in _COMPATIBLE:
        inside.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    return tuple(one for one in inside if one is not None)


def looks_numeric(host: str) -> bool:
    """Whether the resolver parses it as an address: its last part is a number, or it has colons."""
    return ":" in host or bool(_NUMBER.fullmatch(host.rsplit(".", 1)[-1]))


def address_of(host: str) -> str | None:
    """Return the address that a host is, in any notation of inet_aton(3); None for a name."""
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            return None
    parts = host.split(".")
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):  # noqa: PLR2004 - bytes
        return None
    try:
        *high, low = [_number(part) for part in parts]
    except ValueError:  # an 8 in an octal number
        return None
    if any(part > 255 for part in high) or low >= 256 ** (4 - len(high)):  # noqa: PLR2004 - bytes
        return None
    value = sum(part << 8 * (3 - at) for at, part in enumerate(high)) + low
    return str(ipaddress.IPv4Address(value))


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8) if text.startswith("0") else int(text)
