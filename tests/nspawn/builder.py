"""Where systems are built: a root of its own, like a host's but never booted, with a real nix."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nspawn.namespaces import FIRST_USER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nspawn.namespaces import Namespaces

HOST = "web-1"
SHARE = "/tmp/share"
"""Where the namespaces keep what the builder and the hosts share: `repos` and `cache`."""
_NAME = "builder"
_LOG = "/tmp/builder.log"


@dataclass(frozen=True)
class System:
    """A system that was built: its store path, and the locked flake that describes it."""

    toplevel: str
    reference: str
    revision: str


class Builder:
    """The fleet's flake, its builder and its signed binary cache; it ends with the namespaces."""

    def __init__(self, namespaces: Namespaces, agent: str) -> None:
        self._namespaces = namespaces
        self._built: dict[str, System] = {}
        namespaces.run(
            *("sh", "-euc", 'mkdir -p "$1/repos" "$1/cache"; chown -R "$2:$2" "$1"', "sh"),
            *(SHARE, str(FIRST_USER)),
        )
        self.cache: Path = namespaces.path(f"{SHARE}/cache")
        """The binary cache as files."""
        root = "/tmp/builder"
        namespaces.mount(f"{root}.root", [agent], root)
        (namespaces.path("/tmp") / "builder.py").write_text(
            Path(__file__).with_name("builder_inside.py").read_text()
        )
        with namespaces.path(_LOG).open("wb") as log:
            self._process = subprocess.Popen(
                namespaces.argv(
                    *namespaces.nspawn(
                        f"{root}.root",
                        _NAME,
                        *("--as-pid2", "--pipe", "--private-network"),
                        *(f"--bind={SHARE}/repos:/repos", f"--bind={SHARE}/cache:/cache"),
                        "--bind-ro=/tmp/builder.py:/mnt/builder.py",
                    ),
                    *("/opt/agent/bin/python", "-I", "/mnt/builder.py"),
                    cgroup=_NAME,
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=namespaces.environment(),
            )
        self.public_key: str = self._answer()["key"]

    def build(
        self, parameters: Mapping[str, object], *, host: str = HOST, publishes: bool = True
    ) -> System:
        """Build a host's system and publish it; see `system.nix` of the demo for its parameters.

        The same parameters give what was built before.

        Raises:
            RuntimeError: it cannot be evaluated or built; the text says why.
        """
        asked = {"hosts": {host: parameters}, "homes": {}, "publishes": publishes}
        return self._build_as(asked, host)

    def build_home(self, name: str, parameters: Mapping[str, object]) -> System:
        """Build a home and publish it, as `build` does a system; see `home.nix` of the demo."""
        return self._build_as({"hosts": {}, "homes": {name: parameters}, "publishes": True}, name)

    def _build_as(self, asked: Mapping[str, object], name: str) -> System:
        key = json.dumps(asked, sort_keys=True)
        if key not in self._built:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            told = self._answer()
            self._built[key] = System(
                told["built"][name], reference=told["reference"], revision=told["revision"]
            )
        return self._built[key]

    def close(self) -> None:
        """End it."""
        self._namespaces.end(_NAME)
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"fault": "it has ended"}
        if "fault" in told:
            log = self._namespaces.path(_LOG).read_text(errors="replace")
            raise RuntimeError(f"the builder: {told['fault']}\n{log[-4000:]}")
        return told
