"""Sees to it that nix fetches only what may be fetched, before it fetches it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.domain.errors import Kind, NixError
from agent.domain.secrets import has_secret
from agent.domain.trust import (
    Wanted,
    fault_of,
    hosts_to_resolve,
    refusals,
    refusals_by_address,
    wanted_of_flake,
    wanted_of_source,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import Ports
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.origin import UrlPrefix


async def require_fetchable(
    ports: Ports, allowed: Sequence[UrlPrefix], flake: LockedFlakeReference
) -> None:
    """Make sure that a flake and all its inputs may be fetched; fetch the flake alone for it.

    Raises:
        NixError: FLAKE_INSECURE, FLAKE_HAS_LOGIN, or why the flake cannot be fetched.
    """
    if has_secret(flake):
        raise NixError(
            Kind.FLAKE_HAS_LOGIN,
            "refusing the flake reference of Hydra's eval, which has a password or a token in it:"
            " everybody on this host could read it among the arguments of nix",
            hint="nix takes passwords from its netrc-file, and tokens from access-tokens",
        )
    await _require(ports, allowed, (wanted_of_flake(flake),))
    await _require(ports, allowed, wanted_of_source(await ports.nix.fetch_source(flake)))


async def _require(ports: Ports, allowed: Sequence[UrlPrefix], wanted: Sequence[Wanted]) -> None:
    refused = list(refusals(wanted, allowed))
    if not refused:
        hosts = sorted(hosts_to_resolve(wanted, allowed))
        found = await asyncio.gather(*map(ports.resolver.addresses, hosts))
        addresses = dict(zip(hosts, found, strict=True))
        refused = list(refusals_by_address(wanted, allowed, addresses))
    if refused:
        raise fault_of(refused, allowed)
