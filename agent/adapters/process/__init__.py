"""Starts programs: the only package that does."""

from agent.adapters.process.blocking import (
    ENDING_SIGNALS,
    ProgramFailedError,
    run_now,
    signals_held,
    watch_now,
)
from agent.adapters.process.result import Completed, ProgramMissingError
from agent.adapters.process.runner import Output, Runner, capture

__all__ = [
    "ENDING_SIGNALS",
    "Completed",
    "Output",
    "ProgramFailedError",
    "ProgramMissingError",
    "Runner",
    "capture",
    "run_now",
    "signals_held",
    "watch_now",
]
