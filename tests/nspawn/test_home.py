"""A user's home on a real host: her own units under her own systemd, and nothing of root's."""

from __future__ import annotations

import json
import re

import pytest

from nix.evaluation import evaluate_homes, home_unit_files, without_null
from nspawn.agent_layer import AGENT
from nspawn.systems import SETTINGS, UPGRADE, merged, service, system, to_toml

EVE = "eve"
HOME = f"/home/{EVE}"
STATE = f"{HOME}/.local/state"
PROFILE = f"{STATE}/nix/profiles/home-manager"
CURRENT = f"{STATE}/home-manager/gcroots/current-home"
MARKS = f"{STATE}/nixos-hydra-agent/marks"
CONFIRM = "nixos-hydra-agent-confirm.service"
ACTIVATION = "nixos-hydra-agent-activation.service"
PATH = "/usr/local/bin:/usr/bin:/bin"
DAEMON = service("/usr/bin/nix-daemon")
MODULE = f"""
{{
  services.autoUpgradeHydra = {{
    enable = true;
    package = {{
      type = "derivation"; name = "agent"; outPath = "{AGENT.removesuffix("/bin/agent")}";
      meta.mainProgram = "agent";
    }};
    onStartupSec = null;
    hydra = {{ instance = "http://hydra.test"; project = "nix-config"; jobset = "main"; }};
    confirm.checks = [
      {{ type = "command"; command = [ "test" "-e" "{HOME}/.good" ]; timeout = "1s"; }}
    ];
  }};
}}
"""
QUICK = {
    "hydra": SETTINGS["hydra"],
    "disk": SETTINGS["disk"],
    "trust": SETTINGS["trust"],
    "confirm": {"settle": "0.5s", "deadline": "2s"},
}


@pytest.fixture(scope="module")
def release(site):
    """Give a function that builds a home with the module's units, and files; it has `.good`."""
    (made,) = evaluate_homes({"eve": MODULE}).values()
    assert made["problems"] == []
    units = {
        name: re.sub(r"PATH=\S*", f"PATH={PATH}", text)
        for name, text in home_unit_files(made).items()
    }
    units = {
        name: re.sub(
            r"/nix/store/\S*-settings.toml", "%h/.config/nixos-hydra-agent/config.toml", text
        )
        for name, text in units.items()
    }
    settings = to_toml(without_null(merged(made["settings"], QUICK)))

    def build(version, **changes):
        files = {".version": version, ".good": "", f".of-{version}": ""}
        parameters = {"version": version, "user": EVE, "files": files, "units": units}
        parameters |= {"wants": [CONFIRM], "agentConfig": settings, **changes}
        return site.builder.build_home(EVE, parameters)

    return build


class Eve:
    """A user of a host, who lingers."""

    def __init__(self, host) -> None:
        self.host = host

    def argv(self, *argv):
        variables = {"HOME": HOME, "USER": EVE, "PATH": PATH, "XDG_RUNTIME_DIR": "/run/user/1000"}
        assigned = [f"{name}={value}" for name, value in variables.items()]
        # Whoever comes from outside is in no session of hers, as cron would be.
        return ["runuser", "-u", EVE, "--", "env", "-i", f"--chdir={HOME}", *assigned, *argv]

    def ok(self, *argv):
        return self.host.ok(*self.argv(*argv))

    def systemctl(self, *arguments):
        return self.ok("systemctl", "--user", *arguments)

    def state(self, unit):
        return self.systemctl("show", "--property=ActiveState", "--value", unit).strip()

    def move_in(self, home):
        """Begin with a home, as she would by hand."""
        self.host.ok("useradd", "--create-home", "--uid=1000", EVE)
        self.host.ok("loginctl", "enable-linger", EVE)
        self.host.eventually(
            lambda: self.host.exists("/run/user/1000/bus"), "her systemd has come up"
        )
        self.ok("mkdir", "-p", f"{STATE}/nix/profiles")
        self.ok("nix-env", "--quiet", "-p", PROFILE, "--set", home.toplevel)
        self.ok(f"{home.toplevel}/activate", "--driver-version", "1")
        self.host.eventually(lambda: self.marks() == {"confirmed": home.toplevel}, "it is adopted")

    def upgrade(self):
        """Start her unit as its timer would, and return the summary of its run."""
        self.host.run(*self.argv("systemctl", "--user", "start", UPGRADE))
        return self.summaries()[-1]

    def summaries(self):
        return [event for event in self.events() if event["event"] == "run.finished"]

    def events(self):
        lines = self.host.ok(
            *("journalctl", "--quiet", "--output=cat", f"_SYSTEMD_USER_UNIT={UPGRADE}")
        ).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def marks(self):
        directory = self.host.find(MARKS)
        links = directory.glob("[a-z]*") if directory.exists() else ()
        marks = {link.name: str(link.readlink()) for link in links if link.is_symlink()}
        return {name: path for name, path in marks.items() if name != "candidate"}

    def is_wholly_on(self, home, version):
        there = self.host.find(f"{HOME}")
        assert [
            str(self.host.find(link).relative_to(self.host.root)) for link in (CURRENT, PROFILE)
        ] == [home.toplevel.lstrip("/")] * 2
        assert [f.name for f in there.glob(".of-*")] == [f".of-{version}"]
        assert self.host.read(f"{HOME}/.version") == version
        assert self.marks() == {"confirmed": home.toplevel}
        assert self.ok(
            "systemctl", "--user", "list-timers", "--all", "--output=json", "*dead-man*"
        ) in (
            "[]\n",
            "",
        )


