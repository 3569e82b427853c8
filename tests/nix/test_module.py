"""What the module makes of a configuration: settings of the agent, and units."""

from __future__ import annotations

import json
import math

import pytest

from agent.config.load import load_settings
from agent.config.show import shown
from nix.configurations import EVERYTHING, LEAST, SEED, with_options
from nix.evaluation import NIXPKGS_LIB, evaluate

UPGRADE, CONFIRM = "services/nixos-hydra-agent", "services/nixos-hydra-agent-confirm"
BOOT_DEADLINE, TIMER = "services/nixos-hydra-agent-boot-deadline", "timers/nixos-hydra-agent"
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WINDOW = '[ { days = [ "mon" ]; start = "04:00"; length = "2h"; timeZone = "America/Lima"; } ]'
THE_WINDOW = {"days": ["mon"], "start": "04:00", "length": "2h", "time_zone": "America/Lima"}
CHECK = '[ { type = "tcp"; host = "db"; port = 7; } ]'

# option: (its value, or all of `system.autoUpgradeHydra`; where it arrives; as what)
ARRIVES = {
    "enable": ("true", f"{UPGRADE}/serviceConfig/Type", "oneshot"),
    "package": (
        '{ type = "derivation"; name = "x"; outPath = "/x"; meta.mainProgram = "y"; }',
        f"{UPGRADE}/serviceConfig/ExecStart",
        "/x/bin/y upgrade",
    ),
    "host": ('"web-1"', "settings/host", "web-1"),
    "operation": ('"boot"', "settings/action", "boot"),
    "strategy": ('"store-path"', "settings/strategy", "store-path"),
    "specialisation": ('"quiet"', "settings/specialisation", "quiet"),
    "verify": ("false", "settings/verify", False),
    "flags": ('[ "-L" ]', "settings/flags", ["-L"]),
    "hydra.instance": ('"http://h:8/sub"', "settings/hydra/instance", "http://h:8/sub"),
    "hydra.project": ('"other"', "settings/hydra/project", "other"),
    "hydra.jobset": ('"other"', "settings/hydra/jobset", "other"),
    "hydra.job": ('"\\"a.b\\""', "settings/hydra/job", '"a.b"'),
    "hydra.select": ('"latest-finished"', "settings/hydra/select", "latest-finished"),
    "hydra.timeout": ("7", "settings/hydra/timeout", "7s"),
    "hydra.deadline": ('"1h30m"', "settings/hydra/deadline", "90m"),
    "hydra.refresh": ('"7h"', "settings/hydra/refresh", "7h"),
    "hydra.patience": ('"7h"', "settings/hydra/patience", "7h"),
    "fetch.substituters": ('[ "https://c" ]', "settings/fetch/substituters", ["https://c"]),
    "fetch.trustedPublicKeys": (
        '[ "k:AAAA" ]',
        "settings/fetch/trusted_public_keys",
        ["k:AAAA"],
    ),
    "fetch.localBuilds": ("true", "settings/fetch/local_builds", True),
    "fetch.deadline": ('"7h"', "settings/fetch/deadline", "7h"),
    "activate.deadline": ('"7m"', "settings/activate/deadline", "7m"),
    "clock.patience": ('"7d"', "settings/clock/patience", "7d"),
    "disk.storeReserve": ('"7GiB"', "settings/disk/store_reserve", "7GiB"),
    "disk.bootReserve": ("0", "settings/disk/boot_reserve", "0"),
    "healthChecks.deadline": ('"70s"', "settings/health/deadline", "70s"),
    "healthChecks.canaryHosts": (
        '[ "a" "192.0.2.1" "https://b" ]',
        "settings/health/canary_hosts",
        ["a", "192.0.2.1", "https://b"],
    ),
    "healthChecks.checks": (CHECK, "settings/health/checks/0/port", 7),
    "confirm.checks": (CHECK, "settings/confirm/checks/0/host", "db"),
    "confirm.settle": ('"7s"', "settings/confirm/settle", "7s"),
    "confirm.deadline": ('"7m"', "settings/confirm/deadline", "7m"),
    "confirm.patience": ('"7d"', "settings/confirm/patience", "7d"),
    "confirm.hydra": ("false", "settings/confirm/hydra", False),
    "confirm.gateway": ("false", "settings/confirm/gateway", False),
    "confirm.onFailure": ('"hold"', "settings/confirm/on_failure", "hold"),
    "confirm.ignoreUnits": ('[ "a-*.service" ]', "settings/confirm/ignore_units", ["a-*.service"]),
    "runGarbageCollection": ("true", "settings/confirm/collect_garbage", True),
    "foreignHold": ('"7h"', "settings/upgrade/foreign_hold", "7h"),
    "allowReboot": ("true", "settings/reboot/mode", "when-needed"),
    "rebootWindow": (
        '{ lower = "01:05"; upper = "05:00"; }',
        "settings/reboot/windows",
        [{"days": WEEK, "start": "01:05", "length": "235m", "time_zone": "UTC"}],
    ),
    "rebootWindows": (WINDOW, "settings/reboot/windows", [THE_WINDOW]),
    "upgradeWindows": (WINDOW, "settings/upgrade/windows", [THE_WINDOW]),
    "reboot.splay": ('"7m"', "settings/reboot/splay", "7m"),
    "reboot.margin": ('"7m"', "settings/reboot/margin", "7m"),
    "reboot.inhibitorLimit": ('"7h"', "settings/reboot/inhibitor_limit", "7h"),
    "reboot.userNotice": ('"7m"', "settings/reboot/user_notice", "7m"),
    "reboot.tryBoot": ("false", "settings/reboot/try_boot", False),
    "reboot.deadline": (
        '"7min"',
        "timers/nixos-hydra-agent-boot-deadline/timerConfig/OnBootSec",
        "7min",
    ),
    "dates": ('"*:0/5"', f"{TIMER}/timerConfig/OnCalendar", "*:0/5"),
    "randomizedDelaySec": ('"45min"', f"{TIMER}/timerConfig/RandomizedDelaySec", "45min"),
    "fixedRandomDelay": ("false", f"{TIMER}/timerConfig/FixedRandomDelay", False),
    "persistent": ("false", f"{TIMER}/timerConfig/Persistent", False),
    "onBootSec": ('"15min"', f"{TIMER}/timerConfig/OnBootSec", "15min"),
    "onlyOnACPower": ("true", f"{UPGRADE}/unitConfig/ConditionACPower", True),
    "credentials": (
        '{ a = "/run/a"; }',
        f"{UPGRADE}/serviceConfig/LoadCredential",
        ["a:/run/a"],
    ),
    "environmentFile": ('"/run/e"', f"{CONFIRM}/serviceConfig/EnvironmentFile", "/run/e"),
    "settings": ('{ paths.boot = "/efi"; }', "settings/paths/boot", "/efi"),
}
# Their parts are seen to arrive with those that they belong to.
PARTS = ("rebootWindow.", "rebootWindows.", "upgradeWindows.")
OTHERS = {
    "least": f"{{ imports = [ {LEAST} ]; }}",
    "off": "{ }",
    "seed": SEED,
    "everything": EVERYTHING,
    "reboots": with_options("allowReboot = true;"),
    "reboots below Xen": with_options("allowReboot = true;", "virtualisation.xen.enable = true;"),
    "a user's name in flags": with_options(
        'flags = [ "--option" "substituters" "ssh-ng://nix@builder" ];'
    ),
    "reboots on an older NixOS": with_options("allowReboot = true;", "isOlder = true;"),
    "reboots without a try": with_options("allowReboot = true; reboot.tryBoot = false;"),
    "known secrets": with_options('credentials = { netrc = "/run/n"; ssh-key = "/run/k"; };'),
    "builds": with_options("fetch.localBuilds = true;"),
    "builds and reboots by settings": with_options(
        'settings = { reboot.mode = "always"; fetch.local_builds = true; };'
    ),
    "settings win": with_options('operation = "boot"; settings.action = "switch";'),
    "others": with_options(
        """
        rebootWindow = { lower = "22:00"; upper = "00:00"; };
        upgradeWindows = [ { start = "08:09"; length = 3600; } ];
        """,
        """
        networking.proxy.envVars.https_proxy = "http://proxy";
        boot.loader.grub.enable = true;
        services.chrony.enable = true;
        time.timeZone = "Europe/Berlin";
        """,
    ),
    "slow": with_options("""
      hydra.deadline = "1h30m";
      fetch.deadline = 3600.5;
      activate.deadline = "0010";
      settings.health.deadline = "500ms";
    """),
}
CASES = {option: with_options(f"{option} = {value};") for option, (value, *_) in ARRIVES.items()}
EVALUATORS = {"our own": None} | ({"nixpkgs": NIXPKGS_LIB} if NIXPKGS_LIB else {})


