"""The check types, from their folders, and with them settings, schema, documentation and probes."""

from __future__ import annotations

from functools import cache, reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from agent import checks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.checks.check_type import CheckSection, Probe
    from agent.domain.check import Check


@cache
def check_sections() -> Mapping[str, type[CheckSection]]:
    """Return the settings tables by their `type`, in the order in which they are listed."""
    names = [found.name for found in iter_modules(checks.__path__) if found.ispkg]
    names.sort(key=lambda name: _part(name).ORDER)
    return {name: _part(name).SECTION for name in names}


def load_probe(kind: str) -> Probe[Any]:
    """Return a probe for checks of a type, and load what it needs."""
    probe: Probe[Any] = _part(f"{kind}.probe").PROBE()
    return probe


def check_of(section: CheckSection) -> Check:
    """Return the check that a table describes; without a name it is named after its target."""
    return section.check(section.name or section.check("").target)


def _part(name: str) -> Any:
    return import_module(f"{checks.__name__}.{name}")


if TYPE_CHECKING:
    AnyCheckSection = CheckSection
else:
    AnyCheckSection: Final = Annotated[
        reduce(or_, check_sections().values()), Field(discriminator="type")
    ]
