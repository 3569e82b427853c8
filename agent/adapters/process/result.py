"""How a program ended."""

from __future__ import annotations

from dataclasses import dataclass


class ProgramMissingError(Exception):
    """The program is not on PATH, or may not be executed."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: `returncode` is negative for a signal.

    `stdout` is whole up to 16 MiB; `tail` holds the last 200 lines of stderr, each cut at 4 KiB.
    """

    returncode: int
    stdout: str
    tail: str
    timed_out: bool = False

    @property
    def last_line(self) -> str:
        """The last line of stderr; without one, the exit code."""
        return (self.tail.strip().splitlines() or [f"exit code {self.returncode}"])[-1].strip()


def missing(program: str, error: OSError | ValueError) -> ProgramMissingError:
    """Return the fault of a program that could not be started."""
    why = error.strerror if isinstance(error, OSError) else error
    return ProgramMissingError(f"cannot run {program}: {why}")
