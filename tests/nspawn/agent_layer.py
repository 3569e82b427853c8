"""The agent of this tree, installed from its wheel: a layer for the hosts' roots."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from nspawn.namespaces import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from nspawn.namespaces import Namespaces

AGENT = "/opt/agent/bin/agent"
"""Where it is in a host."""
_KEPT_SECONDS = 86400

_INSTALL = """
cp -r /mnt /tmp/source
/opt/build/bin/pip --quiet --isolated wheel --no-index --no-deps --no-build-isolation \
    --wheel-dir /tmp/wheel /tmp/source
/opt/agent/bin/pip --quiet --isolated install --no-index --no-deps /tmp/wheel/*.whl
"""


def agent_layer(namespaces: Namespaces) -> str:
    """Return the layer, as a path in the namespaces.

    It is built once for each state of the sources, and kept beside the namespaces' image.
    """
    sources = _sources()
    digest = hashlib.sha256()
    for name, content in sorted(sources.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    agents = namespaces.image.parent / "agents"
    agents.mkdir(exist_ok=True)
    layer = agents / digest.hexdigest()[:16]
    with (agents / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not layer.is_dir():
            _install(namespaces, sources, layer)
        os.utime(layer)
        # Where it is kept may be covered in the namespaces by a mount of their own.
        kept, inside = f"/run/kept/agents/{layer.name}", f"/run/agent/{layer.name}"
        namespaces.run("sh", "-euc", 'mkdir -p "$2"; mount --bind "$1" "$2"', "sh", kept, inside)
        _forget_old(agents)
    return inside


def _sources() -> dict[str, bytes]:
    """Read all that the wheel is made of, at once: someone may be writing in the tree."""
    files = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    files += [f for f in (ROOT / "agent").rglob("*") if f.is_file() and f.suffix != ".pyc"]
    return {str(file.relative_to(ROOT)): file.read_bytes() for file in files}


def _install(namespaces: Namespaces, sources: dict[str, bytes], layer: Path) -> None:
    source = namespaces.path("/tmp/agent-source")
    for name, content in sources.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with namespaces.mounted([], "/tmp/agent-install") as root:
        namespaces.inside(root, _INSTALL, binds=("--bind-ro=/tmp/agent-source:/mnt",))
    part = layer.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    upper = namespaces.path("/tmp/agent-install")
    subprocess.run(["cp", "-a", str(upper / "opt"), str(part)], check=True)
    part.rename(layer)


def _forget_old(agents: Path) -> None:
    """Remove what no session can be using any more: a layer's time is when it was last asked for."""
    for old in agents.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
