from __future__ import annotations

import pytest

from agent.application import events
from agent.cli.render.progress import LoggedProgress, progress_for
from fakes.events import RememberedEvents, SteppedClock


@pytest.fixture
def sink():
    return RememberedEvents()


def test_a_substitution_is_logged_every_ten_seconds_and_no_oftener(sink):
    clock = SteppedClock()
    progress = LoggedProgress(sink, clock.elapsed)
    for second in range(1, 26):
        clock.move(1)
        progress.update(second, 100, second * 1000, 100_000)
    assert [fields["paths"] for _, fields in sink.said] == [10, 20]
    assert sink.fields_of(events.FETCH_PROGRESSED) == {
        "paths": 20, "paths_expected": 100, "bytes": 20_000, "bytes_expected": 100_000,
    }  # fmt: skip


def test_a_short_substitution_is_not_logged(sink):
    with progress_for(sink, on_terminal=False) as progress:
        progress.update(1, 1, 1, 1)
    assert sink.said == []


def test_a_person_sees_a_bar_and_no_log_lines(sink, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress_for(sink, on_terminal=True) as progress:
        progress.update(0, 0, 0, 0)
        progress.update(3, 7, 512 << 10, 1 << 20)
    shown = capsys.readouterr().out
    assert "fetching" in shown
    assert "3/7 paths" in shown
    assert sink.said == []


def test_a_bar_is_drawn_only_where_there_is_a_terminal(sink, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress_for(sink, on_terminal=True) as progress:
        progress.update(1, 2, 3, 0)
    assert "\x1b" not in capsys.readouterr().out
