"""A real host: Debian's systemd, nix and the agent from its wheel, looking like NixOS."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from nspawn.builder import SHARE
from nspawn.namespaces import FIRST_USER
from nspawn.power_supply import Phase, PowerSupply, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nspawn.builder import Builder
    from nspawn.namespaces import Namespaces

_FILES = Path(__file__).with_name("files")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 60.0
_TIMEOUT = 60.0
_MAX_LINKS = 40
_POLL = 0.05

CURRENT = "/run/current-system"
BOOTED = "/run/booted-system"
PROFILE = "/nix/var/nix/profiles/system"
BOOT_DEFAULT = "/boot/default"

_INSTALL = f"""
mkdir -p /log /inject /nix/var/nix/gcroots /usr/local/lib/systemd /repos
touch /etc/NIXOS /.agent-demo-root
for link in {CURRENT} {BOOTED}; do ln -sfn "$link" "/nix/var/nix/gcroots/${{link##*/}}"; done
ln -sfn {CURRENT}/etc/systemd/system /usr/local/lib/systemd/system
ln -sfn {CURRENT}/etc/nixos-hydra-agent /etc/nixos-hydra-agent
ln -sfn /opt/agent/bin/agent /usr/local/bin/agent
files=/opt/agent/lib/python3*/site-packages/agent/demo/files/bin
# The clock is the machine's, which may not be synchronised and which nobody here can set.
for program in nixos-rebuild timedatectl bootctl; do
  cp $files/$program /usr/local/bin/$program
  chmod 755 /usr/local/bin/$program
done
nix-env --quiet --option substituters file:///cache -p {PROFILE} --set "$1"
"$1/bin/switch-to-configuration" boot 2> /dev/null
rm -f /log/switch-to-configuration
"""
_UNEXPORT = (
    'exported="/run/systemd/nspawn/unix-export/$1"; [ ! -d "$exported" ] ||'
    ' { ! mountpoint --quiet "$exported" || umount --lazy "$exported"; rmdir "$exported"; }'
)
"""Since systemd 256 nspawn refuses to begin where one that was killed has left its directory."""


@dataclass(frozen=True)
class Completed:
    """What a program ended with."""

    rc: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Systems:
    """Where the host's links lead."""

    running: str
    booted: str
    profile: str
    boot_default: str


