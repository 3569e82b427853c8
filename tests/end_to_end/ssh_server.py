"""An OpenSSH server on loopback, for one user and one key, that knows nothing of this machine's."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]

# Root's server wants a user and a directory of its own: they are there in its namespace alone.
_AS_ROOT = """
mount -t tmpfs -o mode=755 none /run && mkdir /run/sshd
mount --bind "$1" /etc/passwd
shift
exec "$@"
"""


@dataclass(frozen=True)
class Sshd:
    """A server's program, where its libraries are, and lines that its configuration needs."""

    program: str
    libraries: str = ""
    paths: str = ""


def find_sshd() -> Sshd:
    """Return a server, the unpacked one first; skips where there is none, but not in CI."""
    done = subprocess.run(
        ("sh", str(ROOT / ".ci/sshd"), "where"), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        unpacked = Path(done.stdout.strip())
        libraries = ":".join(str(one) for one in (unpacked / "usr/lib").glob("*-linux-*"))
        paths = (unpacked / "paths").read_text()
        return Sshd(str(unpacked / "usr/sbin/sshd"), libraries, paths)
    if found := shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"):
        return Sshd(found)
    if os.environ.get("CI"):
        pytest.fail(f"no sshd: {done.stderr}")
    pytest.skip(f"no sshd: {done.stderr}")


class SshServer:
    """Serves whoever has the key `key`; the client's side is `command`, for GIT_SSH_COMMAND."""

    def __init__(self, directory: Path, sshd: Sshd) -> None:
        self.directory = directory
        self.key = directory / "client"
        self._sshd = sshd
        directory.mkdir()
        for name in ("client", "host"):
            make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f")
            subprocess.run((*make, str(directory / name)), check=True)
        shutil.copy(directory / "client.pub", directory / "authorised")
        # Bound and not listening: until the server starts, connections are refused, and nobody else
        # gets the port.
        self._reserved = socket.socket()
        self._reserved.bind(("127.0.0.1", 0))
        self.port = self._reserved.getsockname()[1]
        host_key = (directory / "host.pub").read_text()
        (directory / "known").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        (directory / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {directory}/host\n"
            f"AuthorizedKeysFile {directory}/authorised\nPidFile none\nUsePAM no\n"
            # Forges speak git's protocol 2, in which any commit can be asked for; nix 2.26 does.
            "AcceptEnv GIT_PROTOCOL\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\n"
            f"{sshd.paths}"
        )
        self.command = f"ssh -F none -o BatchMode=yes -o UserKnownHostsFile={directory}/known"

    def url(self, path: Path) -> str:
        """Return the URL of a repository of this machine."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        argv = [self._sshd.program, "-D", "-e", "-f", str(self.directory / "config")]
        if os.getuid() == 0:
            passwd = self.directory / "passwd"
            known = Path("/etc/passwd").read_text()
            passwd.write_text(f"{known}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
            argv = ["unshare", "--mount", "sh", "-ec", _AS_ROOT, "sh", str(passwd), *argv]
        self._reserved.close()
        env = {**os.environ, "LD_LIBRARY_PATH": self._sshd.libraries}
        self._server = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True)
        said = ""
        assert self._server.stderr is not None
        for line in self._server.stderr:
            said += line
            if "Server listening" in line:
                return self
        self._end()
        pytest.fail(f"sshd did not start: {said}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._server.terminate()
        self._server.communicate(timeout=10)
