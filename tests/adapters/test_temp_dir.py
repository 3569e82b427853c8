from __future__ import annotations

import os
import tempfile
import time

import pytest

from agent.adapters.temp_dir import scratch_directory

PREFIX = "scratch-"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def leave(temporary, name, *, age):
    left = temporary / name
    (left / "roots").mkdir(parents=True)
    then = time.time() - age
    os.utime(left, (then, then))
    return left


def test_nothing_is_left_of_it(temporary):
    with scratch_directory(PREFIX) as made:
        (made / "roots").mkdir()
        assert made.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_has_left_is_removed(temporary):
    left = leave(temporary, "scratch-killed", age=61)
    with scratch_directory(PREFIX):
        assert not left.exists()


def test_what_another_run_uses_has_just_made_or_is_of_others_stays(temporary):
    others = leave(temporary, "another-program", age=61)
    fresh = leave(temporary, "scratch-fresh", age=1)
    with scratch_directory(PREFIX) as used:
        os.utime(used, (0, 0))
        with scratch_directory(PREFIX):
            assert used.exists()
    assert sorted(temporary.iterdir()) == [others, fresh]


def test_what_is_no_directory_is_left_alone(temporary):
    (temporary / "scratch-file").write_text("")
    (temporary / "scratch-link").symlink_to("/")
    with scratch_directory(PREFIX):
        pass
    assert len(list(temporary.iterdir())) == 2


def test_no_room_for_it_is_told(temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(OSError, match="gone"), scratch_directory(PREFIX):
        pass
