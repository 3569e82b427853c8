"""Bad configurations fail the evaluation or the build of the system, and the message names the option."""

from __future__ import annotations

import pytest

from nix.configurations import EVERYTHING, SEED, with_options
from nix.evaluation import NIXPKGS_LIB, EvaluationError, evaluate, expression

# name: (options, what the message says)
REFUSED = {
    "flake": ('flake = "github:a/b";', "system.autoUpgradeHydra.flake does not exist: the flake"),
    "channel": ('channel = "nixos-26.05";', "system.autoUpgradeHydra.channel does not exist"),
    "upgrade": ("upgrade = true;", "system.autoUpgradeHydra.upgrade does not exist: a host takes"),
    "an unknown option": ("bogus = 1;", "`system.autoUpgradeHydra.bogus' does not exist"),
    "a wrong type": (
        'allowReboot = "yes";',
        "`system.autoUpgradeHydra.allowReboot' is not of type",
    ),
    "an unknown choice": ('operation = "reboot";', "`system.autoUpgradeHydra.operation' is not of"),
    "an empty job": ('hydra.job = "";', "`system.autoUpgradeHydra.hydra.job' is not of type"),
    "a job with a slash": ('hydra.job = "a/b";', "`system.autoUpgradeHydra.hydra.job' is not of"),
    "no duration": ('hydra.timeout = "soon";', "`system.autoUpgradeHydra.hydra.timeout' is not of"),
    "no time at all": ("confirm.settle = 0;", "`system.autoUpgradeHydra.confirm.settle' is not of"),
    "no size": ('disk.storeReserve = "1GB";', "`system.autoUpgradeHydra.disk.storeReserve' is not"),
    "no URL": ('hydra.instance = "hydra";', "`system.autoUpgradeHydra.hydra.instance' is not of"),
    "no canary": (
        'healthChecks.canaryHosts = [ "good" "no host" ];',
        "system.autoUpgradeHydra.healthChecks.canaryHosts.",
    ),
    "no scheme of ours": (
        'healthChecks.canaryHosts = [ "ftp://host" ];',
        "system.autoUpgradeHydra.healthChecks.canaryHosts.",
    ),
    "an unknown setting": (
        "settings.fetch.bogus = 1;",
        "`system.autoUpgradeHydra.settings.fetch.bogus' does not exist",
    ),
    "an unknown table of settings": (
        "settings.bogus.a = 1;",
        "`system.autoUpgradeHydra.settings.bogus' does not exist",
    ),
    "a setting of the wrong type": (
        'settings.disk.boot_reserve = "lots";',
        "`system.autoUpgradeHydra.settings.disk.boot_reserve' is not of type",
    ),
    "an unknown key of a check": (
        'confirm.checks = [ { type = "unit"; unit = "a.service"; bogus = 1; } ];',
        "bogus' does not exist",
    ),
    "an unknown kind of check": (
        'healthChecks.checks = [ { type = "smell"; } ];',
        "type' is not of type `",
    ),
    "a day of the week": (
        'rebootWindows = [ { days = [ "Monday" ]; start = "04:00"; length = "1h"; } ];',
        "system.autoUpgradeHydra.rebootWindows.",
    ),
    "equal ends": (
        'rebootWindow = { lower = "04:00"; upper = "04:00"; };',
        "system.autoUpgradeHydra.rebootWindow opens and closes at the same time",
    ),
    **{
        f"hours until {time!r}": (
            f'rebootWindow = {{ lower = "01:00"; upper = "{time}"; }};',
            "`system.autoUpgradeHydra.rebootWindow.upper' is not of type `time of day such as \"04:40\"'",
        )
        for time in ("25:00", "04:60", "4:00", "24:00", "soon", "", "04:00:00")
    },
    **{
        f"a reboot after {action}": (
            f'allowReboot = true; operation = "{action}";',
            f'allowReboot makes no sense with system.autoUpgradeHydra.operation = "{action}"',
        )
        for action in ("test", "dry-activate")
    },
    "a home": (
        'settings.target = "home-manager";',
        "system.autoUpgradeHydra.settings.target can only be",
    ),
    "builds without a flake": (
        'strategy = "store-path"; fetch.localBuilds = true;',
        "system.autoUpgradeHydra.fetch.localBuilds makes no sense",
    ),
    "a password for Hydra": (
        'hydra.instance = "https://me:secret@hydra.example.org";',
        "`system.autoUpgradeHydra.hydra.instance' is not of type",
    ),
    "a password for a cache": (
        'settings.fetch.substituters = [ "https://me:secret@cache.example.org" ];',
        "system.autoUpgradeHydra.settings.fetch.substituters.",
    ),
    "a password for a check": (
        'confirm.checks = [ { type = "http"; url = "https://me:secret@a"; } ];',
        "system.autoUpgradeHydra.confirm.checks.",
    ),
    "a token in a flag": (
        'flags = [ "--option" "access-tokens" "github.com=x" ];',
        "system.autoUpgradeHydra.flags has a secret",
    ),
    "a password in a flag": (
        'flags = [ "--option" "substituters" "https://me:secret@c" ];',
        "system.autoUpgradeHydra.flags has a secret",
    ),
    "a credential in the store": (
        'credentials.a = "${builtins.storeDir}/secret";',
        "`system.autoUpgradeHydra.credentials.a' is not of type",
    ),
    "a credential that nix would copy": (
        "credentials.a = /run/secrets/a;",
        "`system.autoUpgradeHydra.credentials.a' is not of type",
    ),
    "a credential's name": (
        'credentials."a b" = "/run/secrets/a";',
        "system.autoUpgradeHydra.credentials: a credential's name has letters",
    ),
    "a credential without a name": (
        'credentials."" = "/run/secrets/a";',
        "system.autoUpgradeHydra.credentials: a credential's name has letters",
    ),
    "a token for a name in a flag": (
        'flags = [ "--option" "substituters" "https://secret@c" ];',
        "system.autoUpgradeHydra.flags has a secret",
    ),
    "a credential itself": (
        'credentials.a = "hunter2";',
        "`system.autoUpgradeHydra.credentials.a' is not of type",
    ),
    "variables in the store": (
        'environmentFile = "${builtins.storeDir}/secret";',
        "`system.autoUpgradeHydra.environmentFile' is not of type",
    ),
}
OF_OTHERS = {
    "system.autoUpgrade beside it": (
        "system.autoUpgrade.enable = true;",
        "system.autoUpgradeHydra.enable and system.autoUpgrade.enable would both upgrade",
    ),
    "no nix": ("nix.enable = false;", "system.autoUpgradeHydra.enable needs nix on this host"),
}
WITHOUT_HYDRA = (
    "{ system.autoUpgradeHydra.enable = true; }",
    "`system.autoUpgradeHydra.hydra.instance' was accessed but has no value defined",
)
CASES = {name: (with_options(options), told) for name, (options, told) in REFUSED.items()}
CASES |= {name: (with_options("", text), told) for name, (text, told) in OF_OTHERS.items()}
CASES["a host without Hydra"] = WITHOUT_HYDRA
MODULES = {name: module for name, (module, _) in CASES.items()}


