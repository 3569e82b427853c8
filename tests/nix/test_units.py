"""What systemd's own tools say of the units that the module makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nix.configurations import EVERYTHING, with_options
from nix.evaluation import evaluate, unit_files, wanted_units

ANALYZE = shutil.which("systemd-analyze")
PAGE = Path(__file__).parents[2] / "docs/units.md"
# The first versions that know them.
KEYS_SINCE = {"RestartSteps": 254, "RestartMaxDelaySec": 254}
CASES = {
    "as it is by default": with_options(""),
    "everything": EVERYTHING,
    "reboots": with_options("allowReboot = true;"),
    "builds": with_options("fetch.localBuilds = true;"),
}
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze")


@pytest.fixture(scope="module")
def systems(packages):
    return evaluate(CASES, packages=packages)


@pytest.fixture
def written(systems, tmp_path):
    """Write the units of a case into a directory."""

    def write(case):
        directory = tmp_path / case.replace(" ", "-")
        directory.mkdir()
        for name, text in unit_files(systems[case]).items():
            (directory / name).write_text(text)
        return directory

    return write


@pytest.fixture(scope="module")
def version():
    told = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, check=True)
    return int(told.stdout.split()[1])


def test_every_unit_is_wanted_by_something_or_started_by_its_timer(systems):
    assert wanted_units(systems["reboots"]) == {
        "boot-complete.target": ["nixos-hydra-agent-boot-complete.service"],
        "multi-user.target": ["nixos-hydra-agent-confirm.service"],
        "sysinit.target": ["nixos-hydra-agent-boot-deadline.timer"],
        "timers.target": ["nixos-hydra-agent.timer"],
    }
    assert sorted(unit_files(systems["reboots"])) == [
        "nixos-hydra-agent-boot-complete.service",
        "nixos-hydra-agent-boot-deadline.service",
        "nixos-hydra-agent-boot-deadline.timer",
        "nixos-hydra-agent-confirm.service",
        "nixos-hydra-agent.service",
        "nixos-hydra-agent.timer",
    ]


def test_a_unit_may_be_given_another_path(systems):
    text = unit_files(systems["reboots"], path="/opt/bin")["nixos-hydra-agent.service"]
    assert 'Environment="PATH=/opt/bin"\n' in text
    assert "X-RestartIfChanged=false\n" in text
    assert "X-StopOnRemoval=false\n" in text


@needs_analyze
@pytest.mark.parametrize("case", CASES)
def test_systemd_has_nothing_to_say_against_the_units(written, version, case):
    files = sorted(written(case).iterdir())
    argv = [ANALYZE, "verify", "--recursive-errors=no", *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    unknown = [key for key, since in KEYS_SINCE.items() if version < since]
    said = [
        line
        for line in done.stderr.splitlines()
        if not any(f"Unknown key '{key}'" in line for key in unknown)
    ]
    assert (done.returncode, said) == (0, [])


@needs_analyze
def test_the_page_of_the_units_tells_how_exposed_they_are(written, version):
    head, *rows = re.findall(r"^\|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    columns = [cell.strip() for cell in head.split("|")]
    if f"systemd {version}" not in columns:
        pytest.skip(f"the page has no figures of systemd {version}")
    told = {}
    for row in rows[1:]:
        cells = dict(zip(columns, (cell.strip() for cell in row.split("|")), strict=True))
        told[cells["service"].strip("`"), cells["configuration"]] = cells[f"systemd {version}"]
    assert told
    assert {(name, case): exposure(written, name, case) for name, case in told} == told


def exposure(written, name, case):
    directory = written(f"{case}")
    file = directory / f"{name}.service"
    argv = [ANALYZE, "security", "--offline=true", "--no-pager", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    shutil.rmtree(directory)
    return re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)[1]
