"""What the updater's module makes of a configuration: settings of `agent flake-update`, and a unit."""

from __future__ import annotations

import json

import click
import pytest

from agent.cli.main import agent
from agent.config.flake_update import update_policy_of
from agent.config.load import WITHOUT_HYDRA, load_settings
from agent.config.show import shown
from agent.domain.flake_update.hosts import HostPatterns
from nix.evaluation import NIXPKGS_LIB, EvaluationError, evaluate, expression, without_null

UNIT = "services/nix-flake-updater"
SERVICE, TIMER = f"{UNIT}/serviceConfig", "timers/nix-flake-updater"
CREDENTIALS = "/run/credentials/nix-flake-updater.service"
# What the first configurations said, word for word.
SEED = """
{
  enable = true;
  # Repository configuration
  repoPath = "/home/vincent/src/home";
  gitRemote = "origin"; # or "codeberg" after migration
  # Build verification - test these systems
  buildSystems = [
    "aomi" # Self-check
    "sakhalin" # Main server
    "rhea" # Important service host
  ];
  # Schedule: Every Monday at 2 AM
  schedule = "Mon *-*-* 02:00:00";
  # Notification configuration
  ntfyTopic = "nix-updates";
  ntfyServer = "http://ntfy.sbr.pm"; # Your local ntfy instance
  # Run as vincent (requires git/ssh access)
  user = "vincent";
  # Randomize start time by up to 1 hour
  randomizedDelaySec = 3600;
}
"""
LEAST = """
({ lib, ... }: {
  services.nix-flake-updater = lib.mkDefault {
    enable = true; repoPath = "/srv/nixos"; user = "updater";
  };
})
"""
FORGE = """
  forge = {
    type = "forgejo"; url = "https://codeberg.org"; repository = "vincent/home";
    tokenFile = "/run/agenix/forge"; labels = [ "automation" ]; assignees = [ "vincent" ];
    autoMerge = "squash";
  };
"""
HYDRA = """
  verify.method = "hydra";
  verify.hydra = { instance = "https://hydra.example.org"; project = "p"; };
"""
GPG = 'signing.format = "gpg";'

