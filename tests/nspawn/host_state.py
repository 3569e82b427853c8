"""What a host shows of an upgrade: marks, timers, history, and what the agent has logged."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.domain.unit_names import DEAD_MAN_UNIT
from nspawn.systems import CONFIRM, UPGRADE

if TYPE_CHECKING:
    from nspawn.real_host import RealHost

MARKS = "/nix/var/nix/gcroots/nixos-hydra-agent"
DEAD_MEN = f"{DEAD_MAN_UNIT}-*"


def marks(host: RealHost) -> dict[str, str]:
    """Return the agent's marks by name; the root that keeps what is fetched is none."""
    directory = host.find(MARKS)
    if not directory.exists():
        return {}
    links = {
        link.name: str(link.readlink()) for link in directory.glob("[a-z]*") if link.is_symlink()
    }
    return {name: path for name, path in links.items() if name != "candidate"}


def timers(host: RealHost) -> list[str]:
    """Return the dead-man's timers that are set."""
    told = host.ok("systemctl", "list-timers", "--all", "--output=json", f"{DEAD_MEN}.timer")
    return [timer["unit"] for timer in json.loads(told or "[]")]


def history(host: RealHost) -> dict[str, Any]:
    """Return what `agent history` tells."""
    told: dict[str, Any] = json.loads(host.ok("agent", "history", "--json"))
    return told


def events(host: RealHost, *units: str) -> list[dict[str, Any]]:
    """Return all that the agent has logged in units, the oldest first."""
    chosen = [f"--unit={unit}" for unit in units or (UPGRADE, CONFIRM, DEAD_MEN)]
    lines = host.ok("journalctl", "--quiet", "--output=cat", *chosen).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def summaries(host: RealHost, *units: str) -> list[dict[str, Any]]:
    """Return the last event of each run."""
    return [told for told in events(host, *units) if told["event"] == "run.finished"]


def moment(host: RealHost, name: str) -> float:
    """Return when an event was logged last, in seconds since the epoch."""
    when = [told["timestamp"] for told in events(host) if told["event"] == name]
    assert when, f"{name} was never logged"
    return datetime.fromisoformat(when[-1]).timestamp()


def seconds(host: RealHost, first: str, last: str) -> float:
    """Return the time between the last of two events by name."""
    return moment(host, last) - moment(host, first)
