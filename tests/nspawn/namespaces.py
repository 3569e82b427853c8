"""The namespaces that hold all hosts of a session and end with the process that made them.

They are a mount, a network, an IPC and a PID namespace around one process that waits for the end
of its standard input. Whatever is mounted, started or plugged in belongs to one of them. When the
tests end, however they end, the kernel closes the pipe, kills the namespace's processes and takes
away its mounts and its network. What is left is empty control groups; the next session removes them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
FIRST_USER = 1315438592
"""The user of the machine who is root in a host; .ci/host gives the files to the same."""
USERS = 65536

GATEWAY = "10.77.0.1"
"""Hosts of the namespaces are on 10.77.0.0/24, and reach nothing but this and what is behind it."""
BRIDGE = "outside"
_CGROUP_PREFIX = "nixos-hydra-agent-hosts-"
_CLONE_NEWNET = 0x40000000
_LIMIT = 60
_ENDS = 20
"""How often a control group is emptied until it can be removed."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HOLD = """
set -e
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/image /run/kept /run/agent
mount --bind "$1" /run/image
mount --bind "$(dirname "$1")" /run/kept
mount -t tmpfs -o mode=755 tmpfs /tmp
ip link set lo up
ip link add name "$2" type bridge forward_delay 0
ip address add "$3/24" dev "$2"
ip link set "$2" up
trap '' CHLD
echo "$pid"
exec cat > /dev/null
"""


class NoNamespacesError(Exception):
    """This machine cannot hold one; the text says why."""


def image() -> Path:
    """Return the root that `.ci/host` has made.

    Raises:
        NoNamespacesError: there is none.
    """
    told = subprocess.run(
        ["sh", str(ROOT / ".ci/host"), "where"], capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise NoNamespacesError(told.stderr.strip() or ".ci/host failed")
    return Path(told.stdout.strip())


class Namespaces:
    """The namespaces without hosts; they end with `close`, or with this process.

    Raises:
        NoNamespacesError: not root, no image, or a kernel that does not allow it.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoNamespacesError("only root can boot hosts")
        for program in ("unshare", "nsenter", "ip", "systemd-nspawn"):
            if shutil.which(program) is None:
                raise NoNamespacesError(f"no {program} on PATH: run 'make host' as root")
        self.image = image()
        self._process = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--pid"),
                *("--fork", "--kill-child", "--"),
                *("sh", "-c", _HOLD, "sh", str(self.image), BRIDGE, GATEWAY),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": _PATH},
        )
        assert self._process.stdout is not None
        told = self._process.stdout.readline().strip()
        if not told:
            _, stderr = self._process.communicate()
            raise NoNamespacesError(f"no namespaces can be had here: {stderr.strip()}")
        self.pid = int(told)
        """The namespaces' process, as this machine numbers it."""
        self.root = Path(f"/proc/{told}/root")
        """Its file system, seen from outside; `/tmp` there is its own, and in memory."""
        self.cgroup = f"{_own_cgroup()}/{_CGROUP_PREFIX}{os.getpid()}-{os.urandom(3).hex()}"
        self._cgroups = self.root / "sys/fs/cgroup"
        self._remove_leftovers()
        self.cgroup_path("").mkdir()
        self._try_nspawn()

    def _try_nspawn(self) -> None:
        try:
            with self.mounted([], "/tmp/try") as root:
                self.inside(root, "true")
        except RuntimeError as fault:
            self.close()
            raise NoNamespacesError(f"systemd-nspawn does not run here: {fault}") from fault

    # Programs

    def argv(self, *argv: str, cgroup: str = "") -> list[str]:
        """Return what runs a program in the namespaces, by preference in a control group of it."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--ipc", "--pid", "--"]
        if cgroup:
            joined = f"/sys/fs/cgroup{self.cgroup}/{cgroup}"
            join = f'mkdir -p "{joined}" && echo 0 > "{joined}/cgroup.procs" && exec "$@"'
            enter += ["sh", "-c", join, "sh"]
        return [*enter, *argv]

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a program in the namespaces and return what it printed.

        Raises:
            RuntimeError: it failed, or took a minute; the text has its output.
        """
        try:
            done = subprocess.run(
                self.argv(*argv),
                input=stdin,
                capture_output=True,
                text=True,
                env=self.environment(),
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise RuntimeError(f"{argv} took {_LIMIT} s: {late.stdout!r} {late.stderr!r}") from late
        if done.returncode:
            raise RuntimeError(f"{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of programs in the namespaces: nothing of the tests'."""
        return {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}

    def nspawn(self, root: str, machine: str, *options: str) -> list[str]:
        """Return what runs systemd-nspawn on a root of the namespaces, as hosts and builders need it."""
        return [
            *("systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit"),
            *(f"--directory={root}", f"--machine={machine}"),
            # Root there is nobody here: no clock, no device, no setting of this machine is its own.
            *(f"--private-users={FIRST_USER}:{USERS}", "--private-users-ownership=off"),
            "--drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO,CAP_SYSLOG,CAP_MKNOD",
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *options,
        ]

    def inside(self, root: str, script: str, *arguments: str, binds: Sequence[str] = ()) -> str:
        """Run a shell script in a root that is not booted, without any network.

        Raises:
            RuntimeError: it failed; the text has its output.
        """
        name = f"once-{os.urandom(4).hex()}"
        options = ("--as-pid2", "--pipe", "--private-network", "--setenv=AGENT_DEMO_ROOT=/", *binds)
        spawn = self.nspawn(root, name, *options)
        argv = self.argv(*spawn, "sh", "-euc", script, "sh", *arguments, cgroup=name)
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=_LIMIT,
            check=False,
        )
        self.end(name)
        if done.returncode:
            raise RuntimeError(f"{script}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    # Control groups

    def kill(self, cgroup: str) -> None:
        """Kill what is in a control group of the namespaces, if it is there."""
        with suppress(OSError):
            (self.cgroup_path(cgroup) / "cgroup.kill").write_text("1")

    def end(self, cgroup: str) -> None:
        """Kill what is in a control group of the namespaces, wait for it, and remove the group.

        A program may enter a host from outside while that goes down: it is killed in its turn. A
        group that was left behind would be in the way of the next boot.
        """
        for attempt in range(_ENDS, 0, -1):
            self.kill(cgroup)
            try:
                _remove_cgroup(self.cgroup_path(cgroup))
            except OSError as fault:
                if fault.errno not in (errno.EBUSY, errno.ENOENT) or attempt == 1:
                    raise
            else:
                return

    def cgroup_path(self, name: str) -> Path:
        """Return where a control group of the namespaces is, seen from outside."""
        return Path(f"{self._cgroups}{self.cgroup}/{name}")

    def _remove_leftovers(self) -> None:
        """Remove the control groups of racks that ended without tidying up."""
        for old in Path(f"{self._cgroups}{_own_cgroup()}").glob(f"{_CGROUP_PREFIX}*"):
            pid = old.name.removeprefix(_CGROUP_PREFIX).partition("-")[0]
            if not Path(f"/proc/{pid}").exists():
                with suppress(OSError):
                    _remove_cgroup(old)

    # Roots

    @contextmanager
    def mounted(self, lower: Sequence[str], upper: str) -> Iterator[str]:
        """Mount layers, the uppermost first, below a writable one; give the root's path.

        What is written stays in the directory `upper`, which can be a layer of other roots then.
        """
        root = f"{upper}.root"
        self.mount(root, lower, upper)
        try:
            yield root
        finally:
            self.run("umount", root)

    def mount(self, root: str, lower: Sequence[str], upper: str) -> None:
        """Mount layers of the namespaces at `root`, made if it is not there; see `mounted`."""
        user = f"{FIRST_USER}"
        self.run(
            *("sh", "-euc"),
            """
            root=$1 upper=$2 lower=$3 user=$4
            mkdir -p "$root" "$upper" "$upper.work"
            chown "$user:$user" "$upper"
            chmod 755 "$upper"
            mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$upper.work" overlay "$root"
            """,
            *("sh", root, upper, ":".join([*lower, "/run/image"]), user),
        )

    def path(self, inside: str) -> Path:
        """Return where a path of the namespaces is, seen from outside."""
        return self.root / inside.lstrip("/")

    # The network outside of the hosts

    def listen(self, address: str, port: int = 80) -> socket.socket:
        """Return a listening socket in the namespaces' network, on an address that it gets.

        The answers come from this process: a socket stays in the namespace where it was made.
        """
        self.plug_in(address)
        with ThreadPoolExecutor(1) as threads:
            # A namespace is a thread's own: this one ends with what it changed.
            return threads.submit(self._listen, address, port).result()

    def _listen(self, address: str, port: int) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/proc/{self.pid}/ns/net").open() as namespace:
            failed = libc.setns(namespace.fileno(), _CLONE_NEWNET)
        if failed:
            raise OSError(ctypes.get_errno(), "the namespaces' network cannot be entered")
        return socket.create_server((address, port), backlog=128)

    def plug_in(self, address: str) -> None:
        """Give the namespaces an address behind the gateway."""
        self.run("ip", "address", "replace", f"{address}/32", "dev", "lo")

    def unplug(self, address: str) -> None:
        """Take an address away: what is sent to it is lost, and nobody is told."""
        self.run("ip", "address", "delete", f"{address}/32", "dev", "lo")

    def gateway_answers(self, *, answers: bool) -> None:
        """Let the gateway answer pings or not; it goes on passing on what is sent through it."""
        ignore = "0" if answers else "1"
        self.run("sh", "-c", 'echo "$1" > /proc/sys/net/ipv4/icmp_echo_ignore_all', "sh", ignore)

    def link(self, *, up: bool) -> None:
        """Plug the cable of all hosts in, or pull it."""
        self.run("ip", "link", "set", BRIDGE, "up" if up else "down")

    def close(self) -> None:
        """End everything; may be called again."""
        if self._process.poll() is None:
            with suppress(OSError):
                self.end("")
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(_LIMIT)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


def _own_cgroup() -> str:
    """Return this process's group in the unified hierarchy, "" for the root's."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").rstrip("/")
    raise NoNamespacesError("the kernel has no unified hierarchy of control groups")


def _remove_cgroup(directory: Path) -> None:
    """Remove a control group and those in it, as soon as nobody is left in any of them.

    One that ends may make another group in its last moment: they are looked for after that.
    """
    if not directory.is_dir():
        return
    _wait_until_empty(directory)
    for inner in sorted(directory.rglob("*/"), reverse=True):
        inner.rmdir()
    directory.rmdir()


def _wait_until_empty(directory: Path) -> None:
    """Wait until all processes of a group and those in it have ended, which were killed."""
    with (directory / "cgroup.events").open() as events:
        while "populated 1" in events.read():
            if not select.select([], [], [events], _LIMIT)[2]:
                raise RuntimeError("a killed process does not end")
            events.seek(0)
