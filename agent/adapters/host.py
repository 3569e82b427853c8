"""The host's own links and files, and its reboot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import ProgramMissingError
from agent.application.ports import Host
from agent.domain.errors import HostError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.store_path import StorePath, parse_store_path
from agent.domain.systems import BootArtifacts, Systems
from agent.domain.target import NIXOS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.adapters.process import Runner

_KERNEL_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_FILE: Final = 65536
_MAX_INHIBITORS: Final = 1 << 20
_MASK: Final = 7
"""The column of `/proc/net/route` with the destination's mask."""
_NOWHERE: Final = "00000000"
_DEVICE: Final = 9
"""The column of `/proc/net/ipv6_route` with the device."""
_REBOOT_TIMEOUT: Final = 60.0


class HostFiles(Host):
    """Reads a NixOS host below the given paths; `units` is where a system has its unit files.

    What is never booted has neither a `booted_system` nor a `boot`.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        current_system: Path,
        booted_system: Path | None,
        profile: Path,
        store_dir: Path,
        boot: Path | None,
        units: str = NIXOS.units,
        routes: Path = Path("/proc/net"),
    ) -> None:
        self._runner = runner
        self._current_system = current_system
        self._booted_system = booted_system
        self._profile = profile
        self._store_dir = store_dir
        self._boot = boot
        self._units = units
        self._routes = routes

    @override
    def systems(self) -> Systems:
        # systemd writes `/run/systemd/container` in containers (its container interface). Without a
        # store nothing else is asked: nix would make one.
        if not self._store_dir.is_dir():
            raise HostError(
                Kind.HOST_WITHOUT_STORE,
                f"there is no nix store at {self._store_dir}",
                hint="is this a NixOS host?",
            )
        return Systems(
            running=self._resolve(self._current_system),
            booted=self._resolve(self._booted_system),
            profile=self._resolve(self._profile),
            is_container=(self._current_system.parent / "systemd" / "container").exists(),
            boot_id=self._boot_id(),
        )

    def _boot_id(self) -> str:
        """Return the kernel's boot id, and when the link to the booted system was made.

        Stage 2 of the boot makes that link anew. In a container, whose restart is no boot of the
        kernel, only the link changes.
        """
        try:
            made = self._booted_system.lstat().st_ctime_ns if self._booted_system else 0
        except OSError:
            made = 0
        return f"{_text(_KERNEL_BOOT_ID) or ''}:{made}"

    @override
    def platform(self) -> str | None:
        return _text(self._current_system / "system")

    @override
    def boot_artifacts(self, toplevel: StorePath) -> BootArtifacts | None:
        system = Path(toplevel)
        kernel, initrd, modules = (
            os.path.realpath(system / name) if (system / name).exists() else ""
            for name in ("kernel", "initrd", "kernel-modules")
        )
        if not kernel:
            return None
        return BootArtifacts(kernel, initrd, modules, _text(system / "kernel-params") or "")

    @override
    def switch_inhibitors(self, toplevel: StorePath) -> Mapping[str, str] | None:
        # It is JSON, an object of strings (nixos/modules/system/activation/switchable-system.nix,
        # since NixOS 26.05). Other values are compared as JSON, as NixOS's own check does.
        try:
            with Path(toplevel, "switch-inhibitors").open("rb") as stream:
                text = stream.read(_MAX_INHIBITORS + 1)
            found = json.loads(text) if len(text) <= _MAX_INHIBITORS else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        return {name: json.dumps(value, sort_keys=True) for name, value in found.items()}

    @override
    def counterpart(self, toplevel: StorePath) -> StorePath:
        booted = self._resolve(self._booted_system)
        name = booted and self.specialisation_name(booted)
        return self.specialisations(toplevel).get(name or "", toplevel)

    @override
    def specialisation_name(self, path: StorePath) -> str | None:
        pattern = f"{self._profile.name}-*-link/specialisation/*"
        links = sorted(self._profile.parent.glob(pattern))
        return next((link.name for link in links if self._resolve(link) == path), None)

    @override
    def specialisations(self, toplevel: StorePath) -> dict[str, StorePath]:
        links = sorted(Path(toplevel, "specialisation").glob("*"))
        return {link.name: path for link in links if (path := self._resolve(link))}

    @override
    def equivalents(self, toplevel: StorePath) -> frozenset[StorePath]:
        return frozenset({toplevel, *self.specialisations(toplevel).values()})

    @override
    def hostname_of(self, toplevel: StorePath) -> str | None:
        return _text(Path(toplevel, "etc", "hostname"))

    @override
    def free_space(self) -> FreeSpace:
        try:
            boot = (
                shutil.disk_usage(self._boot).free if self._boot and self._boot.exists() else None
            )
            return FreeSpace(store=shutil.disk_usage(self._store_dir).free, boot=boot)
        except OSError as error:
            raise HostError(
                Kind.HOST_UNREADABLE,
                f"cannot find out the free space of {error.filename}: {error.strerror}",
            ) from error

    @override
    def touched_units(self, old: StorePath, new: StorePath) -> frozenset[str]:
        before, after = _unit_files(Path(old, self._units)), _unit_files(Path(new, self._units))
        return frozenset(unit for unit, files in after.items() if before.get(unit) != files)

    @override
    def has_unit(self, toplevel: StorePath, unit: str) -> bool:
        return Path(toplevel, self._units, unit).exists()

    @override
    def exists(self, toplevel: StorePath) -> bool:
        return Path(toplevel).exists()

    @override
    def changed_at(self) -> datetime | None:
        times = []
        for link in (self._current_system, self._profile):
            with contextlib.suppress(OSError):
                times.append(link.lstat().st_mtime)
        return datetime.fromtimestamp(max(times), UTC) if times else None

    @override
    def booted_at(self) -> datetime | None:
        if self._booted_system is None:
            return None
        try:
            return datetime.fromtimestamp(self._booted_system.lstat().st_mtime, UTC)
        except OSError:
            return None

    @override
    def default_gateways(self) -> tuple[str, ...]:
        found = []
        for line in (_text(self._routes / "route") or "").splitlines()[1:]:
            fields = line.split()
            # One without a gateway, such as a tunnel's, has nobody to ask.
            if len(fields) > _MASK and fields[1] == fields[_MASK] == _NOWHERE != fields[2]:
                found.append(socket.inet_ntoa(bytes.fromhex(fields[2])[::-1]))
        for line in (_text(self._routes / "ipv6_route") or "").splitlines():
            fields = line.split()
            if len(fields) > _DEVICE and fields[:2] == ["0" * 32, "00"] and fields[4] != "0" * 32:
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[4]))
                scope = f"%{fields[_DEVICE]}" if address.startswith("fe80:") else ""
                found.append(address + scope)
        return tuple(dict.fromkeys(found))

    @override
    async def reboot(self, *, forced: bool = False) -> None:
        # Under a blocking inhibitor even root is refused, by `reboot` in every form (systemd 257);
        # its target can be started all the same, for what is `forced`.
        verb = ("start", "reboot.target") if forced else ("reboot",)
        try:
            ended = await self._runner.run(
                ["systemctl", "--no-block", *verb], timeout=_REBOOT_TIMEOUT
            )
        except ProgramMissingError as error:
            raise HostError(Kind.REBOOT_FAILED, f"cannot reboot: {error}") from error
        if ended.returncode != 0:
            why = f"systemctl {verb[0]} failed: {ended.last_line}"
            raise HostError(Kind.REBOOT_FAILED, why)

    def _resolve(self, link: Path | None) -> StorePath | None:
        if link is None:
            return None
        try:
            path = os.path.realpath(link, strict=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(
                Kind.HOST_UNREADABLE, f"cannot read the link {link}: {error.strerror}"
            ) from error
        return parse_store_path(path, str(self._store_dir))


def _unit_files(directory: Path) -> dict[str, tuple[str, ...]]:
    """Return the texts of which each unit of a system is made: its file's and its drop-ins'."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for entry in sorted(directory.iterdir()):
            if entry.suffix in (".wants", ".requires", ".upholds"):
                continue
            unit = entry.name.removesuffix(".d")
            files = sorted(entry.iterdir()) if entry.is_dir() else [entry]
            found.setdefault(unit, []).extend(_text(file) or "" for file in files)
    return {unit: tuple(content) for unit, content in found.items()}


def _text(file: Path) -> str | None:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_MAX_FILE).strip() or None
    except OSError:
        return None
