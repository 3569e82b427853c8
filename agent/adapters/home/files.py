"""A user's home as home-manager leaves it: its links, and what its activation package says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.host import HostFiles
from agent.domain.errors import HostError, Kind
from agent.domain.target import HOME_MANAGER

if TYPE_CHECKING:
    from agent.adapters.process import Runner
    from agent.domain.store_path import StorePath

_MAX_SCRIPT: Final = 1 << 20
# How the script makes sure that it is the user's own; the second is that of older releases.
_USER: Final = re.compile(
    r"""^\s*(?:checkStringEq USER "\$USER"|checkUsername) '?(?P<user>[A-Za-z0-9_][\w.-]*)'?$""",
    re.MULTILINE,
)


class HomeFiles(HostFiles):
    """Reads a home: what runs is `current_home`, which each activation moves as its last act."""

    def __init__(
        self, runner: Runner, *, current_home: Path, profile: Path, store_dir: Path
    ) -> None:
        super().__init__(
            runner,
            current_system=current_home,
            booted_system=None,
            profile=profile,
            store_dir=store_dir,
            boot=None,
            units=HOME_MANAGER.units,
        )

    @override
    def platform(self) -> str | None:
        """Return this machine's platform: the package does not say its own."""
        return f"{os.uname().machine}-linux"

    @override
    def hostname_of(self, toplevel: StorePath) -> str | None:
        """Return the user whose home a package is, as its activation script makes sure."""
        try:
            with Path(toplevel, "activate").open(encoding="utf-8", errors="replace") as stream:
                found = _USER.search(stream.read(_MAX_SCRIPT))
        except OSError:
            return None
        return found["user"] if found else None

    @override
    async def reboot(self, *, forced: bool = False) -> None:
        """Refuse: no home needs it, and no user may do it to others."""
        raise HostError(Kind.REBOOT_FAILED, "a home is no reason to reboot the host")
