"""Lets a system's own settings decide on what follows its activation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.application.facts.specialisations import as_specialised, wanted_specialisation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.application.ports import FactPorts
    from agent.application.run import Run
    from agent.domain.policy import ConfirmPolicy, Policy
    from agent.domain.store_path import StorePath


def own_policy(run: Run[FactPorts], toplevel: StorePath) -> Policy:
    """Return the run's policy with what `toplevel` says about its own confirmation.

    Where that cannot be read, the run's own settings stay in force.
    """
    special = as_specialised(run.ports, toplevel, wanted_specialisation(run)) or toplevel
    theirs = run.ports.system_settings.confirm_of(special)
    return replace(run.policy, confirm=theirs or run.policy.confirm)


@contextmanager
def with_own_confirm_settings(run: Run[FactPorts], toplevel: StorePath) -> Iterator[ConfirmPolicy]:
    """Let what `toplevel` says about its confirmation count in `run`; yield what counts otherwise.

    Where that cannot be read, the run's own settings stay in force.
    """
    before = run.policy
    run.policy = own_policy(run, toplevel)
    try:
        yield before.confirm
    finally:
        run.policy = before
