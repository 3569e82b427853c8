"""The command check: does a program exit with 0?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, StrictBool
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.domain.secrets import hide_secrets
from agent.fields.values import Duration

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """One program, without a shell: passes if it exits with 0, in time.

    After it has ended or its timeout is over, the rest of its process group is killed.
    """

    name: str
    command: tuple[str, ...]
    timeout: timedelta
    is_wanted: bool = False

    type = "command"

    @property
    def target(self) -> str:
        """What is run, human-readable, without what looks like a credential."""
        shown = hide_secrets(list(self.command))
        assert isinstance(shown, list)  # noqa: S101 - a list stays one
        return shlex.join(shown)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    program = value[0]
    if not program.startswith("/") and (not program or "/" in program):
        raise ValueError("the program is an absolute path, or a name to be found on PATH")
    if any("\0" in word for word in value):
        raise ValueError("a command has no NUL")
    return value


class CommandCheckSection(CheckSection):
    """Does a program exit with 0? It runs in the agent's environment, without a shell or input."""

    type: Literal["command"]
    """`command`."""
    command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_command)]
    """The program, a name or an absolute path, and its arguments."""
    name: str = ""
    """Name in reports; by default the command."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit, after which the program and all that it has started are killed."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @override
    def check(self, name: str) -> CommandCheck:
        return CommandCheck(name, self.command, self.timeout, self.wanted)


SECTION: Final = CommandCheckSection
ORDER: Final = 60
