from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.lean.lean_imports import without_terminal_libraries

ROOT = Path(__file__).parents[2]


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('\\n'.join(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("library", ["httpx", "structlog"])
def test_a_library_comes_without_what_it_only_needs_for_terminals(library):
    loaded = modules_after(
        "from agent.lean.lean_imports import without_terminal_libraries\n"
        f"with without_terminal_libraries():\n    import {library}"
    )
    assert library in loaded
    assert not {"rich", "rich.console", "pygments", "click"} & loaded


def test_afterwards_they_can_be_imported_as_ever():
    loaded = modules_after(
        "from agent.lean.lean_imports import without_terminal_libraries\n"
        "with without_terminal_libraries():\n    import httpx\n"
        "import rich.console"
    )
    assert "rich.console" in loaded


def test_json_is_made_without_what_lays_out_tables():
    for_people = "from agent.cli.render import check, ci_log, columns, history, progress, status\n"
    assert "rich" not in modules_after(f"{for_people}check.for_program([])")
    assert "rich" in modules_after(f"{for_people}columns.in_columns([['a', 'b']])")


def test_what_is_loaded_already_stays():
    import rich

    with without_terminal_libraries():
        assert sys.modules["rich"] is rich
    assert sys.modules["rich"] is rich


def test_nothing_stays_hidden_after_a_fault(monkeypatch):
    monkeypatch.delitem(sys.modules, "httpx._main", raising=False)

    def import_and_fail():
        with without_terminal_libraries():
            assert sys.modules["httpx._main"] is None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        import_and_fail()
    assert "httpx._main" not in sys.modules
