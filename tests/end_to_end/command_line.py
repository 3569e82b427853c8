"""The command line without a machine: in this process, or as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HYDRA = '[hydra]\ninstance = "http://127.0.0.1:1"\nproject = "p"\njobset = "j"\n'


def environment(**added: str) -> dict[str, str]:
    """Return this process's environment without the agent's own variables."""
    own = ("NIXOS_HYDRA_AGENT_", "PYTHONIOENCODING", "LC_", "LANG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "PYTHONPATH": str(ROOT), **added}


def agent(*arguments: str, **added: str) -> subprocess.CompletedProcess[str]:
    """Run `agent` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        env=environment(**added),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
