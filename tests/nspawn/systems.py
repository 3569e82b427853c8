"""What the systems of real hosts are made of: the agent's units, as the NixOS module makes them, its
settings, and units to break."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nspawn.agent_layer import AGENT
from nspawn.builder import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT = "nix-config"
JOBSET = "main"

UPGRADE = "nixos-hydra-agent.service"
TIMER = "nixos-hydra-agent.timer"
CONFIRM = "nixos-hydra-agent-confirm.service"
DEADLINE = "nixos-hydra-agent-boot-deadline.service"
DEADLINE_TIMER = "nixos-hydra-agent-boot-deadline.timer"

# As nixpkgs' systemd-lib.nix writes `restartIfChanged`, and the module its own key.
_UNIT_OF_THE_MODULE = "X-StopOnRemoval=false"
_SERVICE_OF_THE_MODULE = "X-RestartIfChanged=false"
_ENVIRONMENT = "Environment=HOME=/root"


def system(
    version: str,
    *,
    units: Mapping[str, str] | None = None,
    wants: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    agent: bool = True,
    agent_units: Mapping[str, str] | None = None,
    **parameters: object,
) -> dict[str, object]:
    """Return the parameters of a system with the agent in it; see `Builder.build`.

    `settings` are laid over `SETTINGS`, table by table. `agent_units` replace those of the agent by
    name; without `agent` there are none, and no settings. `parameters` are those of `system.nix`.
    """
    its_units: dict[str, str] = {}
    wanted: list[str] = []
    if agent:
        its_units = {
            UPGRADE: upgrade_unit(),
            TIMER: timer_unit(),
            CONFIRM: confirm_unit(),
            DEADLINE: deadline_unit(),
            DEADLINE_TIMER: deadline_timer(),
        }
        parameters.setdefault("early", [DEADLINE_TIMER])
        its_units |= agent_units or {}
        wanted = [name for name in (TIMER, CONFIRM) if name in its_units]
        parameters["agentConfig"] = to_toml(merged(SETTINGS, settings or {}))
    return {
        "version": version,
        "units": {**its_units, **(units or {})},
        "wants": [*wanted, *wants],
        **parameters,
    }


SETTINGS: dict[str, Any] = {
    "host": HOST,
    "hydra": {
        "instance": "http://hydra.test",
        "project": PROJECT,
        "jobset": JOBSET,
        "timeout": "2s",
        "deadline": "4s",
    },
    "disk": {"store_reserve": "1MiB", "boot_reserve": "1MiB"},
    # The hosts' flakes are files here.
    "trust": {"allow_insecure": ["git+file:///repos"]},
    "confirm": {"settle": "1s", "deadline": "10s"},
    "log": {"format": "json"},
}
"""The settings of hosts, where a test says nothing else: everything is done within seconds."""


# The agent's units


def upgrade_unit(agent: str = AGENT) -> str:
    """Return the unit that looks for a newer build."""
    return f"""\
[Unit]
Description=Upgrade to Hydra's newest good build of this host
After=network-online.target
Wants=network-online.target
{_UNIT_OF_THE_MODULE}

[Service]
{_SERVICE_OF_THE_MODULE}
Type=oneshot
ExecStart={agent} upgrade
{_ENVIRONMENT}
StateDirectory=nixos-hydra-agent
StateDirectoryMode=0700
SuccessExitStatus=69 75
TimeoutStartSec=10h
"""


def timer_unit(when: str = "OnActiveSec=30d") -> str:
    """Return the timer of `upgrade_unit`, which goes off in no test that does not say when."""
    return f"""\
[Unit]
Description=Look for a new good build of this host

[Timer]
{when}
"""


def confirm_unit(agent: str = AGENT, *, restart_after: str = "1s") -> str:
    """Return the unit that confirms what was activated, or rolls it back.

    An `agent` of `/bin/false` is one that cannot run.
    """
    return f"""\
[Unit]
Description=Confirm the system that the last upgrade has activated
{_UNIT_OF_THE_MODULE}

[Service]
{_SERVICE_OF_THE_MODULE}
Type=exec
ExecStart={agent} confirm
{_ENVIRONMENT}
StateDirectory=nixos-hydra-agent
StateDirectoryMode=0700
Restart=on-failure
RestartForceExitStatus=75
RestartSec={restart_after}

[Install]
WantedBy=multi-user.target
"""


_EARLY = """\
DefaultDependencies=no
IgnoreOnIsolate=yes
Conflicts=shutdown.target
Before=shutdown.target
"""


def deadline_unit(agent: str = AGENT) -> str:
    """Return the unit that leaves a booted system which nobody has confirmed."""
    marks = "/nix/var/nix/gcroots/nixos-hydra-agent"
    conditions = "\n".join(
        f"ConditionPathIsSymbolicLink=|{marks}/{mark}"
        for mark in ("pending", "staged", "rolling-back")
    )
    return f"""\
[Unit]
Description=Roll back a system that was not confirmed after boot
{_UNIT_OF_THE_MODULE}
{_EARLY}{conditions}
FailureAction=reboot

[Service]
{_SERVICE_OF_THE_MODULE}
Type=oneshot
ExecStart={agent} dead-man --booted
SuccessExitStatus=1 75 130 143
{_ENVIRONMENT}
"""


def deadline_timer(when: str = "OnBootSec=20min") -> str:
    """Return the timer of `deadline_unit`."""
    return f"""\
[Unit]
Description=Roll back a system that was not confirmed after boot
{_EARLY}
[Timer]
{when}
AccuracySec=100ms
"""


# Units to play with


def service(start: str = "/bin/sleep infinity", *lines: str, unit: Sequence[str] = ()) -> str:
    """Return a service; `lines` go to its section `Service`, `unit` to its section `Unit`."""
    return "\n".join(["[Unit]", *unit, "[Service]", f"ExecStart={start}", *lines, ""])


def oneshot(start: str, *lines: str, unit: Sequence[str] = ()) -> str:
    """Return a unit that does something once and counts as active ever after."""
    return service(start, "Type=oneshot", "RemainAfterExit=yes", *lines, unit=unit)


CUTS_THE_ROUTE = oneshot("/usr/sbin/ip route delete default")
"""A unit that cuts the host off from all that is behind its gateway."""
PULLS_THE_CABLE = oneshot("/usr/sbin/ip link set host0 down")
"""A unit that cuts the host off from everything."""
CANNOT_START = service("/bin/false", "Type=oneshot")
"""A unit that fails when it is started."""


# Settings as a file


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Lay tables over tables; what is no table is replaced."""
    result = dict(one)
    for name, value in other.items():
        known = result.get(name)
        both_are_tables = isinstance(known, dict) and isinstance(value, dict)
        result[name] = merged(known, value) if both_are_tables else value
    return result


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in sorted(tables.items()))


def _value(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            return json.dumps(value)
