"""What keeps a host from being switched to a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.domain.systems import changed_inhibitors

if TYPE_CHECKING:
    from agent.application.ports import HostFacts
    from agent.domain.store_path import StorePath


def find_inhibitors(host: HostFacts, toplevel: StorePath | None) -> tuple[str, ...]:
    """Return the switch inhibitors that differ between the running system and `toplevel`."""
    running = host.systems().running
    if running is None or toplevel is None or running == toplevel:
        return ()
    return changed_inhibitors(host.switch_inhibitors(running), host.switch_inhibitors(toplevel))
