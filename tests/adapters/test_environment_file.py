"""Variables in the form of systemd.exec(5), read back as systemd reads them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.systemd.environment_file import EnvironmentFiles, environment_file, portable


def read_back(text: str) -> dict[str, str]:
    """Read what this agent writes, by the rules of parse_env_file_internal() of systemd 257."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        end = text.index("=", at)
        name, at = text[at:end], end + 2
        assert text[at - 1] == '"'
        value = ""
        while text[at] != '"':
            if text[at] == "\\":
                at += 1
                if text[at] not in '"\\`$\n':
                    value += "\\"
                value += "" if text[at] == "\n" else text[at]
            else:
                value += text[at]
            at += 1
        assert text[at + 1] == "\n"
        found[name], at = value, at + 2
    return found


@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,9}\Z"),
        st.text(alphabet="ab\"'\\`$%#;= \t\nä→🐧{}()!&*?~", max_size=30),
        max_size=4,
    )
)
def test_every_value_is_read_as_it_was(variables):
    assert read_back(environment_file(portable(variables.items()))) == variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NIX_BYTES", "\udcff"),
        ("NIX_RETURN", "a\rb"),
        ("NIX_BELL", "\a"),
        ("NIX-DASH", "x"),
        ("1NIX", "x"),
        ("BASH_FUNC_x%%", "() { :; }"),
        ("", "x"),
    ],
)
def test_what_systemd_would_not_take_spoils_nothing_else(name, value):
    assert portable([(name, value), ("NIX_GOOD", "x")]) == {"NIX_GOOD": "x"}


def test_a_file_is_its_owners_alone_and_replaces_what_was_there(tmp_path):
    files = EnvironmentFiles(tmp_path)
    os.umask(os.umask(0o000))
    first = files.write("a.env", {"X": "1"})
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    first.unlink()
    first.symlink_to(victim)

    file = files.write("a.env", {"X": "2"})

    assert file.read_text() == 'X="2"\n'
    assert not file.is_symlink()
    assert victim.read_text() == "untouched"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_files_are_removed_by_pattern_and_what_is_not_there_is_no_fault(tmp_path):
    files = EnvironmentFiles(tmp_path)
    files.remove("*.env")
    kept, gone = files.write("kept.other", {}), files.write("gone.env", {})

    files.remove("*.env")

    assert kept.exists()
    assert not gone.exists()
