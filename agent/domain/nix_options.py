"""Options of nix that contain a credential, among the flags in the settings.

All users of a host can read a program's arguments, so these are passed in `NIX_CONFIG` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.domain.secrets import has_secret, hide_secrets, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPTION: Final = "--option"
_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class SplitFlags:
    """Flags to pass as arguments, and `--option NAME VALUE` as lines of NIX_CONFIG."""

    arguments: tuple[str, ...]
    lines: tuple[str, ...]


def split_flags(flags: Sequence[str]) -> SplitFlags:
    """Return the flags with the options that contain a credential separated out."""
    arguments: list[str] = []
    lines: list[str] = []
    rest = list(flags)
    while rest:
        is_whole = rest[0] == _OPTION and len(rest) >= _WORDS
        taken, rest = rest[: _WORDS if is_whole else 1], rest[_WORDS if is_whole else 1 :]
        if is_whole and (is_secret_name(taken[1]) or has_secret(taken[2])):
            lines.append(f"{taken[1]} = {taken[2]}")
        else:
            arguments += taken
    return SplitFlags(tuple(arguments), tuple(lines))


def refuse_open_secrets(flags: Sequence[str]) -> None:
    """Make sure that no credential is passed as an argument.

    Raises:
        ValueError: one would be, or it cannot be written as a line of NIX_CONFIG.
    """
    split = split_flags(flags)
    words = list(split.arguments)
    if hide_secrets(words) != words or has_secret(" ".join(words)):
        raise ValueError(
            "a flag contains a password or a token, which all users of this host could read among"
            " the arguments of nix: write an option of nix as '--option', NAME, VALUE, which is"
            " passed in the environment; passwords belong in nix's netrc-file"
        )
    if any("#" in line for line in split.lines):
        raise ValueError(
            "an option with a credential contains a '#', which nix takes for a comment"
        )
