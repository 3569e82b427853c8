"""Runs nix's own programs, whose messages are parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.adapters.nix.log import OWN_TERM
from agent.adapters.process import ProgramMissingError
from agent.domain.errors import Kind, NixError
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.adapters.process import Completed, Runner
    from agent.domain.store_path import StorePath

NIX: Final = ("nix", "--extra-experimental-features", "nix-command flakes")
IN_ENGLISH: Final = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}
"""The messages of nix, and of the git and ssh that it calls, are parsed."""


def store_path_of(text: object, store_dir: str, what: str) -> StorePath:
    """Return what a program has printed or built as a path of the store.

    Raises:
        NixError: NIX_NONSENSE: it is none; `what` is what the message begins with.
    """
    path = parse_store_path(text, store_dir) if isinstance(text, str) else None
    if path is None:
        message = f"{what} {text!r:.200}, which is no path of {store_dir}"
        raise NixError(Kind.NIX_NONSENSE, message)
    return path


async def run_nix(
    runner: Runner,
    argv: Sequence[str],
    *,
    deadline: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    hint: str = "",
) -> Completed:
    """Run a program of nix to its end, whatever its exit code.

    `deadline` is in seconds, and `hint` says where a longer one is set.

    Raises:
        NixError: NIX_MISSING, NIX_TIMEOUT.
    """
    env = {**IN_ENGLISH, **(env or {})}
    program = argv[0].rpartition("/")[2]

    def say(line: str) -> None:
        if OWN_TERM not in line:
            runner.say(program, line)

    try:
        done = await runner.run(argv, timeout=deadline, cwd=cwd, env=env, on_line=on_line or say)
    except ProgramMissingError as error:
        raise NixError(Kind.NIX_MISSING, str(error), hint="is nix on PATH?") from error
    if done.timed_out:
        what = " ".join((argv[0], *argv[len(NIX) : len(NIX) + 1])) if argv[0] == "nix" else argv[0]
        raise NixError(Kind.NIX_TIMEOUT, f"{what} took longer than {deadline:g} s", hint=hint)
    return done