@pytest.fixture
def eve(site, new_host, upstream, release):  # noqa: ARG001 - it is there
    """Eve on a host whose system has an agent, too."""
    first = site.build(
        system("26.05.1", units={"nix-daemon.service": DAEMON}, wants=["nix-daemon.service"])
    )
    host = new_host(first)
    host.power_on()
    eve = Eve(host)
    eve.move_in(release("1"))
    return eve


def test_a_home_is_upgraded_rolled_back_and_recovered_by_its_user(eve, release, upstream):
    first, good, bad = (
        release("1"),
        release("2"),
        release("3", files={".version": "3", ".of-3": ""}),
    )
    hung = release("4", breaksOffAfter="linkGeneration", breaksOffBy="exec sleep 600")

    upstream.offer(good, job=EVE)
    told = eve.upgrade()
    assert (told["outcome"], told["exit_code"]) == ("confirmed", 0), told
    eve.is_wholly_on(good, "2")
    assert eve.upgrade()["outcome"] == "nothing-to-do"
    eve.upgrade()
    assert eve.events()[-1]["event"] == "run.idle"
    upstream.offer(bad, job=EVE)
    told = eve.upgrade()
    assert (told["outcome"], told["error.kind"]) == ("rolled-back", "rolled-back"), told
    eve.is_wholly_on(good, "2")
    assert eve.upgrade()["reasons"][0]["name"] == "denied"

    upstream.offer(hung, job=EVE)
    eve.systemctl("start", "--no-block", UPGRADE)
    eve.host.eventually(lambda: eve.host.exists(f"{HOME}/.of-4"), "it is half-way")
    assert eve.state(ACTIVATION) == "active"
    eve.systemctl("kill", "--signal=SIGKILL", UPGRADE, ACTIVATION)
    eve.host.eventually(lambda: eve.state(UPGRADE) == "failed", "it is killed")
    assert eve.marks()["pending"] == hung.toplevel
    assert "dead-man" in eve.systemctl("list-timers", "--output=json")
    eve.systemctl("stop", "nixos-hydra-agent-dead-man-*.timer")  # the next run is first
    eve.upgrade()
    eve.is_wholly_on(good, "2")

    config = f"{HOME}/.config/nixos-hydra-agent/config.toml"
    eve.ok("agent", "rollback", "--config", config, "--reason", "she liked it better")
    eve.is_wholly_on(first, "1")
    # Nothing of hers was done by root.
    assert eve.host.ok("find", HOME, "-not", "-user", EVE) == ""


@pytest.mark.long
def test_a_home_waits_while_the_system_is_upgraded(site, eve, release, upstream):
    home = release("2")
    slow = {"confirm": {"settle": "3s"}}
    units = {"nix-daemon.service": DAEMON}
    newer = site.build(system("26.05.2", units=units, wants=["nix-daemon.service"], settings=slow))
    host = eve.host
    upstream.offer(newer)
    upstream.offer(home, job=EVE)
    host.systemctl("start", "--no-block", UPGRADE)
    host.await_state(UPGRADE, "activating")
    told = eve.upgrade()
    assert (told["outcome"], told["reasons"][0]["name"]) == ("held", "host-upgrade"), told
    assert eve.state("nixos-hydra-agent-wake.timer") == "active"
    host.await_state(UPGRADE, "inactive")
    assert host.systems().running == newer.toplevel
    assert eve.upgrade()["outcome"] == "confirmed"
    eve.is_wholly_on(home, "2")