@pytest.fixture(scope="module")
def problems():
    """All cases in one evaluation."""
    return {name: found["problems"] for name, found in evaluate(MODULES).items()}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_configuration_ends_with_a_message_that_names_the_option(problems, name):
    assert any(CASES[name][1] in problem for problem in problems[name]), problems[name]


@pytest.mark.parametrize("name", CASES if NIXPKGS_LIB else [])
def test_it_does_so_with_the_module_system_of_nixpkgs(name):
    module, told = CASES[name]
    try:
        found = evaluate({"it": module}, "alone.it", nixpkgs_lib=NIXPKGS_LIB)["problems"]
    except EvaluationError as error:
        found = [str(error)]
    # nixpkgs gives parts of lists names of its own, such as `[definition 1-entry 1]`.
    assert any(told in problem for problem in found), found


# What only the agent can tell fails the build of the system.

UNBUILDABLE = {
    "a timeout beyond the deadline": ('hydra.timeout = "2m";', "hydra.deadline: hydra.timeout is"),
    "an unknown time zone": (
        'upgradeWindows = [ { start = "04:00"; length = "1h"; timeZone = "Mars/Base"; } ];',
        "upgrade.windows[0].time_zone: 'Mars/Base' is not a time zone",
    ),
    "a key of another kind of check": (
        'confirm.checks = [ { type = "unit"; unit = "a.service"; port = 1; } ];',
        "confirm.checks[0].port: is not a known setting",
    ),
    **{
        f"{value!r} for {option}": (
            f'{option} = "{value}";',
            f'system.autoUpgradeHydra.{option}: "{value}" is no {what}',
        )
        for option, value, what in (
            ("dates", "whenever", "calendar event"),
            ("dates", "", "calendar event"),
            ("dates", "04:40 Mon", "calendar event"),
            ("dates", "25:00 Europe/Berlin", "calendar event"),
            ("dates", "it's --help", "calendar event"),
            ("randomizedDelaySec", "45 sometimes", "time span"),
            ("onBootSec", "soon", "time span"),
            ("reboot.deadline", "-5min", "time span"),
        )
    },
    "a secret in the store": (
        'settings.notify.ntfy_token_file = "/nix/store/0-token";',
        "notify.ntfy_token_file: /nix/store is world-readable",
    ),
    "a flag of the agent's own": ('flags = [ "--flake" "x" ];', "flags[0]: --flake would override"),
}


def test_the_agent_accepts_what_good_configurations_make(build_checks, packages):
    # Which time zones there are a build does not know.
    events = ("*:0/15 Mars/Base", "Mon *-*-* 02:00:00", "daily", "Mon,Tue", "04:40 UTC")
    cases = {event: with_options(f'dates = "{event}";') for event in events}
    cases |= {"seed": SEED, "everything": EVERYTHING}
    done = build_checks(expression(cases, packages=packages))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(cases)


def test_what_the_agent_refuses_ends_the_build_of_the_system(build_checks, packages):
    cases = {name: with_options(options) for name, (options, _) in UNBUILDABLE.items()}
    done = build_checks(expression(cases, packages=packages))
    assert done.returncode != 0
    assert done.stdout == ""
    for _, told in UNBUILDABLE.values():
        assert told in done.stderr
    assert "system.autoUpgradeHydra.settings" in done.stderr
