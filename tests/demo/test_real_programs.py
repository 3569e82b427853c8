"""The stand-ins, and what reads the real programs' output, against what those were seen to do."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from agent.domain.switch_output import (
    exit_code,
    has_begun,
    has_broken_off,
    has_script_failed,
    is_relevant,
    refusal,
)
from nspawn.systems import confirm_unit, deadline_unit, upgrade_unit

REAL = tomllib.loads((Path(__file__).parents[1] / "fixtures/real_programs.toml").read_text())
FILES = resources.files("agent.demo") / "files"
STC = (FILES / "base/switch-to-configuration").read_text()
REBUILD = (FILES / "bin/nixos-rebuild").read_text()
KEYS = {key["name"]: key for key in REAL["key"]}
MODELLED = [key for key in REAL["key"] if not (key.get("not_modelled") or key.get("only_text"))]
SENTENCES = {row["text"]: row for row in REAL["sentence"]}


def reading_functions():
    """Return the stand-in's functions that read unit files, as a script to add commands to."""
    begin, end = STC.index("is_set() {"), STC.index("units_that_are() {")
    return STC[begin:end]


def shell(script, *arguments):
    done = subprocess.run(
        ("sh", "-euc", reading_functions() + script, "sh", *map(str, arguments)),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done


@pytest.mark.parametrize("row", REAL["key"] + REAL["sentence"] + REAL["closing"])
def test_each_row_says_where_it_was_seen(row):
    assert row.get("seen") or row.get("observed")
    assert set(row.get("seen", ())) <= set(REAL["files"])


@pytest.mark.parametrize(
    "key", [key for key in MODELLED if "default" in key], ids=lambda key: key["name"]
)
def test_a_key_counts_in_its_section_alone_and_its_last_value_does(key, tmp_path):
    name, section = key["name"], key["section"]
    default = str(key["default"]).lower()
    assert re.search(rf"is_set \S+ {section} {name} {default}\b", STC)
    unit = tmp_path / "a.service"
    other = "Unit" if section == "Service" else "Service"
    not_default = "no" if key["default"] else "on"
    texts = {
        f"[{section}]\n{name}={not_default}\n": not key["default"],
        f"[{other}]\n{name}={not_default}\n[{section}]\nA=b\n": key["default"],
        f"[{section}]\n{name}={default}\n{name}={not_default}\n": not key["default"],
        f"[{section}]\n{name}=nonsense\n": False,
        f"[{section}]\nA=b\n": key["default"],
    }
    for text, wanted in texts.items():
        unit.write_text(text)
        done = shell('is_set "$1" "$2" "$3" "$4"', unit, section, name, default)
        assert (done.returncode == 0) is wanted, text


def test_a_changed_unit_is_compared_as_the_real_one_does(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    begin = "[Unit]\nDescription=a\n[Service]\nExecStart=/a\n"
    cases = {  # what is added to the one, to the other: what becomes of it
        ("", ""): "same",
        ("", "[Install]\nWantedBy=x\n"): "same",
        ("X-Reload-Triggers=1\n", ""): "changed",  # it is in the wrong section
        ("", "ExecReload=/r\n"): "reload",
        ("ExecReload=/r\n", ""): "same",
        ("ExecReload=/r\n", "ExecReload=/s\n"): "reload",
        ("", "[Unit]\nX-Reload-Triggers=1\n"): "reload",
        ("[Unit]\nX-Reload-Triggers=1\n", ""): "same",
        ("[Unit]\nX-Restart-Triggers=1\n", "[Unit]\nX-Restart-Triggers=2\n"): "changed",
        ("", "Environment=x\n"): "changed",
        **{("", f"[Unit]\n{key}=1\n"): "same" for key in REAL["ignored"]["keys"][1:]},
    }
    for directory in (old, new):
        directory.mkdir()
    script = """
        units=$1 old_units=$2
        if differs a.service "$ignored $reloading"; then echo changed
        elif is_reload_enough a.service; then echo reload; else echo same; fi"""
    for (one, other), wanted in cases.items():
        (old / "a.service").write_text(begin + one)
        (new / "a.service").write_text(begin + other)
        assert shell(script, new, old).stdout == f"{wanted}\n", (one, other)


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_is_the_stand_ins_too_and_is_read_for_what_it_means(text):
    row = SENTENCES[text]
    if not row.get("not_modelled") and row.get("of") is None:
        said = text.replace(": a.service", "").replace("switchInhibitors", "$1")
        assert said in STC
    code = row.get("code", 1)
    code = 30 if code == "errno" else code
    meaning = row.get("means")
    is_refusal = meaning in ("not-nixos", "busy", "unstarted", "check")
    assert refusal(code, text) == (meaning if is_refusal else None)
    assert has_begun(text) is (meaning == "begun")
    assert has_script_failed(text) is (meaning == "script")
    assert has_broken_off(text) is (meaning == "broken-off")
    assert meaning is None or is_relevant(text)


@pytest.mark.parametrize("row", REAL["closing"], ids=lambda row: row["program"])
@pytest.mark.parametrize("code", [2, 4, 11, 100])
def test_what_each_nixos_rebuild_ends_with_is_read_for_what_its_child_has_ended_with(row, code):
    said = next(text for text, known in SENTENCES.items() if known.get("code") == code)
    if code == 2:
        said = "Failed to run activate script"
    returncode = code if row["ends_with"] == "CODE" else row["ends_with"]
    assert exit_code(returncode, f"{said}\n{row['text'].replace('CODE', str(code))}") == code


def test_the_stand_in_of_nixos_rebuild_closes_as_the_newest_does():
    assert "returned non-zero exit status $status." in REBUILD
    assert all(f"'{row['stderr']}'" in REBUILD for row in REAL["success"])


def misplaced(text):
    """Return the lines of a unit's file that have a key where it does not count."""
    section, found = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("X-") and KEYS[line.partition("=")[0]]["section"] != section:
            found.append(line)
    return found


@pytest.mark.parametrize("text", [upgrade_unit(), confirm_unit(), deadline_unit()])
def test_the_units_of_the_hosts_in_the_tests_have_each_key_where_it_counts(text):
    assert "X-RestartIfChanged=false\n" in text
    assert "X-StopOnRemoval=false\n" in text
    assert misplaced(text) == []
