from __future__ import annotations

import shutil

import pytest

from agent.config.flake_update import update_policy_of
from agent.config.load import WITHOUT_HYDRA, load_settings
from nix.offline import CHECKOUT, OfflineNix

SYSTEM = "x86_64-linux"
HOSTS = ["web-1", "web-2"]
OF_A_HOST = """
host: {
  agent = host.config.system.autoUpgradeHydra;
  name = host.config.networking.hostName;
  modules = host.config.declared;
}
"""
OF_AN_INSTALLER = """
installer: let inherit (installer) config; in {
  inherit (config) assertions;
  contents = map toString config.isoImage.storeContents;
  image = config.image.baseName;
  substituters = config.nix.settings.substituters;
  name = config.networking.hostName;
  program = builtins.removeAttrs (builtins.elemAt config.environment.systemPackages 0).passed
    [ "runtimeInputs" ];
}
"""


@pytest.fixture(scope="module")
def nix(tmp_path_factory):
    offline = OfflineNix(tmp_path_factory.mktemp("templates").resolve())
    yield offline
    offline.close()


@pytest.fixture(scope="module")
def fleet(nix):
    """The fleet's flake, as `nix flake init` leaves it to a user."""
    return nix.new("fleet")


@pytest.fixture(scope="module")
def host(nix):
    """The flake of one host, likewise."""
    return nix.new("host")


@pytest.fixture(scope="module")
def installers(nix, fleet):
    """What each installer is made of, by its name."""
    chosen = '(removeAttrs hosts [ "web-1" "web-2" ])'
    apply = f"hosts: with builtins; mapAttrs (_: {OF_AN_INSTALLER}) {chosen}"
    return nix.eval("nixosConfigurations", apply, flake=fleet)


def test_nix_takes_the_flakes_of_the_templates(nix, fleet, host):
    nix.check(fleet)
    nix.check(host)


def test_one_host_follows_the_job_that_its_own_flake_has(nix, host):
    made = nix.eval("nixosConfigurations.my-host", OF_A_HOST, flake=host)
    assert made["agent"]["enable"] is True
    assert made["agent"]["hydra"]["jobset"] == "main"
    assert made["modules"] == 1
    assert nix.eval("hydraJobs", "builtins.attrNames", flake=host) == [made["name"]] == ["my-host"]


def test_one_host_is_one_import_and_ten_lines(host):
    text = (host / "flake.nix").read_text()
    assert text.count("nixosModules") == 1
    block = text[text.index("system.autoUpgradeHydra") :]
    assert len(block[: block.index("\n            };")].splitlines()) + 1 <= 10


def test_hydra_builds_every_host_of_the_fleet_and_all_in_one(nix, fleet):
    jobs = nix.eval(
        "hydraJobs",
        "jobs: { names = builtins.attrNames jobs; inherit (jobs.fleet.passed) constituents; }",
        flake=fleet,
    )
    assert jobs["constituents"] == HOSTS
    assert jobs["names"] == sorted(["fleet", *HOSTS])


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_of_the_fleet_follows_hydra(nix, fleet, name):
    made = nix.eval(f"nixosConfigurations.{name}", OF_A_HOST, flake=fleet)
    assert made["agent"]["enable"] is True
    assert made["agent"]["confirm"]["checks"] == [{"type": "unit", "unit": "nginx.service"}]
    assert made["agent"].get("healthChecks", {}) == (
        {"canaryHosts": ["web-1.example.org"]} if name == "web-2" else {}
    )
    assert (made["name"], made["modules"]) == (name, 1)


def test_every_host_has_an_installer_under_its_name(nix, fleet, installers):
    names = [f"{name}-installer" for name in HOSTS]
    assert sorted(installers) == names
    assert nix.eval(f"packages.{SYSTEM}", "builtins.attrNames", flake=fleet) == names
    assert [installers[name]["image"] for name in names] == names


@pytest.mark.parametrize("name", HOSTS)
def test_an_installer_carries_the_toplevel_the_flake_and_its_inputs(nix, fleet, installers, name):
    made = installers[f"{name}-installer"]
    toplevel = nix.eval(
        f"nixosConfigurations.{name}", "h: toString h.config.system.build.toplevel", flake=fleet
    )
    assert made["contents"][0] == toplevel == made["program"]["runtimeEnv"]["SYSTEM"]
    assert made["contents"][1] == made["program"]["runtimeEnv"]["SOURCE"]
    assert len(set(made["contents"])) == 4
    assert made["program"]["name"] == f"install-{name}"
    assert made["substituters"] == []


def test_an_installer_of_a_host_that_does_not_follow_hydra_is_refused(nix, fleet):
    other = shutil.copytree(fleet, nix.root / "other")
    common = other / "common.nix"
    common.write_text(common.read_text().replace("enable = true;", "enable = false;", 1))
    (assertion,) = nix.eval(
        "nixosConfigurations.web-1-installer", "i: i.config.assertions", flake=other
    )
    assert assertion["assertion"] is False
    assert assertion["message"].startswith("web-1 would not follow Hydra")


def test_the_fleet_updates_itself_with_the_agent_that_it_has_locked(nix, fleet):
    program = nix.eval(f"apps.{SYSTEM}.agent", "app: app.program", flake=fleet)
    assert program.endswith("/bin/agent")


FOR_EVERYBODY = """\
  # CHANGE: the agent's flake, or `.#agent` where your own flake has it.
  AGENT: git+https://forge.example.org/you/nixos-hydra-agent
"""
OF_THE_FLEET = """\
  AGENT: .#agent
  # An installer is no host.
  NIXOS_HYDRA_AGENT_FLAKE_UPDATE__EXCLUDE: '[".*-installer"]'
"""


@pytest.mark.parametrize("forge", ["forgejo", "github"])
def test_the_fleets_workflow_is_that_for_everybody_with_its_own_agent_and_hosts(fleet, forge):
    common = (CHECKOUT / "contrib" / forge / "flake-update.yaml").read_text()
    where = f"Copy it to .{forge}/workflows/ and replace what"
    for theirs, its_own in ((where, "Replace what"), (FOR_EVERYBODY, OF_THE_FLEET)):
        assert common.count(theirs) == 1
        common = common.replace(theirs, its_own)
    assert (fleet / f".{forge}" / "workflows" / "flake-update.yml").read_text() == common


def test_the_fleets_workflow_is_about_its_hosts_alone(nix, fleet, monkeypatch, tmp_path):
    for line in OF_THE_FLEET.splitlines():
        name, _, value = line.strip().partition(": ")
        if name.startswith("NIXOS_"):
            monkeypatch.setenv(name, value.strip("'"))
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("")
    patterns = update_policy_of(load_settings(nothing, fallback=WITHOUT_HYDRA).flake_update).hosts
    names = nix.eval("nixosConfigurations", "builtins.attrNames", flake=fleet)
    assert list(patterns.choose(names)) == HOSTS
