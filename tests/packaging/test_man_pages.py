from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import man_pages
from agent.cli.main import agent
from agent.domain.errors import ExitCode

SCRIPT = Path(man_pages.__file__)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every man page, as the package's build writes them."""
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, SCRIPT, directory], check=True, timeout=60)
    return directory


def told_by(program, *argv):
    """Return what a program says of its input; the test skips where there is no such program."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    ended = subprocess.run(
        [program, *argv], capture_output=True, text=True, timeout=60, check=False
    )
    return ended.stdout + ended.stderr


def test_every_command_that_is_listed_has_a_page(pages):
    names = {page.name for page in pages.iterdir()}
    listed = agent.list_commands(man_pages.root())
    assert {f"agent-{name}.1" for name in listed} < names
    assert {"agent.1", "agent-config-check.1"} < names
    assert "agent-dead-man.1" not in names


def test_groff_takes_every_page_without_a_warning(pages):
    assert told_by("groff", "-man", "-ww", "-z", "-Tutf8", "-K", "utf8", *pages.iterdir()) == ""


def test_mandoc_takes_every_page_without_a_warning(pages):
    told = told_by("mandoc", "-T", "lint", "-W", "warning", *pages.iterdir())
    # There is no date: the same commands make the same pages.
    assert [line for line in told.splitlines() if "missing date" not in line] == []


def test_the_pages_can_be_found_by_what_they_are_for(pages):
    told = told_by("lexgrog", *sorted(pages.iterdir()))
    assert '"agent-upgrade - upgrade this host to Hydra\'s newest good build, once"' in told
    assert len(told.splitlines()) == len(list(pages.iterdir()))


def test_a_reader_sees_options_as_they_are_typed(pages):
    shown = told_by("groff", "-man", "-Tascii", "-P-cbou", pages / "agent-upgrade.1")
    assert "--ignore-gate GATE" in shown
    assert "[switch|boot|test|dry-activate]" in shown


def test_every_exit_code_is_explained():
    assert set(man_pages.EXIT_CODES) == set(ExitCode)


def test_what_roff_would_take_as_its_own_is_shown_as_it_stands(tmp_path):
    @click.command()
    @click.option("--back", help=r"'quoted' \n stays, and `--x` is bold.")
    def command() -> None:
        """.so /etc/passwd is text.

        .TH too, and \\fBthis.
        """

    (page := tmp_path / "odd.1").write_text(
        man_pages.man_page(click.Context(command, info_name="odd"))
    )
    shown = " ".join(told_by("groff", "-man", "-ww", "-Tascii", "-P-cbou", page).split())
    assert ".so /etc/passwd is text. .TH too, and \\fBthis." in shown
    assert "'quoted' \\n stays, and --x is bold." in shown
