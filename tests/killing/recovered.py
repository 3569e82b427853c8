"""What a host must be after a run that was killed, and the next one."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from agent.domain.outcome import UNDER_WAY


def assert_recovered(machine, allowed):
    """Assert that nothing is left under way, and that the host is wholly on an allowed system."""
    layout = machine.layout
    marks = {
        link.name: str(link.readlink())
        for link in layout.marks_dir.iterdir()
        if link.is_symlink() and not link.name.startswith(("candidate", "."))
    }
    running = os.path.realpath(layout.current_system)
    assert set(marks) == {"confirmed"}, marks
    assert running in allowed, running
    assert os.path.realpath(layout.profile) == running
    assert marks["confirmed"] == running
    assert str((layout.boot / "default").readlink()) == running
    timers = layout.root / "timers"
    assert not timers.exists() or not list(timers.iterdir())
    with closing(sqlite3.connect(machine.journal)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not [row for row in machine.rows() if row["outcome"] in UNDER_WAY], machine.rows()
