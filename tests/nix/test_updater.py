from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.adapters.process import ProgramFailedError, run_now
from agent.config.flake_update import update_policy_of
from agent.config.load import WITHOUT_HYDRA, load_settings
from agent.demo.host import Layout, remove_tree
from agent.domain.flake_update.hosts import HostPatterns

HERE = Path(__file__).parent
MODULE = HERE.parents[1] / "nix/updater.nix"
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
LEAST = '{ enable = true; repoPath = "/srv/nixos"; user = "updater"; }'
FORGE = """
  forge = {
    type = "forgejo"; url = "https://codeberg.org"; repository = "vincent/home";
    tokenFile = "/run/agenix/forge"; labels = [ "automation" ]; assignees = [ "vincent" ];
    autoMerge = "squash";
  };
"""


@pytest.fixture(scope="module")
def made_of(tmp_path_factory):
    """What the module makes of options."""
    root = tmp_path_factory.mktemp("updater").resolve()
    layout = Layout(root)
    layout.make()
    layout.write_nix_conf((), ())

    def made(options):
        expression = (
            f"import {HERE}/config-of-updater.nix {{ module = {MODULE}; options = {options}; }}"
        )
        argv = ("nix-instantiate", "--eval", "--strict", "--json", "--expr", expression)
        return json.loads(run_now(argv, env={**os.environ, **layout.environment()}))

    yield made
    remove_tree(root)


@pytest.fixture(scope="module")
def evaluate(made_of, tmp_path_factory):
    """The same, and `agent`: its settings through the agent's own validation."""
    nothing = tmp_path_factory.mktemp("settings") / "nothing.toml"
    nothing.write_text("")

    def evaluated(options):
        made = made_of(options)
        settings = load_settings(nothing, overrides=made["settings"], fallback=WITHOUT_HYDRA)
        return {**made, "agent": settings}

    return evaluated


@pytest.fixture(scope="module")
def seed(evaluate):
    return evaluate(SEED)


def test_the_first_configurations_still_mean_what_they_said(seed):
    assert seed["problems"] == []
    update, notify = seed["agent"].flake_update, seed["agent"].notify
    assert str(update.repository) == "/home/vincent/src/home"
    assert update.remote == "origin"
    assert update.include == ("aomi", "sakhalin", "rhea")
    assert (notify.ntfy_server, notify.ntfy_topic) == ("http://ntfy.sbr.pm", "nix-updates")
    assert seed["service"]["serviceConfig"]["User"] == "vincent"
    assert seed["timer"]["timerConfig"] == {
        "OnCalendar": "Mon *-*-* 02:00:00",
        "RandomizedDelaySec": 3600,
        "Persistent": True,
    }
    assert seed["timer"]["wantedBy"] == ["timers.target"]


def test_the_example_of_the_documents_evaluates(evaluate):
    page = (HERE.parents[1] / "docs/flake-updates.md").read_text()
    (options,) = re.findall(
        r"^services\.nix-flake-updater = (\{.*?^\});$", page, re.MULTILINE | re.DOTALL
    )
    made = evaluate(options)
    assert made["problems"] == []
    assert made["agent"].flake_update.forge.repository == "vincent/home"


def test_every_option_is_described(seed):
    assert seed["areDescribed"]


def test_the_unit_is_hardened_and_may_write_to_the_checkout_alone(seed):
    service = seed["service"]["serviceConfig"]
    assert service["ReadWritePaths"] == ["/home/vincent/src/home"]
    assert service["PrivateTmp"] is True
    assert service["ProtectSystem"] == "strict"
    assert service["ProtectHome"] == "read-only"
    assert service["NoNewPrivileges"] is True
    assert service["CapabilityBoundingSet"] == ""


def test_root_keeps_what_it_needs_for_a_checkout_of_somebody_else(evaluate):
    made = evaluate('{ enable = true; repoPath = "/srv/nixos"; user = "root"; }')
    assert "CapabilityBoundingSet" not in made["service"]["serviceConfig"]


def test_the_unit_calls_a_command_that_there_is(seed):
    from agent.cli.main import agent

    program, *arguments = seed["service"]["serviceConfig"]["ExecStart"].split()
    assert program == "/agent/bin/agent"
    *command, option, file = arguments
    assert (option, file) == ("--config", "/checked/flake-update.toml")
    assert _command(agent, command).name == "run"


def _command(group, names):
    import click

    for name in names:
        group = group.get_command(click.Context(group), name)
        assert group is not None, f"there is no command {name}"
    return group


def test_programs_are_on_the_path_and_caches_where_they_can_be_written(seed):
    service = seed["service"]
    assert service["path"] == ["/nix-package", "/ssh", "/git"]
    environment, config = service["environment"], service["serviceConfig"]
    cache, temporary = config["CacheDirectory"].split()
    assert environment["XDG_CACHE_HOME"] == f"/var/cache/{cache}"
    assert environment["TMPDIR"] == f"/var/cache/{temporary}"
    assert config["ExecStopPost"] == f"/coreutils/bin/rm -rf {environment['TMPDIR']}"
    assert service["restartIfChanged"] is False


def test_the_least_configuration_builds_all_hosts_and_tells_nobody(evaluate):
    made = evaluate(LEAST)
    settings = made["agent"]
    assert update_policy_of(settings.flake_update).hosts == HostPatterns()
    assert settings.notify.ntfy_topic is None
    assert settings.flake_update.forge.type is None
    assert made["service"]["serviceConfig"]["LoadCredential"] == []


def test_a_host_with_a_dot_is_that_host_alone(evaluate):
    made = evaluate(f'{LEAST} // {{ buildSystems = [ "db.example.org" ]; }}')
    hosts = update_policy_of(made["agent"].flake_update).hosts
    assert hosts.choose(["db.example.org", "db-example.org"]) == ("db.example.org",)


