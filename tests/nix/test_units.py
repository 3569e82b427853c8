"""What systemd's own tools say of the units that the modules make: this machine's, and a guest's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from nix.configurations import EVERYTHING, with_options
from nix.evaluation import evaluate, unit_files, wanted_units

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/units.md"
# The first versions that know them.
KEYS_SINCE = {"RestartSteps": 254, "RestartMaxDelaySec": 254}
CASES = {
    "by default": with_options(""),
    "everything": EVERYTHING,
    "`allowReboot`": with_options("allowReboot = true;"),
    "`fetch.localBuilds`": with_options("fetch.localBuilds = true;"),
    '`user = "daemon"`': """{
      services.nix-flake-updater = { enable = true; repoPath = "/srv/nixos"; user = "daemon"; };
    }""",
    '`user = "root"`': """{
      services.nix-flake-updater = { enable = true; repoPath = "/srv/nixos"; user = "root"; };
    }""",
}
# In a mount namespace of its own: the guest's root, with the directories of the test in its /tmp.
IN_GUEST = """
image=$1 root=$2 work=$3; shift 3
mount --bind "$image" "$root"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$work"
mount --bind "$work" "$root$work"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"""


class Analyze:
    """systemd-analyze of a machine; `prefix` is how it is started."""

    def __init__(self, *prefix):
        self.prefix = prefix
        told = self.run("--version")
        if told.returncode != 0:
            pytest.skip(f"systemd-analyze cannot be run: {told.stderr}")
        self.version = int(told.stdout.split()[1])

    def run(self, *arguments):
        argv = [*self.prefix, "systemd-analyze", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["here", "guest"])
def analyze(request, work, tmp_path_factory):
    if request.param == "here":
        if shutil.which("systemd-analyze") is None:
            pytest.skip("there is no systemd-analyze")
        return Analyze()
    if os.getuid() != 0:
        pytest.skip("only root has a guest")
    found = subprocess.run(
        ["sh", ".ci/host", "where"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip("there is no root for a guest")
    root = tmp_path_factory.mktemp("guest")
    prefix = ("unshare", "--mount", "sh", "-euc", IN_GUEST, "sh")
    return Analyze(*prefix, found.stdout.strip(), str(root), str(work))


@pytest.fixture(scope="module")
def work(packages):
    """The directory that tools see, in a guest too."""
    return packages


@pytest.fixture(scope="module")
def systems(packages):
    return evaluate(CASES, packages=packages)


@pytest.fixture(scope="module")
def units(systems, work):
    """Directories with the units of each case."""
    directories = {}
    for number, (case, system) in enumerate(systems.items()):
        directories[case] = work / f"units-{number}"
        directories[case].mkdir()
        for name, text in unit_files(system).items():
            (directories[case] / name).write_text(text)
    return directories


def test_every_unit_is_wanted_by_something_or_started_by_its_timer(systems):
    assert wanted_units(systems["`allowReboot`"]) == {
        "boot-complete.target": ["nixos-hydra-agent-boot-complete.service"],
        "multi-user.target": ["nixos-hydra-agent-confirm.service"],
        "sysinit.target": ["nixos-hydra-agent-boot-deadline.timer"],
        "timers.target": ["nixos-hydra-agent.timer"],
    }
    assert sorted(unit_files(systems["`allowReboot`"])) == [
        "nixos-hydra-agent-boot-complete.service",
        "nixos-hydra-agent-boot-deadline.service",
        "nixos-hydra-agent-boot-deadline.timer",
        "nixos-hydra-agent-confirm.service",
        "nixos-hydra-agent.service",
        "nixos-hydra-agent.timer",
    ]


def test_a_unit_may_be_given_another_path(systems):
    text = unit_files(systems["by default"], path="/opt/bin")["nixos-hydra-agent.service"]
    assert 'Environment="PATH=/opt/bin"\n' in text
    unit, _, service = text.partition("[Service]\n")
    assert "X-RestartIfChanged=false\n" in service
    assert "X-StopOnRemoval=false\n" in unit


def test_what_a_switch_reads_is_in_the_section_in_which_it_is_read(systems):
    told = tomllib.loads((ROOT / "tests/fixtures/real_programs.toml").read_text())
    sections = {key["name"]: key["section"] for key in told["key"]}
    found = set()
    for system in systems.values():
        for name, text in unit_files(system).items():
            section = ""
            for line in text.splitlines():
                section = line.strip("[]") if line.startswith("[") else section
                key = line.partition("=")[0]
                if key.startswith("X-"):
                    found.add(key)
                    assert sections[key] == section, f"{name}: {line}"
    assert found == {"X-RestartIfChanged", "X-StopOnRemoval"}


def test_systemd_has_nothing_to_say_against_the_units(analyze, units):
    unknown = [key for key, since in KEYS_SINCE.items() if analyze.version < since]
    for directory in units.values():
        files = [str(file) for file in sorted(directory.iterdir())]
        done = analyze.run("verify", "--recursive-errors=no", *files)
        said = [
            line
            for line in done.stderr.splitlines()
            if not any(f"Unknown key '{key}'" in line for key in unknown)
        ]
        assert said == []
        assert done.returncode == 0 or unknown


def test_the_page_of_the_units_tells_how_exposed_they_are(analyze, units):
    table = "| service |" + PAGE.read_text().partition("| service |")[2]
    head, _, *rows = re.findall(r"^\|(.*)\|$", table, re.MULTILINE)
    columns = [cell.strip() for cell in head.split("|")]
    column = f"systemd {analyze.version}"
    if column not in columns:
        pytest.skip(f"the page has no figures of {column}")
    for row in rows:
        cells = dict(zip(columns, (cell.strip() for cell in row.split("|")), strict=True))
        file = units[cells["configuration"]] / f"{cells['service'].strip('`')}.service"
        done = analyze.run("security", "--offline=true", "--no-pager", str(file))
        found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
        assert found is not None, done.stderr
        assert cells[column] == found[1], row
