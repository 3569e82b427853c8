"""Faults of a throw-away host, which the stand-ins for its programs look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.demo.host import ThrowawayHost

if TYPE_CHECKING:
    from agent.demo.layout import Layout


class FaultyHost(ThrowawayHost):
    """A throw-away host whose programs can be made to fail."""

    def inject(self, name: str, content: str = "") -> None:
        """Make something fail from now on; see the scripts below `agent/demo/files` for names."""
        inject(self.paths, name, content)

    def repair(self) -> None:
        """Undo all of `inject`."""
        repair(self.paths)


def inject(layout: Layout, name: str, content: str = "") -> None:
    (layout.root / "inject" / name).write_text(content)


def repair(layout: Layout) -> None:
    for file in (layout.root / "inject").iterdir():
        file.unlink()
