"""The command `agent flake-update`, called in this process on a fleet's checkout."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from end_to_end.preloaded_agent import PreloadedAgent
    from fleet_checkout import FleetCheckout


@dataclass(frozen=True)
class Output:
    """What the command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class FlakeUpdateCommand:
    """Calls the command with a configuration of its own; `settings` are TOML tables by name."""

    def __init__(
        self,
        site: FleetCheckout,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.site = site
        self._capsys = capsys
        self.temporary = site.checkout.directory / "tmp"
        self.temporary.mkdir()
        self.config = site.checkout.directory / "config.toml"
        self.settings: dict[str, dict[str, Any]] = {
            "paths": {"store_dir": str(site.layout.store_dir)},
            "flake_update": {
                "repository": str(site.path),
                "author": "agent <agent@localhost>",
            },
        }
        for name in ("CI", "INVOCATION_ID", "GITHUB_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            **site.layout.environment(),
            **site.checkout.environment,
            "GIT_CONFIG_GLOBAL": str(site.layout.root / "home/.gitconfig"),
            "TMPDIR": str(self.temporary),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("tempfile.tempdir", None)

    def set(self, table: str, **values: Any) -> None:
        """Change settings."""
        self.settings.setdefault(table, {}).update(values)

    def write(self) -> Path:
        """Write the configuration and return its file."""
        lines = []
        for table, values in self.settings.items():
            lines.append(f"[{table}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    def __call__(self, *arguments: str) -> Output:
        """Run `agent flake-update ARGUMENTS`."""
        code = run(["flake-update", *arguments, "--config", str(self.write())])
        said = self._capsys.readouterr()
        return self._output(code, said.out, said.err)

    def in_a_process(self, agent: PreloadedAgent, *arguments: str) -> Output:
        """The same, in a process of its own."""
        argv = ["flake-update", *arguments, "--config", str(self.write())]
        done = agent.run(argv, os.environ, timeout=60)
        return self._output(done.returncode, done.stdout, done.stderr)

    def _output(self, code: int, out: str, err: str) -> Output:
        assert list(self.temporary.iterdir()) == [], "something temporary is left"
        return Output(code, out, err)
