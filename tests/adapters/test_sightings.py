"""What is seen is kept over runs and boots, by the files and by the fake alike."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from agent.adapters.state.sightings import SightingFiles
from agent.adapters.state.stopwatch import Uptime
from agent.domain.sighting import Sighting, look
from fakes.sightings import FakeSightings

NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
BOOT = ("0f1e-a", 3600.5)


def files(tmp_path):
    return SightingFiles(tmp_path / "marks", Uptime(lambda: BOOT[0], lambda: BOOT[1]))


def fake(tmp_path):
    del tmp_path
    return FakeSightings(lambda: BOOT)


@pytest.fixture(params=[files, fake])
def sightings(request, tmp_path):
    return request.param(tmp_path)


def a_sighting(sightings, about="profile /nix/store/x", *, is_clock_right=True):
    moment = sightings.moment(NOW, is_clock_right=is_clock_right)
    return look(None, about, moment, timedelta(seconds=1.5))


# The contract


def test_a_moment_is_of_this_boot(sightings):
    moment = sightings.moment(NOW, is_clock_right=False)
    assert (moment.now, moment.is_clock_right) == (NOW, False)
    assert (moment.boot_id, moment.uptime) == (BOOT[0], timedelta(seconds=BOOT[1]))


def test_what_was_never_seen_is_unknown(sightings):
    assert sightings.last("clock") is None
    sightings.forget("clock")


@pytest.mark.parametrize("is_clock_right", [True, False])
def test_what_is_kept_is_there_at_the_next_look_as_it_was(sightings, is_clock_right):
    seen = a_sighting(sightings, "Ünits \n\udcff"[:7], is_clock_right=is_clock_right)
    sightings.keep("clock", seen)
    assert sightings.last("clock") == seen
    assert sightings.last("foreign-system") is None
    sightings.forget("clock")
    assert sightings.last("clock") is None


def test_the_newest_is_kept(sightings):
    sightings.keep("clock", a_sighting(sightings))
    newer = a_sighting(sightings, "other")
    sightings.keep("clock", newer)
    assert sightings.last("clock") == newer


# The files


def test_another_process_sees_what_was_kept(tmp_path):
    seen = a_sighting(files(tmp_path))
    files(tmp_path).keep("clock", seen)
    assert files(tmp_path).last("clock") == seen
    assert [file.name for file in (tmp_path / "marks").iterdir()] == ["seen-clock"]


DAMAGED = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 9999,
    b'{"about": 1, "age": 1, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 1, "now": "2026-11-21T04:40:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": -1, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 1e300, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 8e13, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 1, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 8e13}',
    b'{"about": "", "age": NaN, "now": "2026-11-21T04:40:00+00:00", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 1, "now": "once", "boot_id": "", "uptime": 1}',
    b'{"about": "", "age": 1, "now": "2026-11-21T04:40:00+00:00", "boot_id": null, "uptime": 1}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_what_cannot_be_read_was_never_seen_and_is_written_anew(tmp_path, text):
    kept = files(tmp_path)
    seen = a_sighting(kept)
    kept.keep("clock", seen)
    (tmp_path / "marks/seen-clock").write_bytes(text)
    assert kept.last("clock") is None
    kept.keep("clock", seen)
    assert kept.last("clock") == seen


def test_what_is_no_file_is_left_alone(tmp_path):
    kept = files(tmp_path)
    (tmp_path / "marks").mkdir()
    os.mkfifo(tmp_path / "marks/seen-clock")
    assert kept.last("clock") is None
    (tmp_path / "marks/seen-booted").mkdir()
    kept.keep("booted", a_sighting(kept))
    kept.forget("booted")
    assert kept.last("booted") is None
    (tmp_path / "secret").write_text("x")
    (tmp_path / "marks/seen-led").symlink_to(tmp_path / "secret")
    assert kept.last("led") is None
    kept.keep("led", a_sighting(kept))
    assert (tmp_path / "secret").read_text() == "x"


def test_where_nothing_can_be_kept_nothing_is_raised(tmp_path):
    (tmp_path / "marks").write_text("no directory")
    kept = files(tmp_path)
    kept.keep("clock", a_sighting(kept))
    kept.forget("clock")
    assert kept.last("clock") is None


def test_the_kernels_own_time_is_the_real_one(tmp_path):
    moment = SightingFiles(tmp_path).moment(NOW, is_clock_right=True)
    assert moment.boot_id
    assert moment.uptime > timedelta(0)
    assert isinstance(look(None, "x", moment), Sighting)
