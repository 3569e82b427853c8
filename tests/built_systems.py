"""A farm whose systems are built once for the whole test session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.demo.host import Farm
from agent.domain.unit_names import CONFIRM_UNIT
from faulty_host import FaultyHost

if TYPE_CHECKING:
    from pathlib import Path

HOST = "web-1"
DOTTED = "db.example.org"
_FIRST = {"version": "26.05.1"}
_SECOND = {"version": "26.05.2", "kib": 400}


class BuiltSystems:
    """Systems of several commits: all are in the cache, but for those whose names say otherwise."""

    def __init__(self, root: Path) -> None:
        farm = self.farm = Farm(root)
        self.first_revision = farm.commit({HOST: _FIRST, DOTTED: _FIRST})
        self.revision = farm.commit(
            {
                HOST: _SECOND,
                DOTTED: _SECOND,
                "new-kernel": {**_SECOND, "kernel": "6.12.9"},
                "new-init": {**_SECOND, "initInterface": "systemd 3"},
                "with-agent": {
                    "version": "26.05.1-agent",
                    "units": {CONFIRM_UNIT: "[Service]\nExecStart=/bin/true\n"},
                },
                "broken": {**_SECOND, "version": "26.05.2-broken", "health": "broken"},
                "special": {**_SECOND, "specialisations": {"debug": {"kernelParams": "debug"}}},
                "unpublished": {"version": "26.05.2-unpublished"},
                "fails-to-build": {"version": "1", "failsToBuild": True},
                "fails-to-evaluate": {"version": "1", "failsToEvaluate": True},
                "imports": {"version": "1", "importsFromBuild": True},
            }
        )
        self.first = farm.build(self.first_revision, HOST)
        self.second = farm.build(self.revision, HOST)
        self.dotted = farm.build(self.revision, DOTTED)
        self.new_kernel = farm.build(self.revision, "new-kernel")
        self.new_init = farm.build(self.revision, "new-init")
        self.with_agent = farm.build(self.revision, "with-agent")
        self.special = farm.build(self.revision, "special")
        self.broken = farm.build(self.revision, "broken")
        self.unpublished = farm.build(self.revision, "unpublished")
        farm.publish(
            self.first,
            self.second,
            self.dotted,
            self.new_kernel,
            self.new_init,
            self.broken,
            self.special,
            self.with_agent,
        )
        lock = farm.hosts / "flake.lock"
        good = lock.read_text()
        lock.unlink()
        self.stale_revision = farm.commit_all("hosts", "Forget the lock file")
        lock.write_text(_with_unknown_revision(good))
        self.orphaned_revision = farm.commit_all("hosts", "Lock a revision that nobody has")
        lock.write_text(good)
        farm.close()
        self.layout = farm.layout
        self.store_dir = str(farm.layout.store_dir)

    def new_host(self) -> FaultyHost:
        """Return a host that has just been installed with the first system."""
        host = FaultyHost(
            self.layout,
            substituters=(f"file://{self.layout.cache}",),
            trusted_keys=(self.farm.public_key,),
        )
        host.begin(self.first)
        return host


def _with_unknown_revision(lock: str) -> str:
    at = lock.index('"rev": "') + len('"rev": "')
    return lock[:at] + "0" * 40 + lock[at + 40 :]
