"""Starts programs: the only package that does."""

from agent.adapters.process.brief import Said, hear
from agent.adapters.process.ended import Completed, ProgramMissingError
from agent.adapters.process.runner import Runner, exit_code_of
from agent.adapters.process.watched import (
    ENDING_SIGNALS,
    ProgramFailedError,
    run_now,
    signals_held,
    watch_now,
)

__all__ = [
    "ENDING_SIGNALS",
    "Completed",
    "ProgramFailedError",
    "ProgramMissingError",
    "Runner",
    "Said",
    "exit_code_of",
    "hear",
    "run_now",
    "signals_held",
    "watch_now",
]
