"""The very units and settings that the NixOS module makes, at work on a real host."""

from __future__ import annotations

import pytest

from nix.evaluation import evaluate, unit_files
from nspawn.agent_layer import AGENT
from nspawn.builder import HOST
from nspawn.host_state import marks, summaries
from nspawn.systems import CONFIRM, DEADLINE_TIMER, SETTINGS, UPGRADE, merged, oneshot, system
from nspawn.test_reboot import A_MACHINE

COLLECTS = oneshot("/bin/touch /var/lib/collected")
FILES = {"/etc/secret": "hunter2\n", "/etc/netrc": "", "/etc/variables": "GIVEN=by a file\n"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Credentials and variables are seen where programs are run, before and after the upgrade.
SEES = """
[ {
  type = "command";
  command = [
    "sh" "-euc" ''
      grep -qx hunter2 "$CREDENTIALS_DIRECTORY/own"
      test "$NIX_CONFIG" = "netrc-file = $CREDENTIALS_DIRECTORY/netrc"
      test "$GIVEN" = "by a file"
    ''
  ];
} ]
"""
MODULE = f"""
{{
  system.autoUpgradeHydra = {{
    enable = true;
    package = {{
      type = "derivation"; name = "agent"; outPath = "{AGENT.removesuffix("/bin/agent")}";
      meta.mainProgram = "agent";
    }};
    host = "{HOST}";
    hydra = {{ instance = "http://hydra.test"; project = "nix-config"; jobset = "main"; }};
    onBootSec = "1s";
    randomizedDelaySec = "0";
    allowReboot = true;
    runGarbageCollection = true;
    healthChecks.checks = {SEES};
    confirm.checks = {SEES};
    credentials = {{ own = "/etc/secret"; netrc = "/etc/netrc"; }};
    environmentFile = "/etc/variables";
  }};
}}
"""


@pytest.fixture(scope="module")
def made():
    (made,) = evaluate({"host": MODULE}).values()
    assert made["problems"] == []
    return made


@pytest.fixture
def release(site, made):
    """Give a function that builds a system with the module's units, and a kernel of its own."""
    units = {
        name: text.replace("/packages/coreutils/bin/", "/usr/bin/")
        for name, text in unit_files(made, path=PATH).items()
    }

    def build(version, kernel):
        return site.build(
            system(
                version,
                kernel=kernel,
                units={"machine.service": A_MACHINE, "nix-gc.service": COLLECTS},
                early=["machine.service", DEADLINE_TIMER],
                agent_units=units,
                settings=merged(made["settings"], SETTINGS),
            )
        )

    return build


def is_confirmed(host, release):
    return marks(host).get("confirmed") == release.toplevel


def test_the_timer_upgrades_the_host_which_reboots_and_confirms_itself(release, new_host, upstream):
    first, second, third = (
        release(version, kernel)
        for version, kernel in (("26.05.1", "6.12.1"), ("26.05.2", "6.12.2"), ("26.05.3", "6.12.2"))
    )
    host = new_host(first)
    for name, text in FILES.items():
        host.write(name, text)
    upstream.offer(second)

    host.power_on()
    host.await_boot(2)

    host.eventually(lambda: is_confirmed(host, second), "the new system is confirmed")
    systems = host.systems()
    assert (systems.running, systems.booted, systems.profile) == (second.toplevel,) * 3
    assert summaries(host, UPGRADE)[0]["outcome"] == "rebooting"
    host.eventually(lambda: host.exists("/var/lib/collected"), "garbage is collected")

    for unit in (UPGRADE, CONFIRM):
        host.await_state(unit, "inactive")
    # As on NixOS: nix has to make it writable, in a mount namespace of its own.
    host.ok("mount", "--bind", "/nix/store", "/nix/store")
    host.ok("mount", "-o", "remount,ro,bind", "/nix/store")
    assert host.run("touch", "/nix/store/file").rc != 0
    upstream.offer(third)
    host.systemctl("start", UPGRADE)

    assert is_confirmed(host, third)
    assert host.systems().running == third.toplevel
    # It was done by units as the module makes them.
    for unit in (UPGRADE, CONFIRM):
        assert host.state(unit, "ProtectKernelModules") == "yes"
        assert host.state(unit, "LockPersonality") == "yes"