class RealHost:
    """One host of the namespaces, installed with a system and switched off.

    Its disk is memory of `disk` bytes, its boot partition of `boot` bytes (as tmpfs writes sizes).
    `name` is at most 11 letters: a network interface has it, too.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        builder: Builder,
        agent: str,
        first: str,
        *,
        name: str,
        address: str,
        disk: str = "768m",
        boot: str = "256m",
        patience: float = _PATIENCE,
    ) -> None:
        self._namespaces = namespaces
        self.name = name
        self._off_root = f"/tmp/{name}/root"
        installed = _installed(namespaces, builder, agent, first)
        namespaces.run(
            *("sh", "-euc"),
            """
            mkdir "$1"
            mount -t tmpfs -o "size=$2,mode=755" tmpfs "$1"
            mkdir "$1/boot"
            mount -t tmpfs -o "size=$3,mode=755,uid=$4,gid=$4" tmpfs "$1/boot"
            """,
            *("sh", f"/tmp/{name}", disk, boot, str(FIRST_USER)),
        )
        namespaces.mount(self._off_root, [installed, agent], f"/tmp/{name}/upper")
        machine_id = os.urandom(16).hex()
        namespaces.run(
            *("sh", "-euc"),
            """
            cp -a "$1/root/boot/." "$1/boot"
            mount --bind "$1/boot" "$1/root/boot"
            echo "$2" > "$1/root/etc/address"
            echo "$3" > "$1/root/etc/machine-id"
            echo "$4" > "$1/root/etc/hostname"
            """,
            *("sh", f"/tmp/{name}", address, machine_id, name),
        )
        self._power = PowerSupply(namespaces, name, self._boot_argv, patience=patience)

    # Power

    def power_on(self, *, timeout: float = _TIMEOUT) -> None:
        """Boot, and wait until systemd has started all that it should.

        Raises:
            SilentBootError: it was cut off, having taken longer than its patience.
            TimeoutError: it is not up after `timeout` seconds.
        """
        boots = self._power.boots
        self._power.switch_on()
        self.await_boot(boots + 1, timeout=timeout)

    def power_off(self, *, timeout: float = _TIMEOUT) -> None:
        """Shut down in good order, and wait for it."""
        if self.is_on:
            self.run("systemctl", "--no-block", "poweroff")
        self._power.wait(lambda: self._power.phase is Phase.OFF, timeout, "power off")

    def cut_power(self) -> None:
        """Take the power away, at once."""
        self._power.cut()

    def reboot(self, *, timeout: float = _TIMEOUT) -> None:
        """Reboot in good order, and wait until it is up again."""
        boots = self.boots
        self.run("systemctl", "--no-block", "reboot")
        self.await_boot(boots + 1, timeout=timeout)

    def await_boot(self, number: int, *, timeout: float = _TIMEOUT) -> None:
        """Wait until the boot of a number, or a later one, is up; see `power_on`."""
        power = self._power
        power.wait(
            lambda: power.phase is Phase.UP and power.boots >= number, timeout, f"boot {number}"
        )

    @property
    def boots(self) -> int:
        """How often it was booted, ever."""
        return self._power.boots

    @property
    def is_on(self) -> bool:
        """Whether it has power; it may be in the middle of a boot."""
        return self._power.phase is not Phase.OFF

    @property
    def patience(self) -> float:
        """How many seconds a boot may take before the power supply ends it; can be set."""
        return self._power.patience

    def has_a_watchdog(self) -> None:
        """Boot again after a boot that was cut off."""
        self._power.boots_again = True

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._power.patience = seconds

    # Programs

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = _TIMEOUT,
    ) -> Completed:
        """Run a program on the host as root, as from a login, and wait for its end."""
        child = self.start(*argv, env=env)
        try:
            stdout, stderr = child.communicate(stdin, timeout)
        except BaseException:
            child.kill()
            child.communicate()
            raise
        return Completed(child.returncode, stdout, stderr)

    def ok(self, *argv: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """Run a program that must end well, and return what it printed."""
        done = self.run(*argv, env=env, stdin=stdin)
        assert done.rc == 0, f"{shlex.join(argv)}: {done}\n{self.journal()}"
        return done.stdout

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program on the host as root; all three standard streams are pipes.

        A signal to what is returned does not reach the program: see `signal`.
        """
        return subprocess.Popen(
            self.argv(*argv, env=env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": _PATH},
        )

    def signal(self, child: subprocess.Popen[str], number: int) -> None:
        """Send a signal to a program that `start` has started, and to no child of it."""
        self.eventually(lambda: _children(child.pid), "the program runs")
        os.kill(_children(child.pid)[0], number)

    def eventually(self, check: Callable[[], object], what: str, timeout: float = 30) -> None:
        """Wait until something is so which tells nobody: it is looked at again and again.

        Raises:
            AssertionError: it is not so after `timeout` seconds; the text has the journal.
        """
        deadline = time.monotonic() + timeout
        while not check():
            assert time.monotonic() < deadline, f"not in {timeout} s: {what}\n{self.journal()}"
            time.sleep(_POLL)

    def argv(self, *argv: str, env: Mapping[str, str] | None = None) -> list[str]:
        """Return what runs a program on the host, from outside.

        Raises:
            RuntimeError: the host is off.
        """
        leader = self._leader()
        kinds = {"mnt": "mount", "uts": "uts", "ipc": "ipc", "net": "net", "pid": "pid"}
        kinds |= {"cgroup": "cgroup", "user": "user"}
        bounds = int(_status(leader, "CapBnd"), 16)
        capabilities = ",".join(f"+cap_{bit}" for bit in range(64) if bounds >> bit & 1)
        environment = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "AGENT_DEMO_ROOT": "/"}
        environment |= env or {}
        # The group is the host's own, beside those of its systemd: its end is the program's.
        group = self._namespaces.cgroup_path(self.name) / "payload/outside"
        return [
            # Its parent is not made here: the next boot could not use it.
            *("sh", "-c", '[ -d "$0" ] || mkdir "$0" && echo 0 > "$0/cgroup.procs" && exec "$@"'),
            str(group),
            "nsenter",
            *(f"--{option}={leader}/ns/{kind}" for kind, option in kinds.items()),
            *(f"--root={leader}/root", f"--wd={leader}/root/root", "--setuid=0", "--setgid=0"),
            *("--no-fork", "--"),
            *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
            *("setpriv", f"--bounding-set=-all,{capabilities}", "--"),
            # A host that goes down stops all its processes first. nsenter would stop with its child,
            # and then not see it end: the host would wait for that. A shell looks for the end alone.
            *("sh", "-c", '"$@"; exit $?', "sh", *argv),
        ]

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl, which must end well."""
        return self.ok("systemctl", *arguments)

    def await_state(self, unit: str, state: str, *, timeout: float = 30) -> None:
        """Wait until a unit's `ActiveState` is this one; see `eventually`."""
        self.eventually(lambda: self.state(unit) == state, f"{unit} is {state}", timeout)

    def state(self, unit: str, name: str = "ActiveState") -> str:
        """Return one property of a unit."""
        return self.ok("systemctl", "show", f"--property={name}", "--value", unit).strip()

    # Looking

    @property
    def root(self) -> Path:
        """Its file system from outside, on or off; absolute links there lead astray: see `find`."""
        if self.is_on:
            with suppress(RuntimeError):
                return self._leader() / "root"
        return self._namespaces.path(self._off_root)

    @property
    def disk(self) -> Path:
        """The same, but for what is mounted in it; it is there through every boot, and no links are
        followed."""
        return self._namespaces.path(self._off_root)

    def find(self, path: str) -> Path:
        """Return where a path of the host is outside, all links followed as the host would."""
        parts, found, hops = list(PurePosixPath(path).parts[1:]), PurePosixPath("/"), 0
        root = self.root
        while parts:
            part = parts.pop(0)
            if part == "..":
                found = found.parent
                continue
            there = root / str(found / part).lstrip("/")
            if not there.is_symlink():
                found /= part
                continue
            hops += 1
            if hops > _MAX_LINKS:
                raise OSError(f"too many links in {path}")
            target = PurePosixPath(there.readlink())
            if target.is_absolute():
                found = PurePosixPath("/")
            parts = [p for p in target.parts if p != "/"] + parts
        return root / str(found).lstrip("/")

    def read(self, path: str) -> str:
        """Return a file's text."""
        return self.find(path).read_text()

    def exists(self, path: str) -> bool:
        """Return whether there is something at the end of a path's links."""
        return self.find(path).exists()

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file, as root of the host; its directory is made."""
        file = self.find(path)
        for directory in [*reversed(file.parents), file.parent]:
            if not directory.exists():
                directory.mkdir()
                os.chown(directory, FIRST_USER, FIRST_USER)
        file.write_text(text)
        file.chmod(mode)
        os.chown(file, FIRST_USER, FIRST_USER)

    def inject(self, name: str, content: str = "") -> None:
        """Make something fail from now on; see the scripts of the demo for the names."""
        self.write(f"/inject/{name}", content)

    def repair(self, name: str) -> None:
        """Undo one `inject`."""
        self.find(f"/inject/{name}").unlink()

    def systems(self) -> Systems:
        """See where the host's links lead."""
        return Systems(*(self._target(p) for p in (CURRENT, BOOTED, PROFILE, BOOT_DEFAULT)))

    @property
    def boot_id(self) -> str:
        """The name of this boot."""
        return self.ok("cat", "/proc/sys/kernel/random/boot_id").strip()

    def journal(self, *arguments: str) -> str:
        """Return the host's journal, of all its boots unless the arguments say otherwise."""
        options = ["journalctl", "--no-pager", "--quiet", "--output=short-monotonic", *arguments]
        if self._power.leader:
            return self.run(*options).stdout
        return self._namespaces.inside(self._off_root, '"$@"', *options)

    def console(self) -> str:
        """Return the last lines of what was printed while it booted."""
        return tail(self._power.console)

    # The end

    def close(self) -> None:
        """Take the power away, and everything else of the host; may be called again."""
        self._power.cut()
        script = f'{_UNEXPORT}; [ ! -d "$2" ] || {{ umount -Rl "$2"; rmdir "$2"; rm -f "$2".*; }}'
        self._namespaces.run("sh", "-euc", script, "sh", self.name, f"/tmp/{self.name}")

    def _boot_argv(self) -> list[str]:
        return [
            *("sh", "-euc", f'{_UNEXPORT}; shift; exec "$@"', "sh", self.name),
            *self._namespaces.nspawn(
                self._off_root,
                self.name,
                *("--network-bridge=outside", "--notify-ready=yes", "--console=read-only"),
                *("--kill-signal=SIGRTMIN+3", f"--bind-ro={SHARE}/repos:/repos"),
            ),
            "/usr/local/sbin/stage-2",
        ]

    def _leader(self) -> Path:
        leader = self._power.leader
        if not leader:
            raise RuntimeError(f"the host is off, or only about to boot\n{self.console()}")
        return self._namespaces.root / f"proc/{leader}"

    def _target(self, link: str) -> str:
        found = self.find(link)
        return f"/{found.relative_to(self.root)}" if found.exists() else ""