@pytest.fixture(scope="module", params=EVALUATORS)
def systems(request):
    """All cases in one evaluation."""
    made = evaluate(CASES | OTHERS, nixpkgs_lib=EVALUATORS[request.param])
    assert {
        name: found["problems"] for name, found in made.items() if found["problems"] != []
    } == {}
    return made


@pytest.fixture
def read(systems, tmp_path):
    """What is at a place of a case; settings are those that the agent has read, in its own words."""

    def reading(case, place):
        value = systems[case]
        first, *rest = place.split("/")
        if first == "settings":
            nothing = tmp_path / "nothing.toml"
            nothing.write_text("")
            value = {first: json.loads(shown(load_settings(nothing, overrides=value[first])))}
        for part in (first, *rest):
            value = value[int(part)] if isinstance(value, list) else value.get(part)
        return value

    return reading


@pytest.mark.parametrize("option", ARRIVES)
def test_an_option_arrives_at_the_agent_or_in_a_unit(read, option):
    _, place, expected = ARRIVES[option]
    assert read(option, place) == expected
    if option != "enable" and not place.endswith(("/0/port", "/0/host")):
        assert read("least", place) != expected, "it would be so without the option"


def test_no_option_is_left_out():
    from nix.test_module_refusals import REFUSED

    names = {option["name"] for option in evaluate({}, "options")}
    told = set(ARRIVES) | {name for name in names if name.startswith(PARTS)}
    assert names - told == {"channel", "flake", "upgrade"}
    assert {"channel", "flake", "upgrade"} <= set(REFUSED)


