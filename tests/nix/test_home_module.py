"""What the module of home-manager makes of a home: settings of the agent, and units of the user."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.config.load import load_settings
from agent.config.show import shown
from agent.domain.target import TargetName
from nix.evaluation import evaluate_homes, home_expression, without_null

PAGE = Path(__file__).parents[2] / "docs/getting-started-home.md"
UPGRADE, TIMER = "services/nixos-hydra-agent", "timers/nixos-hydra-agent"
HYDRA = 'hydra = { instance = "https://hydra.example.org"; project = "p"; jobset = "j"; };'
CHECK = '[ { type = "tcp"; host = "db"; port = 7; } ]'
AGENT = '{ type = "derivation"; name = "x"; outPath = "/x"; meta.mainProgram = "y"; }'

# option: (its value; where it arrives; as what)
ARRIVES = {
    "enable": ("true", f"{UPGRADE}/Service/Type", "oneshot"),
    "package": (AGENT, f"{UPGRADE}/Service/ExecStart", "/x/bin/y upgrade --config "),
    "name": ('"eve@web-1"', "settings/host", "eve@web-1"),
    "strategy": ('"store-path"', "settings/strategy", "store-path"),
    "specialisation": ('"quiet"', "settings/specialisation", "quiet"),
    "verify": ("false", "settings/verify", False),
    "flags": ('[ "-L" ]', "settings/flags", ["-L"]),
    "hydra.instance": ('"http://h:8/sub"', "settings/hydra/instance", "http://h:8/sub"),
    "hydra.project": ('"other"', "settings/hydra/project", "other"),
    "hydra.jobset": ('"other"', "settings/hydra/jobset", "other"),
    "hydra.job": ('"home-eve"', "settings/hydra/job", "home-eve"),
    "hydra.select": ('"latest-finished"', "settings/hydra/select", "latest-finished"),
    "hydra.timeout": ("7", "settings/hydra/timeout", "7s"),
    "hydra.deadline": ('"90m"', "settings/hydra/deadline", "90m"),
    "hydra.refresh": ('"7h"', "settings/hydra/refresh", "7h"),
    "hydra.patience": ('"7h"', "settings/hydra/patience", "7h"),
    "fetch.substituters": ('[ "https://c" ]', "settings/fetch/substituters", ["https://c"]),
    "fetch.trustedPublicKeys": ('[ "k:AA" ]', "settings/fetch/trusted_public_keys", ["k:AA"]),
    "fetch.localBuilds": ("true", "settings/fetch/local_builds", True),
    "fetch.deadline": ('"7h"', "settings/fetch/deadline", "7h"),
    "activate.deadline": ('"7m"', "settings/activate/deadline", "7m"),
    "disk.storeReserve": ('"7GiB"', "settings/disk/store_reserve", "7GiB"),
    "healthChecks.deadline": ('"70s"', "settings/health/deadline", "70s"),
    "healthChecks.canaryHosts": ('[ "a" ]', "settings/health/canary_hosts", ["a"]),
    "healthChecks.checks": (CHECK, "settings/health/checks/0/port", 7),
    "confirm.checks": (CHECK, "settings/confirm/checks/0/host", "db"),
    "confirm.settle": ('"7s"', "settings/confirm/settle", "7s"),
    "confirm.deadline": ('"7m"', "settings/confirm/deadline", "7m"),
    "confirm.patience": ('"7d"', "settings/confirm/patience", "7d"),
    "confirm.hydra": ("false", "settings/confirm/hydra", False),
    "confirm.gateway": ("false", "settings/confirm/gateway", False),
    "confirm.onFailure": ('"hold"', "settings/confirm/on_failure", "hold"),
    "confirm.ignoreUnits": ('[ "a" ]', "settings/confirm/ignore_units", ["a"]),
    "foreignHold": ('"7d"', "settings/upgrade/foreign_hold", "7d"),
    "dates": ('"hourly"', f"{TIMER}/Timer/OnCalendar", "hourly"),
    "randomizedDelaySec": ('"7min"', f"{TIMER}/Timer/RandomizedDelaySec", "7min"),
    "persistent": ("true", f"{TIMER}/Timer/Persistent", True),
    "onStartupSec": ('"7min"', f"{TIMER}/Timer/OnStartupSec", "7min"),
    "environmentFile": ('"/run/e"', f"{UPGRADE}/Service/EnvironmentFile", "/run/e"),
    "settings": ('{ log.level = "debug"; }', "settings/log/level", "debug"),
}
PARTS = ("settings.", "healthChecks.checks.", "confirm.checks.")
REFUSED = {
    "an unknown option": ("bogus = 1;", "`services.autoUpgradeHydra.bogus' does not exist"),
    "what is a host's alone": ("allowReboot = true;", "allowReboot' does not exist"),
    "a wrong type": ('hydra.timeout = "soon";', "hydra.timeout' is not of type"),
    "a host": (
        'settings.target = "nixos";',
        "services.autoUpgradeHydra.settings.target can only be",
    ),
    "a secret": ('flags = [ "--option" "access-tokens" "x" ];', "flags has a secret"),
    "builds without a flake": (
        'strategy = "store-path"; fetch.localBuilds = true;',
        "fetch.localBuilds makes no sense",
    ),
}
UNBUILDABLE = {
    "a reboot": ('settings.reboot.mode = "always";', "reboot.mode = 'always' makes no sense"),
    "no calendar event": (
        'dates = "whenever";',
        'services.autoUpgradeHydra.dates: "whenever" is no calendar event',
    ),
    "no time span": (
        'onStartupSec = "soon";',
        'services.autoUpgradeHydra.onStartupSec: "soon" is no time span',
    ),
    "no delay": (
        'randomizedDelaySec = "long";',
        'services.autoUpgradeHydra.randomizedDelaySec: "long" is no time span',
    ),
    "an action of hosts": ('settings.action = "boot";', "action = 'boot' makes no sense"),
}


def module(text):
    return f"{{ imports = [ {{ services.autoUpgradeHydra = {{ {text} }}; }} ({LEAST}) ]; }}"


LEAST = (
    f"{{ lib, ... }}: {{ services.autoUpgradeHydra = lib.mkDefault {{ enable = true; {HYDRA} }}; }}"
)


@pytest.fixture(scope="module")
def homes():
    """All cases in one evaluation."""
    cases = {name: module(f"{name} = {value};") for name, (value, *_) in ARRIVES.items()}
    cases |= {name: module(text) for name, (text, _) in REFUSED.items()}
    cases |= {"least": module(""), "never": module("onStartupSec = null;")}
    return evaluate_homes(cases)


def at(made, place):
    first, *rest = place.split("/")
    value = made[first]
    if first == "settings":
        value = json.loads(shown(load_settings(None, overrides=without_null(value))))
    for part in rest:
        value = value[int(part)] if isinstance(value, list) else value.get(part)
    return value


@pytest.mark.parametrize("option", ARRIVES)
def test_an_option_arrives_at_the_agent_or_in_a_unit(homes, option):
    _, place, expected = ARRIVES[option]
    assert homes[option]["problems"] == []
    found = at(homes[option], place)
    assert found.startswith(expected) if option == "package" else found == expected


def test_no_option_is_left_out_and_each_has_a_description_and_an_example():
    options = [o for o in evaluate_homes({}, "options") if not o["name"].startswith(PARTS)]
    assert {option["name"] for option in options} == set(ARRIVES)
    for option in options:
        assert option["description"].strip().endswith("."), option["name"]
        assert option["example"] is not None, option["name"]


def test_a_home_follows_its_users_name_and_keeps_all_in_her_state_directory(homes):
    made = homes["least"]
    settings = load_settings(None, overrides=without_null(made["settings"]))
    assert settings.target is TargetName.HOME_MANAGER
    assert settings.host == settings.job_name == "eve"
    assert str(settings.paths.marks_dir) == "/home/eve/.local/state/nixos-hydra-agent/marks"
    assert made["packages"] == ["agent-home"]


def test_a_switch_leaves_the_services_of_the_agent_alone_and_takes_new_times(homes):
    for unit in homes["least"]["services"].values():
        assert unit["Unit"]["X-SwitchMethod"] == "keep-old"
    assert "X-SwitchMethod" not in homes["least"]["timers"]["nixos-hydra-agent"]["Unit"]


def test_its_services_find_what_the_user_and_the_system_have_after_what_they_need(homes):
    for unit in homes["least"]["services"].values():
        (path,) = unit["Service"]["Environment"]
        assert path.split(":")[-8:] == [
            *("/run/wrappers/bin", "/home/eve/.nix-profile/bin", "%h/.nix-profile/bin"),
            *("/etc/profiles/per-user/eve/bin", "/run/current-system/sw/bin"),
            *("/usr/local/bin", "/usr/bin", "/bin"),
        ]


def test_a_missed_run_does_not_come_before_the_systems(homes):
    timer = homes["least"]["timers"]["nixos-hydra-agent"]["Timer"]
    assert (timer["Persistent"], timer["OnStartupSec"]) == (False, "10min")


def test_a_run_after_the_start_can_be_left_out(homes):
    assert "OnStartupSec" not in homes["never"]["timers"]["nixos-hydra-agent"]["Timer"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_home_ends_with_a_message_that_names_the_option(homes, name):
    problems = homes[name]["problems"]
    assert any(REFUSED[name][1] in problem for problem in problems), problems


def test_the_first_home_of_the_documents_evaluates():
    text = PAGE.read_text()
    example = next(b for b in re.findall(r"```nix\n(.*?)```", text, re.DOTALL) if "imports" in b)
    inputs = "let inputs.nixos-hydra-agent.homeModules.default = { }; in"
    (made,) = evaluate_homes({"example": f"{inputs} {example}"}).values()
    assert made["problems"] == []
    assert load_settings(None, overrides=without_null(made["settings"])).job_name == "home-eve"


def test_the_agent_accepts_what_a_good_home_makes(build_checks, packages):
    done = build_checks(home_expression({"home": module("")}, packages=packages))
    assert done.returncode == 0, done.stderr


def test_what_only_the_agent_can_tell_fails_the_build_of_the_home(build_checks, packages):
    cases = {name: module(text) for name, (text, _) in UNBUILDABLE.items()}
    done = build_checks(home_expression(cases, packages=packages))
    assert done.returncode != 0
    for _, told in UNBUILDABLE.values():
        assert told in done.stderr
    assert "services.autoUpgradeHydra.settings" in done.stderr
