"""Runs nixos-rebuild: builds a host's toplevel, and activates it.

What it does, and in which order, is that of nixpkgs' nixos-rebuild-ng (services.py, nix.py) and
of the shell script before it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.nix.environment import confinement, with_nix_config
from agent.adapters.nix.program import store_path_of
from agent.adapters.nix.source_faults import build_fault
from agent.adapters.process import ProgramMissingError
from agent.adapters.state_dir import state_fault
from agent.application.ports import ActivationExit, NixosRebuild
from agent.domain.errors import Kind, NixError
from agent.domain.nix_options import split_flags
from agent.domain.switch_output import is_relevant, with_relevant_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.adapters.process import Completed, Runner
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.origin import UrlPrefix
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath

# Printed before anything is done, by argparse and by the shell script.
_UNKNOWN_OPTION: Final = re.compile(
    r"^\S*nixos-rebuild\S*: (?:error: unrecognized arguments: (?P<arguments>.+)"
    r"|unknown option `(?P<option>.+)')$",
    re.MULTILINE,
)
_REFUSALS: Final = (1, 2)
# Without it nixos-rebuild first builds, and then becomes, the candidate's own version.
_NO_REEXEC: Final = "--no-reexec"
_OLDER_NO_REEXEC: Final = "--fast"
# Set here, and not in nix.conf, where it does not count: on a host that it takes to be without
# a network nix would otherwise substitute nothing, not even from a cache on that host.
_SUBSTITUTE: Final = "substitute = true"
_MOST_HEARD: Final = 100
"""How many lines that decide about an activation are kept, if its output is long."""
_PREFIX: Final = "nixos-rebuild-"


class NixosRebuildCommand(NixosRebuild):
    """nixos-rebuild, as the port `NixosRebuild` wants it.

    It runs in a directory of its own below `scratch`, since some versions leave a link `result`
    wherever they are. `flags` are the user's. Deadlines are in seconds.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        scratch: Path,
        flags: tuple[str, ...],
        local_builds: bool,
        substituters: tuple[str, ...],
        trusted_public_keys: tuple[str, ...],
        build_deadline: float,
        activate_deadline: float,
        store_dir: str,
        allow_insecure: tuple[UrlPrefix, ...] = (),
    ) -> None:
        self._runner = runner
        self._confinement = confinement(runner.environment, flags, allow_insecure)
        self._scratch = scratch
        self._flags = split_flags(flags).arguments
        self._build_flags = () if local_builds else ("--max-jobs", "0", "--builders", "")
        self._substituters = substituters
        self._trusted_public_keys = trusted_public_keys
        self._build_deadline = build_deadline
        self._activate_deadline = activate_deadline
        self._store_dir = store_dir
        self._no_reexec = _NO_REEXEC

    @override
    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        with self._directory() as cwd:
            done = await self._run("build", self._source(flake, host), self._build_deadline, cwd)
            if done.timed_out:
                message = f"nixos-rebuild build took longer than {self._build_deadline:g} s"
                raise NixError(Kind.NIX_TIMEOUT, message)
            if unknown := _unknown_options(done):
                raise NixError(
                    Kind.NIXOS_REBUILD_OPTIONS,
                    f"nixos-rebuild does not know {unknown}",
                    hint="is it in `flags`, or is this nixos-rebuild too old?",
                )
            if done.returncode != 0:
                raise build_fault(f"nixos-rebuild build of {host} of {flake}", done)
            return self._result(cwd)

    @override
    async def activate_flake(
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        return await self._activate(action, (*self._source(flake, host), *_as(specialisation)))

    @override
    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        return await self._activate(action, ("--store-path", path, *_as(specialisation)))

    async def _activate(self, action: Action, source: tuple[str, ...]) -> ActivationExit:
        relevant: list[str] = []

        def on_line(line: str) -> None:
            self._runner.say("nixos-rebuild", line)
            if is_relevant(line) and len(relevant) < _MOST_HEARD:
                relevant.append(line.strip())

        done = await self._run(action, source, self._activate_deadline, on_line=on_line)
        tail = with_relevant_lines(
            [*filter(is_relevant, done.stdout.splitlines()), *relevant], done.tail
        )
        return ActivationExit(done.returncode, tail, done.timed_out, _unknown_options(done))

    def _source(self, flake: LockedFlakeReference, host: str) -> tuple[str, ...]:
        # nixos-rebuild itself puts the host's name in quotes, so one with dots is passed as it is.
        return ("--flake", f"{flake}#{host}", "--no-update-lock-file", *self._build_flags)

    async def _run(
        self,
        action: str,
        source: tuple[str, ...],
        timeout: float,
        cwd: Path | None = None,
        *,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run it, with the older name of `--no-reexec` where it does not know that one."""
        argv = ("nixos-rebuild", action, *source, *self._flags)

        async def run() -> Completed:
            return await self._runner.run(
                (*argv, self._no_reexec),
                timeout=timeout,
                cwd=cwd,
                env=self._environment(),
                on_line=on_line,
            )

        try:
            done = await run()
            if _NO_REEXEC in _unknown_options(done).split():
                self._no_reexec = _OLDER_NO_REEXEC
                done = await run()
        except ProgramMissingError as error:
            raise NixError(Kind.NIXOS_REBUILD_MISSING, str(error)) from error
        for line in done.stdout.splitlines():
            self._runner.say("nixos-rebuild", line, stream="stdout")
        return done

    def _environment(self) -> dict[str, str]:
        """Return the variables with the settings: early nixos-rebuild-ng keeps one `--option`."""
        lines = [_SUBSTITUTE]
        if self._substituters:
            lines.append(f"substituters = {' '.join(self._substituters)}")
        if self._trusted_public_keys:
            lines.append(f"trusted-public-keys = {' '.join(self._trusted_public_keys)}")
        environment = {**self._runner.environment, **self._confinement}
        return {**self._confinement, "NIX_CONFIG": with_nix_config(environment, *lines)}

    def _result(self, cwd: Path) -> StorePath:
        link = cwd / "result"
        try:
            target = str(link.readlink())
        except OSError as error:
            raise NixError(
                Kind.NIX_NONSENSE, f"nixos-rebuild build left no result: {error.strerror}"
            ) from error
        return store_path_of(target, self._store_dir, "nixos-rebuild built")

    @override
    def sweep(self) -> None:
        # Only for who holds the agent's lock. What cannot be removed is left to the next run.
        with suppress(OSError):
            for left in self._scratch.glob(f"{_PREFIX}*"):
                if not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            directory = tempfile.TemporaryDirectory(
                prefix=_PREFIX, dir=self._scratch, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise state_fault(self._scratch, error) from error
        with directory as name:
            yield Path(name)


def _as(specialisation: str | None) -> tuple[str, ...]:
    """Return the option for a specialisation, which `switch` and `test` alone allow."""
    return () if specialisation is None else ("--specialisation", specialisation)


def _unknown_options(done: Completed) -> str:
    """Return the options that nixos-rebuild refused; empty where it did not."""
    found = _UNKNOWN_OPTION.search(done.tail) if done.returncode in _REFUSALS else None
    return (found["arguments"] or found["option"]) if found else ""
