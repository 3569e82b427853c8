"""Sees to it that nix fetches only what may be fetched, before it fetches it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.domain.errors import Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.loose_inputs import LooseInput
from agent.domain.secrets import has_secret
from agent.domain.trust import (
    Wanted,
    fault_of,
    hosts_to_resolve,
    loose_inputs_of,
    refusals,
    refusals_by_address,
    wanted_of_flake,
    wanted_of_source,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import FactPorts
    from agent.domain.origin import UrlPrefix

_MOST_SOURCES: Final = 50


async def require_fetchable(
    ports: FactPorts, allowed: Sequence[UrlPrefix], flake: LockedFlakeReference
) -> None:
    """Make sure that a flake and all its inputs may be fetched; fetch the flake alone for it.

    Beside it those inputs, once they are judged, that nix would look into for their own inputs.

    Raises:
        NixError: FLAKE_INSECURE, FLAKE_HAS_LOGIN, or why the flake cannot be fetched.
    """
    _require_no_login(flake)
    await _require(ports, allowed, (wanted_of_flake(flake),))
    left, seen = [LooseInput(flake)], {str(flake)}
    while left:
        one = left.pop()
        source = await ports.nix.fetch_source(LockedFlakeReference(one.reference))
        await _require(ports, allowed, wanted_of_source(source))
        for more in loose_inputs_of(one, source):
            _require_no_login(more.reference)
            if more.reference not in seen:
                seen.add(more.reference)
                left.append(more)
        if len(seen) > _MOST_SOURCES:
            raise NixError(
                Kind.FLAKE_INSECURE,
                f"refusing to fetch {flake}: nix would look into more than {_MOST_SOURCES} flakes"
                " that its flake.lock does not lock",
                hint="commit a flake.lock that fits flake.nix",
            )


def _require_no_login(flake: str) -> None:
    if has_secret(flake):
        raise NixError(
            Kind.FLAKE_HAS_LOGIN,
            "refusing a flake reference of Hydra's eval, or of a flake.nix, which has a password"
            " or a token in it: everybody on this host could read it among the arguments of nix",
            hint="nix takes passwords from its netrc-file, and tokens from access-tokens",
        )


async def _require(
    ports: FactPorts, allowed: Sequence[UrlPrefix], wanted: Sequence[Wanted]
) -> None:
    refused = list(refusals(wanted, allowed))
    if not refused:
        hosts = sorted(hosts_to_resolve(wanted, allowed))
        found = await asyncio.gather(*map(ports.resolver.addresses, hosts))
        addresses = dict(zip(hosts, found, strict=True))
        refused = list(refusals_by_address(wanted, allowed, addresses))
    if refused:
        raise fault_of(refused, allowed)
