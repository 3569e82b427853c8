"""Measures `agent flake-update diff`, as a process, on a fleet of 20 hosts of which two change.

    .venv/bin/python benchmarks/flake_update.py [ROUNDS] [SCRIPT]

Prints the median of wall and CPU milliseconds (children included), with an empty store and with
one that has all systems already. With SCRIPT the same is measured of that script, which is run by
bash in the flake's checkout; its `nixpkgs#jq` and `nixpkgs#nvd` are local stand-ins.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.process import run_now, watch_now
from agent.demo.host import Farm
from agent.demo.layout import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = 20
CHANGED = 2
EXIT_CHANGED = 0
_STANDINS = """{
  outputs = _:
    let
      program = name: text: derivation {
        inherit name text;
        system = "@system@";
        builder = "/bin/sh";
        PATH = "@path@";
        passAsFile = [ "text" ];
        args = [ "-euc" ''
          mkdir -p $out/bin
          cp $textPath $out/bin/$name
          chmod +x $out/bin/$name
        '' ];
      };
    in
    {
      packages."@system@" = {
        jq = program "jq" ''
          #!@python@
          import json, sys
          print(*json.load(sys.stdin), sep="\\n")
        '';
        nvd = program "nvd" ''
          #!/bin/sh
          exec nix --extra-experimental-features 'nix-command flakes' store diff-closures $2 $3
        '';
      };
    };
}
"""


class Fleet:
    """The farm's flake; 18 hosts have a kernel of their own, two that of the input."""

    def __init__(self, root: Path) -> None:
        self.farm = Farm(root)
        self.layout = self.farm.layout
        self.environment = {**os.environ, **self.layout.environment()}
        self.environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        self.environment.pop("CI", None)
        own = {"version": "26.05.1", "kernel": "6.12.1"}
        names = [f"host-{number:02}" for number in range(HOSTS)]
        fleet = {
            name: own if at >= CHANGED else {"version": "26.05.1"} for at, name in enumerate(names)
        }
        self.farm.commit(fleet)
        base = self.farm.hosts.parent / "base"
        system = base / "system.nix"
        system.write_text(system.read_text().replace('or "6.12.1"', 'or "6.12.9"'))
        self.farm.commit_all("base", "A newer kernel")
        self.config = root / "etc/agent.toml"
        self.config.write_text(f'[paths]\nstore_dir = "{self.layout.store_dir}"\n')
        self._add_standins(root)

    def _add_standins(self, root: Path) -> None:
        standins = root / "standins"
        standins.mkdir()
        fleet = json.loads((self.farm.hosts / "fleet.json").read_text())
        flake = _STANDINS
        for name, text in {
            "@system@": fleet["platform"],
            "@path@": fleet["path"],
            "@python@": sys.executable,
        }.items():
            flake = flake.replace(name, text)
        (standins / "flake.nix").write_text(flake)
        entry = {
            "from": {"type": "indirect", "id": "nixpkgs"},
            "to": {"type": "path", "path": str(standins)},
        }
        registry = root / "etc/nix/registry.json"
        registry.write_text(json.dumps({"version": 2, "flakes": [entry]}))

    def restore(self) -> None:
        """Let the checkout be as it was committed."""
        git = ("git", "-C", str(self.farm.hosts))
        run_now((*git, "checkout", "--quiet", "."), env=self.environment)
        run_now((*git, "clean", "--quiet", "--force"), env=self.environment)

    def empty(self) -> None:
        """Forget all that was ever built."""
        self.restore()
        self.layout.empty_store()
        # Two nix processes that both find no database make it busy for each other.
        run_now(("nix-store", "--init"), env=self.environment)

    def run(self, argv: tuple[str, ...]) -> None:
        """Run a command in the checkout, and stop the benchmark unless it sees two hosts change."""
        shell = ("sh", "-c", 'cd "$0" && exec "$@"', str(self.farm.hosts), *argv)
        ended = watch_now(shell, env=self.environment, timeout=600)
        found = ended.stdout.count("### host-")
        if (ended.returncode, found) != (EXIT_CHANGED, CHANGED):
            raise SystemExit(f"exit {ended.returncode}, {found} hosts\n{ended.stdout}{ended.tail}")


def measure(prepare: Callable[[], None], run: Callable[[], None], rounds: int) -> str:
    """Return the medians of `rounds` runs, each after `prepare`, as a row."""
    walls, cpus = [], []
    for _ in range(rounds):
        prepare()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        run()
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    low, high = min(walls) * 1000, max(walls) * 1000
    wall, cpu = statistics.median(walls) * 1000, statistics.median(cpus) * 1000
    return f"{wall:8.0f} ms wall ({low:.0f} to {high:.0f}), {cpu:6.0f} ms CPU"


def main() -> None:
    """Print two rows for the command, and two for the script if one is given."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    agent = (sys.executable, "-m", "agent", "flake-update", "diff", "--config")
    root = Path(tempfile.mkdtemp(prefix="flake-update-benchmark-"))
    try:
        fleet = Fleet(root)
        commands = {"agent flake-update diff": (*agent, str(fleet.config))}
        if len(sys.argv) > 2:  # noqa: PLR2004 - the second argument
            script = root / "script.sh"
            shutil.copy(sys.argv[2], script)
            commands["the script"] = ("bash", str(script))
        for name, argv in commands.items():
            for store, prepare in (("empty", fleet.empty), ("full", fleet.restore)):
                row = measure(prepare, lambda argv=argv: fleet.run(argv), rounds)
                print(f"{f'{name}, {store} store':38}{row}")
    finally:
        remove_tree(root)


if __name__ == "__main__":
    main()
