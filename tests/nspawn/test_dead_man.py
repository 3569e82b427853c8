"""An upgrade whose agent was killed right after the activation ends on time, and one way only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nspawn.activation_breakpoint import Gate
from nspawn.host_state import DEAD_MEN, MARKS, history, marks, moment, summaries, timers
from nspawn.systems import CONFIRM, UPGRADE, confirm_unit, system

_CHECK = {
    "type": "command",
    "name": "health",
    "command": ["/bin/grep", "-q", "healthy", "/run/current-system/etc/health"],
    "timeout": "1s",
}
_SETTINGS = {
    "strategy": "store-path",
    "activate": {"deadline": "4s"},
    "confirm": {"settle": "0.1s", "deadline": "1s", "checks": [_CHECK]},
}
_DELAY = 4 + 0.1 + 1 + 5
"""Seconds from the arming of the timer until it fires."""
_SESSION = "session-7.scope"
_PROVEN = ("check-failed", "confirm-unit-failed")
_FILLING = "/var/lib/filling"
_ENVIRONMENTS = "/run/nixos-hydra-agent-environment"
# Of a person who upgrades by hand; the second is seen to reach the dead-man.
_VARIABLES = (
    'NIX_CONFIG=access-tokens = "h"=hunter2\n# `$x` \\ %h',
    "NIXOS_HYDRA_AGENT_LOG__LEVEL=debug",
)


def described(version: str, *, starts: bool = True, **parameters: Any) -> dict[str, Any]:
    """Describe a system; without `starts` the switch does not get to start its confirm unit."""
    told = system(version, settings=_SETTINGS, **parameters)
    if not starts:
        told["wants"] = [unit for unit in told["wants"] if unit != CONFIRM]
    return told


@dataclass
class Fate:
    """An upgrade that loses its agent, and what becomes of it."""

    parameters: dict[str, Any]
    is_kept: bool = False
    reason: str = ""
    in_session: bool = False
    fills_disk: bool = False
    host: Any = field(default=None, init=False)
    target: Any = field(default=None, init=False)
    armed_at: float = field(default=0, init=False)

    def begin(self) -> None:
        """Upgrade until all is activated, and kill the agent with whatever it has started."""
        gate = Gate(self.host, "stc-hang-after")
        if self.in_session:
            scope = ("--scope", "--quiet", "--slice=user-0.slice", f"--unit={_SESSION}")
            unit, options = (
                _SESSION,
                ("env", *_VARIABLES, "systemd-run", *scope, "agent", "upgrade"),
            )
        else:
            unit, options = UPGRADE, ("systemctl", "start", UPGRADE)
        with self.host.start(*options) as child:
            gate.await_activation()
            self.host.systemctl("kill", "--signal=SIGKILL", unit)
            child.communicate()
        gate.open()
        self.armed_at = (self.host.find(MARKS) / "pending").lstat().st_mtime
        assert len(timers(self.host)) == 1, "it outlives the agent, and the session"
        self._assert_its_variables_are_its_own()
        if self.fills_disk:
            self.host.run("dd", "if=/dev/zero", f"of={_FILLING}", "bs=64K")

    def _assert_its_variables_are_its_own(self) -> None:
        """What the timer's service will be given is in a file of root's, and shown to nobody else."""
        (timer,) = timers(self.host)
        service = timer.replace(".timer", ".service")
        asked = ("show", "--property=Environment,EnvironmentFiles", service)
        told = self.host.systemctl(*asked)
        assert "hunter2" not in told
        assert f"EnvironmentFiles={_ENVIRONMENTS}/{service.replace('.service', '.env')}" in told
        kept = self.host.ok("find", _ENVIRONMENTS, "-printf", "%m %u\\n").splitlines()
        assert kept[0] == "700 root"
        assert set(kept[1:]) == {"600 root"}

    def await_end(self) -> None:
        """Wait until the dead-man has come and gone."""

        def is_gone() -> bool:
            asked = ("list-units", "--all", "--plain", "--no-legend", f"{DEAD_MEN}")
            return not self.host.systemctl(*asked).strip()

        self.host.eventually(is_gone, "the dead-man has come and gone")

    def assert_ended(self, first: Any) -> None:
        """Assert that the dead-man ended it, as it had to, when it had to."""
        host, expected = self.host, self.target if self.is_kept else first
        systems = host.systems()
        assert systems.running == systems.profile == systems.boot_default == expected.toplevel
        if self.fills_disk:
            self._assert_written_down_once_there_is_room()
        assert marks(host) == {"confirmed": expected.toplevel}
        assert timers(host) == []
        assert self.host.ok("ls", _ENVIRONMENTS) == ""
        if self.in_session:
            assert "process.started" in self.host.ok(
                "journalctl", "--output=cat", f"--unit={DEAD_MEN}"
            )
        told = history(host)
        row = [run for run in told["runs"] if run["outcome"] != "held"][-1]
        assert row["outcome"] == ("confirmed" if self.is_kept else "rolled-back"), row
        assert row["toplevel"] == self.target.toplevel, row
        assert [reason["name"] for reason in row["reasons"]] == [self.reason] * bool(self.reason)
        denied = [denial["toplevel"] for denial in told["denials"]]
        assert denied == [self.target.toplevel] * (self.reason in _PROVEN)

    def times(self) -> tuple[float, float]:
        """Return the seconds until the dead-man was there, and those that it took."""
        fired = moment(self.host, "deadman.fired")
        ended = "confirmation.confirmed" if self.is_kept else "rollback.finished"
        return fired - self.armed_at, moment(self.host, ended) - fired

    def _assert_written_down_once_there_is_room(self) -> None:
        # It is beside the history by now, where some room was kept.
        assert set(marks(self.host)) == {"confirmed"}
        self.host.ok("rm", _FILLING)
        assert self.host.run("systemctl", "start", UPGRADE).rc == 0
        assert summaries(self.host, UPGRADE)[-1]["reasons"][0]["name"] == "denied"


def fates() -> dict[str, Fate]:
    cannot = {CONFIRM: confirm_unit("/bin/false")}
    return {
        "healthy": Fate(described("26.05.2", starts=False), is_kept=True, in_session=True),
        "broken": Fate(described("26.05.3", starts=False, health="broken"), reason="check-failed"),
        "its agent cannot start": Fate(
            described("26.05.4", agent_units=cannot), reason="confirm-unit-failed"
        ),
        "nor is there room": Fate(
            described("26.05.5", agent_units=cannot), reason="confirm-unit-failed", fills_disk=True
        ),
    }


def test_the_dead_man_ends_an_upgrade_whose_agent_was_killed(site, new_host, upstream):
    first = site.build(described("26.05.1"))
    all_fates = fates()
    for fate in all_fates.values():
        fate.target = site.build(fate.parameters)
        fate.host = new_host(first, disk="96m" if fate.fills_disk else "768m")
        fate.host.power_on()
        fate.host.await_state(CONFIRM, "inactive")  # the boot's own
        upstream.offer(fate.target)
        fate.begin()

    for name, fate in all_fates.items():
        fate.await_end()
        fate.assert_ended(first)
        if not fate.fills_disk:  # the log had no room either
            fired, taken = fate.times()
            print(f"{name}: fired after {fired:.1f} s, ended {taken:.1f} s later")  # noqa: T201
            assert _DELAY - 0.5 < fired < _DELAY + 5
            assert 0 < taken < 10
