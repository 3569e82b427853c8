"""Which hosts of a flake an update considers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.errors import FlakeError, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

DEFAULT_EXCLUDE: Final = (".*-minimal",)
"""Installer images and the like."""


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """Regular expressions that match the whole name of a host."""

    include: tuple[str, ...] = (".*",)
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    require: tuple[str, ...] = ()
    """Hosts that must build even if they were broken before."""

    def choose(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of `names` that are included and not excluded, sorted.

        Raises:
            FlakeError: HOSTS_MISSING: no host is left, or a pattern of `include` or `require`
                matches none, so that a host would silently remain unproven.
        """
        known = sorted(set(names))
        if not known:
            raise FlakeError(
                Kind.HOSTS_MISSING,
                "the flake has no nixosConfigurations",
                hint="is it the flake of the hosts?",
            )
        if lost := _without_match(self.include, known):
            raise FlakeError(
                Kind.HOSTS_MISSING,
                f"no host of the flake is called {lost[0]!r}",
                hint="see flake_update.include, and nixosConfigurations of the flake",
            )
        chosen = tuple(name for name in known if self._has(name))
        if not chosen:
            raise FlakeError(
                Kind.HOSTS_MISSING,
                f"all {len(known)} hosts of the flake are excluded",
                hint="see flake_update.include and flake_update.exclude",
            )
        if lost := _without_match(self.require, chosen):
            raise FlakeError(
                Kind.HOSTS_MISSING,
                f"none of the {len(chosen)} hosts to build is called {lost[0]!r}",
                hint="see flake_update.require, flake_update.include and flake_update.exclude",
            )
        return chosen

    def requires(self, host: str) -> bool:
        """Return whether this host must build even if it was broken before."""
        return any(re.fullmatch(one, host) for one in self.require)

    def _has(self, name: str) -> bool:
        return any(re.fullmatch(one, name) for one in self.include) and not any(
            re.fullmatch(one, name) for one in self.exclude
        )


def _without_match(patterns: Iterable[str], names: Collection[str]) -> list[str]:
    return [one for one in patterns if not any(re.fullmatch(one, name) for name in names)]
