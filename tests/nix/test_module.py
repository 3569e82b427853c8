from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.process import ProgramFailedError, run_now
from agent.config.load import load_settings
from agent.demo.host import Layout, remove_tree

HERE = Path(__file__).parent
SEED = """
{
  enable = true;
  operation = "boot";
  host = "hostname";
  hydra = {
    instance = "https://your.hydra.example.com";
    project = "nix-config";
    jobset = "main";
    job = "hostname";
  };
  healthChecks.canaryHosts = [ "yourcanaryhostname" ];
  flags = [ ];
  dates = "*-*-* 04:40:00";
  allowReboot = false;
}
"""
LEAST = """
{
  enable = true;
  hydra = { instance = "https://hydra.example.org"; project = "p"; jobset = "j"; };
}
"""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOW = 'days = [ "mon" ]; timeZone = "UTC";'


@pytest.fixture(scope="module")
def settings_of(tmp_path_factory):
    """The settings that the module makes of options, through the agent's own validation."""
    root = tmp_path_factory.mktemp("module").resolve()
    layout = Layout(root)
    layout.make()
    layout.write_nix_conf((), ())

    def evaluated(options):
        expression = (
            f"import {HERE}/settings-of-module.nix"
            f" {{ module = {HERE.parents[1]}/module.nix; options = {options}; }}"
        )
        argv = ("nix-instantiate", "--eval", "--strict", "--json", "--expr", expression)
        made = json.loads(run_now(argv, env={**os.environ, **layout.environment()}))
        nothing = root / "nothing.toml"
        nothing.write_text("")
        return load_settings(nothing, overrides=made)

    yield evaluated
    remove_tree(root)


def test_a_whole_configuration_arrives_at_the_agent(settings_of):
    settings = settings_of(SEED)
    assert settings.host == "hostname"
    assert settings.action == "boot"
    assert settings.hydra.instance == "https://your.hydra.example.com"
    assert settings.job_name == "hostname"
    assert settings.health.canary_hosts == ("yourcanaryhostname",)
    assert settings.reboot.mode == "never"
    assert settings.log.format == "json"


def test_confirmation_arrives_at_the_agent(settings_of):
    settings = settings_of("""
      {
        enable = true;
        hydra = { instance = "https://hydra.example.org"; project = "p"; jobset = "j"; };
        foreignHold = "1d";
        confirm = {
          checks = [ { type = "icmp"; host = "gateway"; } ];
          settle = "10s"; deadline = "20m"; patience = "2d";
          hydra = false; gateway = false;
          onFailure = "hold";
          ignoreUnits = [ "backup-*.service" ];
        };
      }
    """)
    confirm = settings.confirm
    assert [check.host for check in confirm.checks] == ["gateway"]
    assert (confirm.settle, confirm.deadline) == (timedelta(seconds=10), timedelta(minutes=20))
    assert confirm.patience == timedelta(days=2)
    assert (confirm.hydra, confirm.gateway, confirm.on_failure) == (False, False, "hold")
    assert confirm.ignore_units == ("backup-*.service",)
    assert settings.upgrade.foreign_hold == timedelta(days=1)


def test_the_least_configuration_takes_the_hosts_own_name(settings_of):
    settings = settings_of(LEAST)
    assert settings.host == "from-networking"
    assert settings.action == "switch"
    assert settings.verify


def test_a_reboot_that_is_allowed_is_one_that_is_needed(settings_of):
    assert settings_of(f"{LEAST} // {{ allowReboot = true; }}").reboot.mode == "when-needed"


def test_reboots_arrive_at_the_agent(settings_of):
    reboot = settings_of(f"""
      {LEAST} // {{
        allowReboot = true;
        rebootWindow = {{ lower = "01:05"; upper = "05:00"; }};
        rebootWindows = [ {{
          days = [ "sat" "sun" ]; start = "23:00"; length = "4h"; timeZone = "America/Lima";
        }} ];
        reboot = {{
          splay = "30m"; margin = "20m"; inhibitorLimit = "6h"; userNotice = "5m"; tryBoot = false;
        }};
      }}
    """).reboot
    in_full, by_hours = reboot.windows
    assert (in_full.days, in_full.start) == (("sat", "sun"), "23:00")
    assert (in_full.length, in_full.time_zone) == (timedelta(hours=4), "America/Lima")
    assert (by_hours.days, by_hours.start) == (DAYS, "01:05")
    assert (by_hours.length, by_hours.time_zone) == (timedelta(minutes=235), "Europe/Berlin")
    assert (reboot.splay, reboot.margin) == (timedelta(minutes=30), timedelta(minutes=20))
    assert reboot.inhibitor_limit == timedelta(hours=6)
    assert reboot.user_notice == timedelta(minutes=5)
    assert reboot.try_boot is False


def test_the_hours_of_upgrades_arrive_at_the_agent(settings_of):
    settings = settings_of(f"""
      {LEAST} // {{ upgradeWindows = [ {{ {WINDOW} start = "04:00"; length = "2h"; }} ]; }}
    """)
    (window,) = settings.upgrade.windows
    assert (window.days, window.start) == (("mon",), "04:00")
    assert (window.length, window.time_zone) == (timedelta(hours=2), "UTC")
    assert settings.reboot.windows == ()


@pytest.mark.parametrize(
    ("lower", "upper", "minutes"),
    [
        ("23:00", "01:30", 150),
        ("00:00", "00:00", 1440),
        ("08:09", "09:08", 59),
        ("22:00", "00:00", 120),
    ],
)
def test_a_reboot_window_may_go_over_midnight(settings_of, lower, upper, minutes):
    hours = f'{{ lower = "{lower}"; upper = "{upper}"; }}'
    (window,) = settings_of(f"{LEAST} // {{ rebootWindow = {hours}; }}").reboot.windows
    assert window.start == lower
    assert window.length == timedelta(minutes=minutes)


@pytest.mark.parametrize("wrong", ["25:00", "04:60", "4:00", "24:00", "soon", "", "04:00:00"])
@pytest.mark.parametrize("end", ["lower", "upper"])
def test_a_reboot_window_that_is_no_time_is_refused(settings_of, end, wrong):
    hours = {"lower": "01:00", "upper": "05:00", end: wrong}
    written = " ".join(f'{name} = "{time}";' for name, time in hours.items())
    with pytest.raises(ProgramFailedError, match=r"rebootWindow.*is no time of day"):
        settings_of(f"{LEAST} // {{ rebootWindow = {{ {written} }}; }}")


def test_a_host_without_hydra_is_no_host_of_ours(settings_of):
    with pytest.raises(ProgramFailedError, match=r"instance|default"):
        settings_of("{ enable = true; }")