def _children(parent: int) -> list[int]:
    """Return the children of a process of this machine."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(stat.parent.name))
    return found


def _status(process: Path, name: str) -> str:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    raise KeyError(name)


def _installed(namespaces: Namespaces, builder: Builder, agent: str, system: str) -> str:
    """Return the layer of a host that has just been installed with a system."""
    layer = f"/tmp/installed-{PurePosixPath(system).name[:32]}"
    done = namespaces.path(f"{layer}.done")
    if done.exists():
        return layer
    with namespaces.mounted([agent], layer) as root:
        for file in _FILES.rglob("*"):
            if not file.is_file():
                continue
            copy = namespaces.path(root) / file.relative_to(_FILES)
            for directory in reversed(copy.parents):
                if not directory.exists():
                    directory.mkdir()
                    os.chown(directory, FIRST_USER, FIRST_USER)
            copy.write_text(file.read_text().replace("@key@", builder.public_key))
            copy.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
            os.chown(copy, FIRST_USER, FIRST_USER)
        namespaces.inside(root, _INSTALL, system, binds=(f"--bind-ro={SHARE}/cache:/cache",))
    done.touch()
    return layer


HOSTS = pytest.StashKey[list[RealHost]]()
"""The hosts of a test, which tell what they have to say if it fails."""