# option: (its value, and what it needs besides; where it arrives; as what)
ARRIVES = {
    "enable": ("true", "", f"{SERVICE}/Type", "oneshot"),
    "package": (
        '{ type = "derivation"; name = "x"; outPath = "/x"; meta.mainProgram = "y"; }',
        "",
        f"{SERVICE}/ExecStart",
        "/x/bin/y flake-update run --config ",
    ),
    "repoPath": ('"/srv/x"', "", "updater/flake_update/repository", "/srv/x"),
    "gitRemote": ('"codeberg"', "", "updater/flake_update/remote", "codeberg"),
    "baseBranch": ('"next"', "", "updater/flake_update/base", "next"),
    "branch": ('"auto/update"', "", "updater/flake_update/branch", "auto/update"),
    "inputs": ('[ "nixpkgs" ]', "", "updater/flake_update/inputs", ["nixpkgs"]),
    "buildSystems": ('[ "a" "b.c" ]', "", "updater/flake_update/include", ["a", r"b\.c"]),
    "schedule": ('"daily"', "", f"{TIMER}/timerConfig/OnCalendar", "daily"),
    "randomizedDelaySec": ('"5min"', "", f"{TIMER}/timerConfig/RandomizedDelaySec", "5min"),
    "user": ('"vincent"', "", f"{SERVICE}/User", "vincent"),
    "sshKeyFile": ('"/run/k"', "", f"{SERVICE}/LoadCredential", ["ssh-key:/run/k"]),
    "author": ('"B <b@c>"', "", "updater/flake_update/author", "B <b@c>"),
    "committer": ('"B <b@c>"', "", "updater/flake_update/committer", "B <b@c>"),
    "signing.format": ('"ssh"', "", "updater/flake_update/sign", "ssh"),
    "signing.keyFile": (
        '"/run/k"',
        'signing.format = "ssh";',
        "updater/flake_update/signing_key",
        f"{CREDENTIALS}/signing-key",
    ),
    "signing.key": ('"ABCD"', GPG, "updater/flake_update/signing_key", "ABCD"),
    "signing.gnupgHome": ('"/var/g"', GPG, f"{UNIT}/environment/GNUPGHOME", "/var/g"),
    "verify.method": ('"hydra"', HYDRA, "updater/flake_update/verify", "hydra"),
    "verify.hydra.instance": ('"http://h"', "", "updater/flake_update/hydra/instance", "http://h"),
    "verify.hydra.project": ('"other"', "", "updater/flake_update/hydra/project", "other"),
    "verify.hydra.branch": ('"updates"', "", "updater/flake_update/hydra/branch", "updates"),
    "verify.hydra.jobset": ('"updates"', "", "updater/flake_update/hydra/jobset", "updates"),
    "verify.hydra.job": ('"h.{host}"', "", "updater/flake_update/hydra/job", "h.{host}"),
    "verify.hydra.deadline": ("60", "", "updater/flake_update/hydra/deadline", "1m"),
    "forge.type": ('"forgejo"', FORGE, "updater/flake_update/forge/type", "forgejo"),
    "forge.url": ('"https://f"', "", "updater/flake_update/forge/url", "https://f"),
    "forge.repository": ('"a/b"', "", "updater/flake_update/forge/repository", "a/b"),
    "forge.tokenFile": (
        '"/run/t"',
        "",
        "updater/flake_update/forge/token_file",
        f"{CREDENTIALS}/forge-token",
    ),
    "forge.labels": ('[ "a" ]', "", "updater/flake_update/forge/labels", ["a"]),
    "forge.assignees": ('[ "a" ]', "", "updater/flake_update/forge/assignees", ["a"]),
    "forge.autoMerge": ('"squash"', "", "updater/flake_update/forge/auto_merge", "squash"),
    "ntfyTopic": ('"updates"', "", "updater/notify/ntfy_topic", "updates"),
    "ntfyServer": ('"http://n"', "", "updater/notify/ntfy_server", "http://n"),
    "ntfyTokenFile": (
        '"/run/n"',
        "",
        "updater/notify/ntfy_token_file",
        f"{CREDENTIALS}/ntfy-token",
    ),
    "notifyUrlsFile": ('"/run/u"', "", "updater/notify/urls_file", f"{CREDENTIALS}/notify-urls"),
    "settings": ("{ flake_update.exclude = [ ]; }", "", "updater/flake_update/exclude", []),
}
CREDENTIAL_FILES = """
  sshKeyFile = "/run/agenix/deploy"; ntfyTokenFile = "/run/agenix/ntfy";
  notifyUrlsFile = "/run/agenix/urls";
  signing = { format = "ssh"; keyFile = "/run/agenix/signing"; };
"""
REFUSED = {
    "a forge without a token": ('forge.type = "github";', "forge.tokenFile"),
    "a forge that is nowhere": (
        FORGE.replace('url = "https://codeberg.org";', ""),
        "services.nix-flake-updater.forge.url",
    ),
    "no Hydra": ('verify.method = "hydra";', "services.nix-flake-updater.verify.hydra.project"),
    "a key for nothing": (
        'signing.keyFile = "/run/key";',
        "services.nix-flake-updater.signing.format",
    ),
    "a key of the other kind": (
        'signing = { format = "ssh"; key = "ABCD"; };',
        "services.nix-flake-updater.signing.gnupgHome",
    ),
    "a key in the store": (
        'sshKeyFile = "${builtins.storeDir}/abc-key";',
        "`services.nix-flake-updater.sshKeyFile' is not of type",
    ),
    "a token that nix would copy": (
        "forge.tokenFile = /run/token;",
        "`services.nix-flake-updater.forge.tokenFile' is not of type",
    ),
    "a checkout that is nowhere": (
        'repoPath = "home";',
        "`services.nix-flake-updater.repoPath' is not of type",
    ),
    "a delay before it is due": (
        "randomizedDelaySec = -1;",
        "`services.nix-flake-updater.randomizedDelaySec' is not of type",
    ),
    "no duration": (
        'verify.hydra.deadline = "soon";',
        "`services.nix-flake-updater.verify.hydra.deadline' is not of type",
    ),
    "a password for the forge": (
        'forge.url = "https://me:secret@forge.example.org";',
        "`services.nix-flake-updater.forge.url' is not of type",
    ),
    "an unknown forge": (
        'forge.type = "sourcehut";',
        "`services.nix-flake-updater.forge.type' is not of type",
    ),
    "an unknown option": ("bogus = 1;", "`services.nix-flake-updater.bogus' does not exist"),
    "an unknown setting": (
        "settings.flake_update.bogus = 1;",
        "`services.nix-flake-updater.settings.flake_update.bogus' does not exist",
    ),
}
UNBUILDABLE = {
    "a pattern that is none": (
        'settings.flake_update.exclude = [ "(" ];',
        "flake_update.exclude",
    ),
    "no calendar event": (
        'schedule = "Caturday";',
        'services.nix-flake-updater.schedule: "Caturday" is no calendar event',
    ),
    "no delay": (
        'randomizedDelaySec = "long";',
        'services.nix-flake-updater.randomizedDelaySec: "long" is no time span',
    ),
    "a path on the ntfy server": (
        'ntfyServer = "https://ntfy.example.org/a"; ntfyTopic = "b";',
        "notify.ntfy_server",
    ),
}


