"""A Hydra for the VM tests: `hydra.py DIRECTORY PORT`.

The job `machine` of the jobset `nix-config/main` has built the store paths that DIRECTORY/builds
lists, oldest first; DIRECTORY/cache is served as its binary cache.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

from agent.demo.hydra import EmbeddedHydra

FLAKE = "git+https://forge.example.org/nix-config?ref=main"


def main() -> None:
    """Serve until the process is ended."""
    directory = Path(sys.argv[1])
    hydra = EmbeddedHydra(listener=socket.create_server(("", int(sys.argv[2]))))
    hydra.world.add_jobset("nix-config", "main", flake=FLAKE)
    for number, path in enumerate((directory / "builds").read_text().split(), start=1):
        evaluation = hydra.world.add_eval("nix-config", "main", flake=f"{FLAKE}&rev={number:040x}")
        system = f"{os.uname().machine}-linux"
        hydra.world.add_build("machine", path, eval_id=evaluation, system=system)
    hydra.serve_cache(directory / "cache")
    with hydra:
        threading.Event().wait()


if __name__ == "__main__":
    main()
