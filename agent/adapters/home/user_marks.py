"""The marks of a user, who cannot write to nix's own directory of roots for the collector."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import ProgramFailedError, ProgramMissingError, run_now
from agent.adapters.state.marks import MarkLinks
from agent.domain.marks import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.domain.store_path import StorePath

_TIMEOUT: Final = 30.0
_TO_BE_ROOTED: Final = (Mark.PENDING, Mark.CONFIRMED)
"""Where something has to be activated again; of the others the profile has a generation."""


class UserMarks(MarkLinks):
    """Keeps the marks in `marks_dir`, each of them registered as a root by nix itself.

    Nix remembers the place of such a link, and forgets it when the link is gone (nix-store(1),
    `--add-root`); so a link is registered each time when it comes to be.
    """

    def __init__(self, marks_dir: Path, store_dir: Path, environment: Mapping[str, str]) -> None:
        super().__init__(marks_dir, store_dir)
        self._marks_dir = marks_dir
        self._environment = environment

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        super().set(mark, toplevel)
        self._register(mark, toplevel)

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        is_moved = super().move(mark, toplevel, to)
        if is_moved:
            self._register(to, toplevel)
        return is_moved

    def _register(self, mark: Mark, toplevel: StorePath) -> None:
        if mark not in _TO_BE_ROOTED:
            return
        argv = ("nix-store", "--realise", toplevel, "--add-root", str(self._marks_dir / mark))
        # The mark has decided by now, whether or not nix will remember it: the profile has a
        # generation of what is confirmed, and `candidate` is a root of what is pending.
        with suppress(ProgramFailedError, ProgramMissingError):
            run_now(argv, env=self._environment, timeout=_TIMEOUT)
