from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.application import events
from agent.application.flake_update import events as update_events
from agent.cli.main import agent
from agent.domain.errors import Kind

ROOT = Path(__file__).parents[2]
PAGES = (
    *("commands.md", "errors.md", "events.md", "home-options.md", "options.md", "settings.md"),
    *("gates.md", "nixpkgs.md", "updater-options.md"),
)
SCHEMA = "schema.json"


def generate(*arguments):
    return subprocess.run(
        [sys.executable, "docs/generate.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Freshly made pages, by name."""
    directory = tmp_path_factory.mktemp("reference")
    done = generate(directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_the_pages_in_the_repository_are_those_that_the_code_makes(pages):
    assert sorted(pages) == sorted([*PAGES, SCHEMA])
    for name, text in pages.items():
        kept = ROOT / ("nix/module" if name == SCHEMA else "docs/reference") / name
        assert kept.exists(), "run `make docs`"
        assert kept.read_text() == text, f"{name} is out of date: run `make docs`"


def test_a_check_names_what_has_drifted_and_changes_nothing(tmp_path, pages):
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    assert generate("--check", tmp_path).returncode == 0
    edited, missing = tmp_path / "settings.md", tmp_path / "events.md"
    edited.write_text("by hand")
    missing.unlink()
    done = generate("--check", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "out of date, run `make docs`: settings.md, events.md\n"
    assert edited.read_text() == "by hand"
    assert not missing.exists()


def test_every_setting_has_a_row_with_type_and_meaning(pages):
    from agent.checks.registry import check_sections
    from agent.config.settings import Settings
    from agent.config.windows import WindowSection

    rows = re.findall(
        r"^\| `([\w.]+)` \| (.+?) \| (.*?) \| (.+?) \|$", pages["settings.md"], re.MULTILINE
    )
    keys = [key for key, *_ in rows]
    expected = set(keys_of(Settings))
    expected |= {name for section in check_sections().values() for name in section.model_fields}
    expected |= set(WindowSection.model_fields)
    assert set(keys) == expected
    assert ("hydra.deadline", 'duration such as "90s" or "1h30m"', '`"1m"`') in [
        row[:3] for row in rows
    ]
    assert ("disk.store_reserve", 'size such as "512MiB"', '`"1GiB"`') in [row[:3] for row in rows]
    assert ("hydra.project", "name without a slash", "required") in [row[:3] for row in rows]


def keys_of(model, prefix=""):
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_command_and_option_is_told(pages):
    page = pages["commands.md"]
    for command in (
        *("upgrade", "status", "check", "config show", "config schema", "demo", "history"),
        *("confirm", "rollback", "deny", "allow", "flake-update diff", "flake-update run"),
    ):
        assert f"## `agent {command} [OPTIONS]" in page
    for option in (
        *("--config FILE", "--canary HOST", "--dry-run", "--json", "--action", "--ignore-gate"),
        *("--reason", "--force"),
    ):
        assert f"| `{option}" in page
    assert agent.help is not None


def test_every_event_and_fault_is_told(pages):
    for event in (*events.ALL, *update_events.ALL):
        assert f"## `{event.name}`" in pages["events.md"]
    for kind in Kind:
        assert f"| `{kind}` |" in pages["errors.md"]


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(pages, name):
    cells = 0
    for line in pages[name].splitlines():
        found = len(re.findall(r"(?<!\\)\|", line))
        if not line.startswith("|"):
            cells = 0
        elif not cells:
            cells = found
        else:
            assert found == cells, line
