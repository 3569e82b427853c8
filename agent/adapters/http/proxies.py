"""Which proxy a URL is asked through: the one reading of the environment's proxy variables.

As curl has it (libcurl's lib/url.c and lib/noproxy.c from 7.86 on), which nix and git go by:
`http_proxy` or `https_proxy`, else `all_proxy`; an empty variable is none; `no_proxy` has names
with their subdomains, addresses and networks, separated by commas or blanks, or `*`. What is taken
besides, as other programs do: `HTTP_PROXY`, and in `no_proxy` a port, an address in brackets, and
`*` among other items.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
_SOCKS: Final = "socks5"
_WITH_PORT: Final = re.compile(r"(\[[^\]]*\](?:/[0-9]{1,3})?|[^:\[\]]+):([0-9]{1,5})")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxyError(ValueError):
    """A proxy variable cannot be used; the message says which, and why."""


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy through which a http or https URL is asked; None without one.

    The scheme is http, https or socks5: with SOCKS the proxy looks up the name, as with `socks5h`.

    Raises:
        ProxyError: there is one, and it cannot be used.
    """
    parts = urlsplit(url)
    name, proxy = _named(environment, f"{parts.scheme}_proxy")
    if not proxy:
        name, proxy = _named(environment, "all_proxy")
    _, exempt = _named(environment, "no_proxy")
    host = (parts.hostname or "").partition("%")[0].removesuffix(".")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    if not proxy or any(_covers(item, host, port) for item in re.split(r"[,\s]+", exempt) if item):
        return None
    return _usable(name, proxy)


def _named(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable and its value, the first that is not empty: lower case, capitals, mixed."""
    alike = sorted((one for one in environment if one.lower() == name), reverse=True)
    for variant in (name, name.upper(), *alike):
        if value := environment.get(variant, "").strip():
            return variant, value
    return name, ""


def _covers(item: str, host: str, port: int) -> bool:
    """Return whether an item of `no_proxy` is for a host, in lower case, and a port."""
    if item == "*":
        return True
    if found := _WITH_PORT.fullmatch(item):
        item = found[1]
        if int(found[2]) != port:
            return False
    address, network = _network(host), _network(re.sub(r"[][]|%[^]/]*", "", item))
    if address is not None or network is not None:
        return address is not None and network is not None and _is_within(address, network)
    name = item.lower().removesuffix(".").removeprefix(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_within(address: _Network, network: _Network) -> bool:
    return address.version == network.version and address.network_address in network


def _usable(name: str, proxy: str) -> str:
    """Return a proxy's URL with its scheme; its value may hold a password and is not repeated."""
    with_scheme = proxy if "://" in proxy else f"http://{proxy}"
    scheme, _, rest = with_scheme.partition("://")
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        known = ", ".join(_SCHEMES)
        raise ProxyError(f"{name}: a proxy's scheme is one of {known}, not {scheme[:20]!r}")
    try:
        parts = urlsplit(with_scheme)
        has_host = bool(parts.hostname) and parts.port != 0  # an impossible port is a ValueError
    except ValueError:
        has_host = False
    if not has_host or not rest.isprintable() or re.search(r"\s", rest):
        raise ProxyError(f"{name}: it is no URL of a proxy such as http://proxy.example.org:3128")
    if not scheme.startswith(_SOCKS):
        return f"{scheme}://{rest}"
    return f"{_SOCKS}://{rest}"