def test_every_option_has_a_description_and_an_example():
    for option in evaluate({}, "options"):
        assert option["description"].strip().endswith("."), option["name"]
        assert option["example"] is not None or not option["isVisible"], option["name"]


def test_both_evaluators_see_the_same_systems():
    if NIXPKGS_LIB is None:
        pytest.skip("NIXPKGS_LIB does not name nixpkgs' lib")
    cases = CASES | OTHERS
    assert evaluate(cases) == evaluate(cases, nixpkgs_lib=NIXPKGS_LIB)


def test_the_first_users_configuration_works_as_it_stands(read):
    assert read("seed", "settings/host") == "hostname"
    assert read("seed", "settings/action") == "boot"
    assert read("seed", "settings/hydra/instance") == "https://your.hydra.example.com"
    assert read("seed", "settings/health/canary_hosts") == ["yourcanaryhostname"]
    assert read("seed", "settings/reboot/mode") == "never"
    assert read("seed", f"{TIMER}/timerConfig/OnCalendar") == "*-*-* 04:40:00"


def test_without_enable_there_is_nothing(systems):
    off = systems["off"]
    assert (off["services"], off["timers"], off["packages"]) == ({}, {}, [])
    assert off["settings"] is None


def test_a_host_has_its_own_name_and_logs_json_but_on_a_terminal(read):
    assert read("least", "settings/host") == "from-networking"
    assert read("least", "settings/log/format") == "auto"


def test_settings_win_over_the_options(read):
    assert read("settings win", "settings/action") == "switch"


def test_windows_are_by_the_clock_of_the_host(read):
    (window,) = read("others", "settings/reboot/windows")
    assert window == {
        "days": WEEK,
        "start": "22:00",
        "length": "2h",
        "time_zone": "Europe/Berlin",
    }
    assert read("others", "settings/upgrade/windows/0/time_zone") == "Europe/Berlin"
    assert read("everything", "settings/reboot/windows/1/length") == "150m"


@pytest.mark.parametrize("unit", [UPGRADE, CONFIRM, BOOT_DEADLINE])
def test_no_switch_restarts_or_stops_what_performs_it(read, unit):
    assert read("least", f"{unit}/restartIfChanged") is False
    assert read("least", f"{unit}/unitConfig/X-StopOnRemoval") is False


@pytest.mark.parametrize("unit", [UPGRADE, CONFIRM, BOOT_DEADLINE])
def test_the_programs_that_the_agent_calls_are_on_its_path(read, unit):
    programs = {name.rpartition("/")[2] for name in read("others", f"{unit}/path")}
    assert programs == {
        *("nix", "nixos-rebuild", "systemd", "coreutils", "util-linux", "openssh", "git", "grub2"),
        "chrony",
    }
    assert not {"/packages/grub2", "/packages/chrony"} & {*read("least", f"{unit}/path")}
    assert read("others", f"{unit}/environment/https_proxy") == "http://proxy"
    assert read("others", f"{unit}/environment/HOME") == "/root"


def test_a_gate_that_holds_is_no_failure(read):
    assert read("least", f"{UPGRADE}/serviceConfig/SuccessExitStatus") == [69, 75]
    assert read("least", f"{BOOT_DEADLINE}/serviceConfig/SuccessExitStatus") == [1, 75, 130, 143]


