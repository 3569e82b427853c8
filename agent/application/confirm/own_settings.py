"""Lets a system's own settings decide on what follows its activation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application.act.specialisation import as_specialised, wanted_specialisation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.run import Run
    from agent.domain.policy import ConfirmPolicy
    from agent.domain.store_path import StorePath


@contextmanager
def judged_by_its_own(run: Run, toplevel: StorePath) -> Iterator[ConfirmPolicy]:
    """Let what `toplevel` says about its confirmation count in `run`; yield what counts otherwise.

    Where that cannot be read, the run's own settings stay in force.
    """
    before = run.policy
    special = as_specialised(run.ports, toplevel, wanted_specialisation(run)) or toplevel
    theirs = run.ports.system_settings.confirm_of(special)
    run.policy = replace(before, confirm=theirs or before.confirm)
    try:
        yield before.confirm
    finally:
        run.policy = before