def module(text):
    return f"{{ imports = [ {LEAST} {{ services.nix-flake-updater = {{ {text} }}; }} ]; }}"


OTHERS = {
    "off": "{ }",
    "seed": f"{{ services.nix-flake-updater = {SEED}; }}",
    "least": module(""),
    "root": module('user = "root";'),
    "a dot": module('buildSystems = [ "db.example.org" ];'),
    "credentials": module(FORGE + CREDENTIAL_FILES),
    "gpg": module(f'{GPG} signing.gnupgHome = "/var/g";'),
}
CASES = {name: module(f"{more} {name} = {value};") for name, (value, more, *_) in ARRIVES.items()}
CASES |= {
    # What it needs besides has it already, or would be at odds with it.
    "verify.method": module(HYDRA),
    "forge.type": module(FORGE),
}
BAD = {name: (module(text), told) for name, (text, told) in REFUSED.items()} | {
    f"without {option}": (
        f"{{ services.nix-flake-updater = {{ enable = true; {rest} }}; }}",
        f"services.nix-flake-updater.{option}' was accessed but has no value defined",
    )
    for option, rest in (("repoPath", 'user = "updater";'), ("user", 'repoPath = "/srv/nixos";'))
}
EVALUATORS = {"our own": None} | ({"nixpkgs": NIXPKGS_LIB} if NIXPKGS_LIB else {})


@pytest.fixture(scope="module", params=EVALUATORS)
def systems(request):
    """All cases in one evaluation."""
    made = evaluate(CASES | OTHERS, nixpkgs_lib=EVALUATORS[request.param])
    assert {name: found["problems"] for name, found in made.items() if found["problems"]} == {}
    return made


@pytest.fixture
def settings(systems, tmp_path):
    """Settings of a case through the agent's own validation."""

    def loaded(case):
        nothing = tmp_path / "nothing.toml"
        nothing.write_text("")
        said = without_null(systems[case]["updater"])
        return load_settings(nothing, overrides=said, fallback=WITHOUT_HYDRA)

    return loaded


@pytest.fixture
def read(systems, settings):
    """What is at a place of a case; settings are those that the agent has read, in its own words."""

    def reading(case, place):
        first, *rest = place.split("/")
        value = json.loads(shown(settings(case))) if first == "updater" else systems[case][first]
        for part in rest:
            value = value.get(part)
        return value

    return reading


@pytest.mark.parametrize("option", ARRIVES)
def test_an_option_arrives_at_the_agent_or_in_the_unit(read, option):
    _, _, place, expected = ARRIVES[option]
    found = read(option, place)
    assert found.startswith(expected) if option == "package" else found == expected
    if option != "enable":
        assert read("least", place) != found, "it would be so without the option"


def test_no_option_is_left_out_and_each_has_a_description_and_an_example():
    options = evaluate({}, "updaterOptions")
    assert {option["name"] for option in options} == set(ARRIVES)
    for option in options:
        assert option["description"].strip().endswith("."), option["name"]
        assert option["example"] is not None, option["name"]


def test_the_first_configurations_still_mean_what_they_said(read, settings):
    update, notify = settings("seed").flake_update, settings("seed").notify
    assert str(update.repository) == "/home/vincent/src/home"
    assert update.remote == "origin"
    assert update.include == update.require == ("aomi", "sakhalin", "rhea")
    assert (notify.ntfy_server, notify.ntfy_topic) == ("http://ntfy.sbr.pm", "nix-updates")
    assert read("seed", f"{SERVICE}/User") == "vincent"
    assert read("seed", f"{TIMER}/timerConfig") == {
        "OnCalendar": "Mon *-*-* 02:00:00",
        "RandomizedDelaySec": 3600,
        "Persistent": True,
    }
    assert read("seed", f"{TIMER}/wantedBy") == ["timers.target"]


def test_the_unit_is_hardened_and_may_write_to_the_checkout_alone(read):
    service = read("seed", SERVICE)
    assert service["ReadWritePaths"] == ["/home/vincent/src/home"]
    assert service["PrivateTmp"] is True
    assert service["ProtectSystem"] == "strict"
    assert service["ProtectHome"] == "read-only"
    assert service["NoNewPrivileges"] is True
    assert service["CapabilityBoundingSet"] == ""


def test_a_nix_that_takes_too_much_memory_ends_alone(read):
    assert read("seed", SERVICE)["OOMPolicy"] == "continue"
    # What a run does when it is ended: take back its branch, and notify.
    assert read("seed", SERVICE)["TimeoutStopSec"] == "15min"


def test_root_keeps_what_it_needs_for_a_checkout_of_someone_else(read):
    assert "CapabilityBoundingSet" not in read("root", SERVICE)


