"""`agent flake-update run` where temporary files have no room."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from end_to_end.test_state_faults import in_namespace, needs_namespace

pytestmark = pytest.mark.long


@needs_namespace
@pytest.mark.parametrize(
    ("inodes", "kib", "kind"),
    [(6, 64, "no-space"), pytest.param(100, 4, "store-full", marks=pytest.mark.long)],
)
def test_a_full_disk_is_told_and_leaves_nothing(desk, inodes, kib, kind):
    site = desk.site
    site.release(linux="6.2")
    before = site.checkout.state()
    mount = f"mount -t tmpfs -o size={kib}k,nr_inodes={inodes} none {desk.temporary}"
    fill = f"head -c {kib * 1024} /dev/zero > {desk.temporary}/rest 2>/dev/null || true"
    argv = (sys.executable, "-m", "agent", "flake-update", "run", "--json", "--config")
    done = subprocess.run(
        (*in_namespace(f"{mount}\n{fill if inodes > 10 else ''}"), *argv, str(desk.write())),
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, json.loads(done.stdout)["error.kind"]) == (1, kind), done.stderr
    assert site.checkout.state() == before
    assert set(site.checkout.tips()) == {"main"}