def test_the_confirm_unit_is_started_by_switches_and_boots_and_tries_again(read):
    assert read("least", f"{CONFIRM}/wantedBy") == ["multi-user.target"]
    # switch-to-configuration would wait for a oneshot, and not start what is active.
    assert read("least", f"{CONFIRM}/serviceConfig/Type") == "exec"
    assert read("least", f"{CONFIRM}/serviceConfig/RemainAfterExit") is None
    assert read("least", f"{CONFIRM}/serviceConfig/RestartForceExitStatus") == 75
    assert read("least", f"{CONFIRM}/after") == []


def test_the_deadline_of_a_boot_waits_for_nothing_and_bears_everything(read):
    unit = read("reboots", f"{BOOT_DEADLINE}/unitConfig")
    assert unit["DefaultDependencies"] is False
    assert unit["IgnoreOnIsolate"] is True
    assert unit["FailureAction"] == "reboot"
    assert "FailureAction" not in read("reboots without a try", f"{BOOT_DEADLINE}/unitConfig")
    assert "FailureAction" not in read("least", f"{BOOT_DEADLINE}/unitConfig")
    service = read("everything", f"{BOOT_DEADLINE}/serviceConfig")
    assert set(service) == {"Type", "ExecStart", "SuccessExitStatus", "EnvironmentFile"}
    # What is wrong with it must not fail the unit, which reboots the host.
    assert service["EnvironmentFile"] == "-/run/secrets/environment"
    assert read("least", f"{BOOT_DEADLINE}/serviceConfig/EnvironmentFile") is None


def test_the_state_is_open_to_its_owner_alone(read):
    for unit in (UPGRADE, CONFIRM):
        assert read("least", f"{unit}/serviceConfig/StateDirectoryMode") == "0700"


def test_a_run_may_take_as_long_as_all_its_deadlines(read):
    place = f"{UPGRADE}/serviceConfig/TimeoutStartSec"
    least = 2 * 60 + 3 * 30 + 3 * 7200 + 8 * 1800 + 5 * (30 + 600) + 1800
    assert read("least", place) == least
    slow = 2 * 5400 + 3 * 0.5 + 3 * 3600.5 + 8 * 10 + 5 * (30 + 600) + 1800
    assert read("slow", place) == math.ceil(slow)


def test_known_secrets_reach_nix_and_git_from_the_credentials_alone(read):
    for unit in (UPGRADE, CONFIRM):
        environment = read("known secrets", f"{unit}/environment")
        assert environment["NIX_CONFIG"] == "netrc-file = %d/netrc"
        assert environment["GIT_SSH_COMMAND"] == "ssh -o BatchMode=yes -i %d/ssh-key"
        assert read("known secrets", f"{unit}/serviceConfig/LoadCredential") == [
            "netrc:/run/n",
            "ssh-key:/run/k",
        ]
    assert set(read("least", f"{UPGRADE}/environment")) == {"HOME"}
    assert read("known secrets", f"{BOOT_DEADLINE}/serviceConfig/LoadCredential") is None


def test_what_nix_does_for_a_build_is_allowed_where_it_may_build(read):
    for key in ("LockPersonality", "ProtectControlGroups", "ProtectHostname"):
        assert read("least", f"{UPGRADE}/serviceConfig/{key}") is True
        for case in ("builds", "builds and reboots by settings"):
            assert read(case, f"{UPGRADE}/serviceConfig/{key}") is None


def test_a_host_that_may_reboot_comes_back_from_a_kernel_that_dies_or_hangs(systems):
    assert systems["least"]["kernelParams"] == []
    assert systems["least"]["counts"] is False
    assert systems["reboots below Xen"]["counts"] is False
    reboots = systems["reboots"]
    assert reboots["kernelParams"] == ["panic=30"]
    assert reboots["manager"] == {"RuntimeWatchdogSec": "30s"}
    assert reboots["counts"] is True
    by_settings = systems["builds and reboots by settings"]
    assert by_settings["kernelParams"] == ["panic=30"]
    deadline = by_settings["services"]["nixos-hydra-agent-boot-deadline"]
    assert deadline["unitConfig"]["FailureAction"] == "reboot"
    complete = reboots["services"]["nixos-hydra-agent-boot-complete"]
    assert complete["requiredBy"] == complete["before"] == ["boot-complete.target"]
    older = systems["reboots on an older NixOS"]
    assert older["manager"] == {"runtimeTime": "30s"}
    assert "nixos-hydra-agent-boot-complete" not in older["services"]