def test_the_unit_calls_a_command_that_there_is(read):
    program, *command, option, file = read("seed", f"{SERVICE}/ExecStart").split()
    assert program == "/packages/nixos-hydra-agent/bin/agent"
    assert option == "--config"
    assert file.endswith("-nix-flake-updater.toml")
    group = agent
    for name in command:
        group = group.get_command(click.Context(group), name)
        assert group is not None, f"there is no command {name}"
    assert group.name == "run"


def test_programs_are_on_the_path_and_caches_where_they_can_be_written(read):
    packages = [f"/packages/{name}" for name in ("nix", "openssh", "git")]
    assert read("seed", f"{UNIT}/path") == packages
    assert read("gpg", f"{UNIT}/path") == [*packages, "/packages/gnupg"]
    environment, service = read("seed", f"{UNIT}/environment"), read("seed", SERVICE)
    cache, temporary = service["CacheDirectory"].split()
    assert environment["XDG_CACHE_HOME"] == f"/var/cache/{cache}"
    assert environment["TMPDIR"] == f"/var/cache/{temporary}"
    assert service["ExecStopPost"] == f"/packages/coreutils/bin/rm -rf {environment['TMPDIR']}"
    assert read("seed", f"{UNIT}/restartIfChanged") is False


def test_gpg_may_write_to_its_own_directory(read):
    assert read("gpg", f"{SERVICE}/ReadWritePaths") == ["/srv/nixos", "/var/g"]


def test_the_least_configuration_builds_all_hosts_and_tells_nobody(read, settings):
    made = settings("least")
    assert update_policy_of(made.flake_update).hosts == HostPatterns()
    assert made.notify.ntfy_topic is None
    assert made.flake_update.forge.type is None
    assert read("least", f"{SERVICE}/LoadCredential") == []


def test_a_host_with_a_dot_is_that_host_alone(settings):
    hosts = update_policy_of(settings("a dot").flake_update).hosts
    assert hosts.choose(["db.example.org", "db-example.org"]) == ("db.example.org",)


def test_a_host_that_is_named_is_built_whatever_its_name(settings):
    hosts = update_policy_of(settings("buildSystems").flake_update).hosts
    assert hosts.exclude == ()
    assert HostPatterns().exclude != ()


def test_credentials_come_by_systemd_and_only_their_places_are_in_the_settings(read, settings):
    assert read("credentials", f"{SERVICE}/LoadCredential") == [
        "forge-token:/run/agenix/forge",
        "notify-urls:/run/agenix/urls",
        "ntfy-token:/run/agenix/ntfy",
        "signing-key:/run/agenix/signing",
        "ssh-key:/run/agenix/deploy",
    ]
    made = settings("credentials")
    update = made.flake_update
    assert str(update.forge.token_file) == f"{CREDENTIALS}/forge-token"
    assert str(update.ssh_key_file) == f"{CREDENTIALS}/ssh-key"
    assert (update.sign, update.signing_key) == ("ssh", f"{CREDENTIALS}/signing-key")
    assert str(made.notify.ntfy_token_file) == f"{CREDENTIALS}/ntfy-token"
    assert str(made.notify.urls_file) == f"{CREDENTIALS}/notify-urls"


def test_a_host_that_enables_nothing_gets_nothing(systems):
    off = systems["off"]
    assert (off["services"], off["timers"], off["updater"]) == ({}, {}, None)


@pytest.fixture(scope="module")
def problems():
    """All bad cases in one evaluation."""
    made = evaluate({name: text for name, (text, _) in BAD.items()})
    return {name: found["problems"] for name, found in made.items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_ends_with_a_message_that_names_the_option(problems, name):
    assert any(BAD[name][1] in problem for problem in problems[name]), problems[name]


@pytest.mark.parametrize("name", BAD if NIXPKGS_LIB else [])
def test_it_does_so_with_the_module_system_of_nixpkgs(name):
    text, told = BAD[name]
    try:
        found = evaluate({"it": text}, "alone.it", nixpkgs_lib=NIXPKGS_LIB)["problems"]
    except EvaluationError as error:
        found = [str(error)]
    assert any(told in problem for problem in found), found


def test_the_agent_accepts_what_good_configurations_make(build_checks, packages):
    cases = {name: OTHERS[name] for name in ("seed", "credentials")}
    done = build_checks(expression(cases, packages=packages))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(cases)


def test_what_the_agent_refuses_ends_the_build_of_the_system(build_checks, packages):
    cases = {name: module(text) for name, (text, _) in UNBUILDABLE.items()}
    done = build_checks(expression(cases, packages=packages))
    assert done.returncode != 0
    assert done.stdout == ""
    for _, told in UNBUILDABLE.values():
        assert told in done.stderr
    assert "services.nix-flake-updater.settings" in done.stderr