def test_credentials_come_by_systemd_and_only_their_places_are_in_the_settings(evaluate):
    made = evaluate(f"""
      {LEAST} // {{
        {FORGE}
        sshKeyFile = "/run/agenix/deploy"; ntfyTokenFile = "/run/agenix/ntfy";
        notifyUrlsFile = "/run/agenix/urls";
        signing = {{ format = "ssh"; keyFile = "/run/agenix/signing"; }};
      }}
    """)
    assert made["problems"] == []
    assert made["service"]["serviceConfig"]["LoadCredential"] == [
        "forge-token:/run/agenix/forge",
        "notify-urls:/run/agenix/urls",
        "ntfy-token:/run/agenix/ntfy",
        "signing-key:/run/agenix/signing",
        "ssh-key:/run/agenix/deploy",
    ]
    settings = made["agent"]
    place = "/run/credentials/nix-flake-updater.service"
    update = settings.flake_update
    assert str(update.forge.token_file) == f"{place}/forge-token"
    assert str(update.ssh_key_file) == f"{place}/ssh-key"
    assert (update.sign, update.signing_key) == ("ssh", f"{place}/signing-key")
    assert str(settings.notify.ntfy_token_file) == f"{place}/ntfy-token"
    assert str(settings.notify.urls_file) == f"{place}/notify-urls"


def test_the_forge_arrives_at_the_agent(evaluate):
    settings = evaluate(f"{LEAST} // {{ {FORGE} }}")["agent"]
    forge = settings.flake_update.forge
    assert (forge.type, forge.url, forge.repository) == (
        "forgejo",
        "https://codeberg.org",
        "vincent/home",
    )
    policy = update_policy_of(settings.flake_update)
    assert (policy.labels, policy.assignees) == (("automation",), ("vincent",))
    assert policy.auto_merge == "squash"


def test_the_rest_arrives_at_the_agent(evaluate):
    made = evaluate(f"""
      {LEAST} // {{
        inputs = [ "nixpkgs" ]; baseBranch = "next"; branch = "auto/update"; schedule = "daily";
        author = "Bot <bot@example.org>"; randomizedDelaySec = "5min";
        verify = {{
          method = "hydra";
          hydra = {{
            instance = "https://hydra.example.org"; project = "p"; jobset = "updates"; deadline = 60;
          }};
        }};
        signing = {{ format = "gpg"; key = "ABCD"; gnupgHome = "/var/lib/gnupg"; }};
        settings = {{ flake_update.exclude = [ ]; log.level = "debug"; }};
      }}
    """)
    assert made["problems"] == []
    update = made["agent"].flake_update
    assert (update.inputs, update.base, update.branch) == (("nixpkgs",), "next", "auto/update")
    assert (update.author, update.sign, update.signing_key) == (
        "Bot <bot@example.org>",
        "gpg",
        "ABCD",
    )
    assert (update.verify, update.hydra.jobset, update.hydra.deadline.seconds) == (
        "hydra",
        "updates",
        60,
    )
    assert update.exclude == ()
    assert made["agent"].log.level == "debug"
    service = made["service"]
    assert service["environment"]["GNUPGHOME"] == "/var/lib/gnupg"
    assert "/gnupg" in service["path"]
    assert service["serviceConfig"]["ReadWritePaths"] == ["/srv/nixos", "/var/lib/gnupg"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ('forge.type = "github";', "forge.tokenFile"),
        (FORGE.replace('url = "https://codeberg.org";', ""), "forge.url"),
        ('verify.method = "hydra";', "verify.hydra.project"),
        ('signing.keyFile = "/run/key";', "signing.format"),
        ('signing = { format = "ssh"; key = "ABCD"; };', "signing.gnupgHome"),
        ('sshKeyFile = "${builtins.storeDir}/abc-key";', "in the store"),
    ],
)
def test_what_cannot_be_is_told_with_the_names_of_the_options(made_of, options, told):
    (problem,) = made_of(f"{LEAST} // {{ {options} }}")["problems"]
    assert told in problem
    assert "services.nix-flake-updater" in problem


@pytest.mark.parametrize("missing", ["repoPath", "user"])
def test_what_must_be_set_must_be_set(made_of, missing):
    with pytest.raises(ProgramFailedError, match=missing):
        made_of(f'removeAttrs ({LEAST}) [ "{missing}" ]')


def test_a_host_that_enables_nothing_gets_nothing(made_of):
    assert "service" not in made_of("{ }")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_knows_every_key_of_the_unit(seed, tmp_path):
    service = seed["service"]
    lines = ["[Unit]", f"Description={service['description']}", "[Service]"]
    for key, value in {**service["serviceConfig"], **dict.fromkeys(_PROGRAMS, "/bin/true")}.items():
        items = value if isinstance(value, list) and key == "LoadCredential" else [value]
        lines += [f"{key}={_written(item)}" for item in items]
    unit = tmp_path / "nix-flake-updater.service"
    unit.write_text("\n".join(lines))
    timer = tmp_path / "nix-flake-updater.timer"
    settings = seed["timer"]["timerConfig"]
    timer.write_text("[Timer]\n" + "\n".join(f"{k}={_written(v)}" for k, v in settings.items()))
    unit.write_text(unit.read_text() + "\nNonsense=1\n")
    argv = ("systemd-analyze", "verify", "--man=no", str(unit), str(timer))
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    told = [line for line in done.stderr.splitlines() if "nix-flake-updater" in line]
    # It exits with 0 whatever it says; that it does look is seen by what it must complain of.
    (complaint,) = told
    assert "Nonsense" in complaint


_PROGRAMS = ("ExecStart", "ExecStopPost")


def _written(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(value) if isinstance(value, list) else str(value)
