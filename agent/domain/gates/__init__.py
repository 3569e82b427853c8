"""The gates: one file each, found by being here.

A gate's file has its name, the stages at which it is asked, the facts that it needs, its pure
judgement and its sentence in the documentation, as `GATE`. What a stage asks, what can be
ignored and what the documentation lists all follow from `registered`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.domain.gate import Gate, Stage


@cache
def registered() -> Mapping[str, Gate[Any]]:
    """Return every gate by its name, in the order in which they are asked.

    Raises:
        ValueError: two have one name, or one place.
    """
    modules = (import_module(f"{__name__}.{one.name}") for one in iter_modules(__path__))
    found: list[Gate[Any]] = [module.GATE for module in modules]
    gates = sorted(found, key=lambda gate: gate.order)
    for what in ("name", "order"):
        if len({getattr(gate, what) for gate in gates}) < len(gates):
            raise ValueError(f"two gates have the same {what}")
    return {gate.name: gate for gate in gates}


def asked_at(stage: Stage) -> tuple[Gate[Any], ...]:
    """Return the gates of a stage, in order."""
    return tuple(gate for gate in registered().values() if stage in gate.stages)


def ignorable() -> tuple[str, ...]:
    """Return the names of the gates that can be ignored, sorted."""
    return tuple(sorted(gate.name for gate in registered().values() if gate.is_ignorable))
