"""Where the idle path answers, it has the settings that the full run would have."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as cases
from hypothesis import strategies as st

from agent.adapters.state.idle_note import IdleNote
from agent.config.load import load_settings
from agent.config.settings import PathsSection
from agent.domain.errors import ConfigError
from agent.domain.job import Job, Select
from agent.domain.systems import Systems
from agent.lean import idle_poll
from agent.lean.places import MARKS_DIR, STATE_DIR

HYDRA = '[hydra]\ninstance = "http://h"\nproject = "p"\njobset = "j"\n'


class _Quiet:
    """A standard output that is no terminal."""

    def isatty(self):
        return False

    def write(self, text):
        return len(text)

    def flush(self):
        pass


class Situation:
    """Files and variables that settings are made of, below a directory of their own."""

    def __init__(self, root):
        self.root = root
        self.config = root / "config.toml"

    def leave_note(self, arguments):
        """Do what a full run does that has found nothing to do."""
        settings = load_settings(self.config)
        settings.paths.state_dir.mkdir(parents=True, exist_ok=True)
        (settings.paths.state_dir / "agent.lock").touch()
        if self.root in settings.paths.marks_dir.parents:
            mark(settings.paths.marks_dir, "confirmed")
        note = IdleNote(
            state_dir=settings.paths.state_dir,
            marks_dir=settings.paths.marks_dir,
            job=Job("http://h", "p", "j", "h"),
            select=Select.LATEST,
            host=settings.host,
            current_system=self.root,
            booted_system=None,
            profile=self.root,
            timeout=timedelta(seconds=10),
            interval=timedelta(hours=1),
            is_logged=False,
            fingerprint=idle_poll.fingerprint_now(arguments),
        )
        where = os.path.realpath(self.root)
        note.write(7, Systems(where, None, where))


def has_nothing_under_way(settings):
    """Say what the full command would find in the marks."""
    marks = settings.paths.marks_dir
    return (marks / "confirmed").is_symlink() and not (marks / "pending").is_symlink()


def mark(directory, *names):
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("confirmed", "pending"):
        (directory / name).unlink(missing_ok=True)
        if name in names:
            (directory / name).symlink_to("/dev/null")


@pytest.fixture
def situation(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("NIXOS_HYDRA_AGENT_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdout", _Quiet())
    monkeypatch.setattr(idle_poll, "_ask", lambda *_: None)  # Hydra has nothing new
    return Situation(tmp_path)


def test_a_home_without_paths_has_its_own_marks(situation, monkeypatch):
    home = situation.root / "home"
    marks = home / ".local/state/nixos-hydra-agent/marks"
    situation.config.write_text(f'target = "home-manager"\n{HYDRA}')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    arguments = ["--config", str(situation.config)]
    mark(marks, "confirmed")
    assert not idle_poll.has_nothing_to_confirm(arguments), "no run has found that out yet"
    situation.leave_note(arguments)
    assert idle_poll.has_nothing_to_confirm(arguments)
    assert idle_poll.attempt(arguments) == 0
    mark(marks, "confirmed", "pending")
    assert not idle_poll.has_nothing_to_confirm(arguments)
    mark(marks)
    (marks / "confirmed").symlink_to("/nowhere")
    assert not idle_poll.has_nothing_to_confirm(arguments), "what was confirmed is gone"


def test_of_two_files_the_last_is_read(situation):
    other = situation.root / "other.toml"
    for file, name in ((other, "first"), (situation.config, "last")):
        file.write_text(
            f'{HYDRA}[paths]\nstate_dir = "{situation.root}/{name}"\n'
            f'marks_dir = "{situation.root}/marks"\n'
        )
    arguments = ["--config", str(other), "--config", str(situation.config)]
    situation.leave_note(arguments)
    assert idle_poll.attempt(arguments) == 0
    assert idle_poll.attempt(arguments[2:]) is None, "other arguments, other settings"


def test_what_confirm_would_refuse_is_left_to_it(situation):
    text = f'{HYDRA}[paths]\nstate_dir = "{situation.root}/s"\nmarks_dir = "{situation.root}/m"\n'
    situation.config.write_text(text)
    named = str(situation.config)
    mark(situation.root / "m", "confirmed")
    situation.leave_note(["--config", named])
    assert idle_poll.has_nothing_to_confirm(["--config", named])
    for arguments in (["--config", named, named], [named], ["--config"], ["--config", named, "-h"]):
        assert not idle_poll.has_nothing_to_confirm(arguments)
    situation.config.write_text(f"{text}[unknown]\n")
    assert not idle_poll.has_nothing_to_confirm(["--config", named])


def test_a_note_of_another_place_is_none(situation):
    situation.config.write_text(f'{HYDRA}[paths]\nstate_dir = "{situation.root}/one"\n')
    arguments = ["--config", str(situation.config)]
    situation.leave_note(arguments)
    note = situation.root / "one" / idle_poll.NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "state_dir": "/elsewhere"}))
    assert idle_poll.attempt(arguments) is None


def test_hosts_have_their_things_where_the_idle_path_looks():
    paths = PathsSection()
    assert (paths.state_dir, paths.marks_dir) == (Path(STATE_DIR), Path(MARKS_DIR))


def _toml(root, target, paths, form):
    keys = {name: json.dumps(f"{root}/{place}") for name, place in paths.items()}
    lines = []
    if target is not None:
        key = r'"t\u0061rget"' if form == "escaped" else "target"
        lines.append(f'{key} = "{target}"')
    if form == "inline" and keys:
        lines.append("paths = { " + ", ".join(f"{k} = {v}" for k, v in keys.items()) + " }")
    lines.append(HYDRA)
    if form == "escaped":
        keys = {f'"{name[:-1]}\\u00{ord(name[-1]):02x}"': value for name, value in keys.items()}
    if form != "inline":
        lines += ["[paths]", *(f"{name} = {value}" for name, value in keys.items())]
    return "\n".join(lines)


CHOICES = {
    "target": st.sampled_from(["home-manager", "home-manager", "home-manager", "nixos", None]),
    "paths": st.sampled_from(
        [
            {},
            {"state_dir": "one"},
            {"state_dir": "one"},
            {"marks_dir": "two"},
            {"state_dir": "two/../two", "marks_dir": "one"},
            {"nonsense": "one"},
        ]
    ),
    "form": st.sampled_from(["plain", "plain", "inline", "escaped"]),
    "variables": st.dictionaries(
        st.sampled_from(
            [
                "NIXOS_HYDRA_AGENT_PATHS__STATE_DIR",
                "NIXOS_HYDRA_AGENT_PATHS__MARKS_DIR",
                "nixos_hydra_agent_paths__marks_dir",
                "Nixos_Hydra_Agent_PATHS__state_dir",
            ]
        ),
        st.sampled_from(["one", "two", ""]),
        max_size=1,
    ),
    "json": st.sampled_from([None, None, None, "marks_dir", "state_dir"]),
    "named": st.sampled_from([None, None, "nixos", "home-manager"]),
    "home": st.sampled_from(["home", "elsewhere", None]),
    "xdg": st.sampled_from([None, None, "", "xdg"]),
}
MARKS = (
    *("one", "two", "xdg/nixos-hydra-agent/marks"),
    *(f"{home}/.local/state/nixos-hydra-agent/marks" for home in ("home", "elsewhere")),
)


def _environment(root, chosen):
    variables = chosen["variables"].items()
    found = {name: f"{root}/{place}" if place else "" for name, place in variables}
    if chosen["json"]:
        found["NIXOS_HYDRA_AGENT_PATHS"] = json.dumps({chosen["json"]: f"{root}/two"})
    if chosen["named"]:
        found["NIXOS_HYDRA_AGENT_TARGET"] = chosen["named"]
    for variable, name in (("HOME", "home"), ("XDG_STATE_HOME", "xdg")):
        if chosen[name] is not None:
            found[variable] = f"{root}/{chosen[name]}" if chosen[name] else ""
    return found


def _loaded(situation):
    try:
        return load_settings(situation.config)
    except ConfigError:
        return None


class _Changing:
    """A situation that is made what was chosen, and afterwards something else."""

    def __init__(self, root, patch):
        self.situation = Situation(root)
        self._patch = patch

    def take(self, chosen):
        for name in list(os.environ):
            if name.upper().startswith("NIXOS_HYDRA_AGENT_") or name in ("HOME", "XDG_STATE_HOME"):
                self._patch.delenv(name)
        for name, value in _environment(self.situation.root, chosen).items():
            self._patch.setenv(name, value)
        text = _toml(self.situation.root, chosen["target"], chosen["paths"], chosen["form"])
        self.situation.config.write_text(text)
        return _loaded(self.situation)


def _check_agreement(changing, before, now, kept):
    """Leave a note with some settings; ask the idle path with the same ones, or others."""
    situation = changing.situation
    root = situation.root
    arguments = ["--config", str(situation.config)]
    (root / "two").mkdir()
    first = changing.take(before)
    if first is None or root not in first.paths.state_dir.parents:
        return  # it is refused, or it is this machine's own
    situation.leave_note(arguments)
    settings = changing.take(now)
    for number, place in enumerate(MARKS):
        mark(root / place, "confirmed", *(["pending"] if number in kept else []))
    if idle_poll.has_nothing_to_confirm(arguments):
        assert settings is not None
        assert has_nothing_under_way(settings)
    if idle_poll.attempt(arguments) == 0:
        assert settings is not None
        assert settings.paths.state_dir == first.paths.state_dir


def _agree(before, changes, kept):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(sys, "stdout", _Quiet())
        patch.setattr(idle_poll, "_ask", lambda *_: None)  # Hydra has nothing new
        _check_agreement(_Changing(Path(name).resolve(), patch), before, before | changes, kept)


SITUATIONS = {
    "before": st.fixed_dictionaries(CHOICES),
    "changes": st.fixed_dictionaries({}, optional=CHOICES),
    "kept": st.sets(st.sampled_from(range(len(MARKS)))),
}


@cases(max_examples=40)
@given(**SITUATIONS)
def test_where_the_idle_path_answers_the_full_run_agrees(before, changes, kept):
    _agree(before, changes, kept)


@pytest.mark.long
@cases(max_examples=600)
@given(**SITUATIONS)
def test_where_the_idle_path_answers_the_full_run_agrees_in_many_cases(before, changes, kept):
    _agree(before, changes, kept)


BASE = {
    "target": "home-manager",
    "paths": {"state_dir": "one"},
    "form": "plain",
    "variables": {},
    "json": None,
    "named": None,
    "home": "home",
    "xdg": None,
}


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        ({}, {"home": "elsewhere"}),
        ({"home": None}, {"home": "elsewhere"}),
        ({}, {"xdg": "xdg"}),
        ({}, {"json": "marks_dir"}),
        ({}, {"variables": {"nixos_hydra_agent_paths__marks_dir": "two"}}),
        ({"target": None, "named": "home-manager"}, {"home": "elsewhere"}),
        ({"form": "escaped"}, {"home": "elsewhere"}),
        ({"paths": {}, "xdg": "xdg"}, {"xdg": None}),
    ],
)
def test_other_surroundings_are_other_settings(before, changes):
    """Each with a system that is to be confirmed in the new place, and none in the old one."""
    for pending in range(len(MARKS)):
        _agree(BASE | before, changes, {pending})
