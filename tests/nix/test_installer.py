from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "templates" / "fleet" / "install.sh"
DISK = "/dev/null"
TOPLEVEL = "/nix/store/7q1q6zrm3bqfi5vhymdrlnpd5y0k5xb8-nixos-system-web-1"
# What the programs of an installer image would do and say; each leaves a line of what it was told.
STAND_IN = r"""#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$STATE/done"
case "$name $*" in
"id -u") cat "$STATE/uid" ;;
"lsblk "*TYPE*) cat "$STATE/type" ;;
"lsblk "*MOUNTPOINTS*) cat "$STATE/mounts" ;;
"lsblk "*PARTLABEL*) cat "$STATE/labels" ;;
"lsblk "*PKNAME*) cat "$STATE/parent" ;;
"sfdisk "*)
	cat >"$STATE/table"
	[ -z "$REAL_SFDISK" ] ||
		"$REAL_SFDISK" --quiet --no-reread --no-tell-kernel "$STATE/image" <"$STATE/table"
	;;
"nixos-install "*)
	[ ! -e "$STATE/full" ] || { echo "error: no space left on device" >&2; exit 1; }
	profiles=$STATE/mnt/nix/var/nix/profiles
	mkdir -p "$profiles"
	ln -s "$SYSTEM" "$profiles/system-1-link"
	ln -s system-1-link "$profiles/system"
	;;
esac
"""
PROGRAMS = (
    *("id", "lsblk", "wipefs", "sfdisk", "udevadm", "mkfs.vfat", "mkfs.ext4"),
    *("mount", "umount", "nixos-install"),
)
REAL_SFDISK = shutil.which("sfdisk", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
HARMFUL = {"wipefs", "sfdisk", "mkfs.vfat", "mkfs.ext4", "mount", "nixos-install"}


@dataclass
class Machine:
    """A machine that was started from the image: what its programs see, and what they did."""

    root: Path

    def sees(self, **facts: str) -> None:
        for name, fact in facts.items():
            (self.root / name).write_text(f"{fact}\n")

    def install(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        script = SCRIPT.read_text().replace("/sys/firmware/efi", f"{self.root}/efi")
        # The image's shell: bash, stricter than what the script asks for.
        program = self.root / "install-web-1"
        program.write_text(script.replace("target=/mnt", f"target={self.root}/mnt"))
        variables = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "STATE": str(self.root),
            "SYSTEM": TOPLEVEL,
            "SOURCE": str(self.root / "source"),
            "REAL_SFDISK": REAL_SFDISK or "",
        }
        return subprocess.run(
            ["bash", "-o", "pipefail", program, *arguments],
            env=variables,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def done(self) -> list[str]:
        """Return what was done, a line a program."""
        told = self.root / "done"
        return told.read_text().splitlines() if told.exists() else []


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "efi").mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/flake.nix").write_text("{ }\n")
    (tmp_path / "source/.hidden").write_text("kept\n")
    (tmp_path / "source/script").write_text("#!/bin/sh\n")
    (tmp_path / "source/flake.nix").chmod(0o444)
    (tmp_path / "source/script").chmod(0o555)
    for name in PROGRAMS:
        program = tmp_path / "bin" / name
        program.write_text(STAND_IN)
        program.chmod(0o755)
    with (tmp_path / "image").open("wb") as image:
        image.truncate(8 << 30)
    made.sees(
        uid="0",
        type="disk",
        mounts="",
        labels="/dev/vda1  nixos-boot\n/dev/vda2  nixos-root\n/dev/vdb1  old",
        parent=DISK,
    )
    return made


def test_the_script_has_no_fault_that_a_checker_knows():
    shellcheck = shutil.which("shellcheck")
    argv = [shellcheck, "-s", "sh"] if shellcheck else ["sh", "-n"]
    checked = subprocess.run([*argv, SCRIPT], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.skipif(REAL_SFDISK is None, reason="no sfdisk here")
def test_the_disk_has_a_boot_partition_for_efi_and_all_else_is_the_root(machine):
    machine.install(DISK, "--yes")
    shown = subprocess.run(
        [str(REAL_SFDISK), "--json", machine.root / "image"], capture_output=True, check=True
    )
    table = json.loads(shown.stdout)["partitiontable"]
    assert table["label"] == "gpt"
    boot, root = table["partitions"]
    assert (boot["name"], boot["type"]) == ("nixos-boot", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    assert (root["name"], root["type"]) == ("nixos-root", "0FC63DAF-8483-4772-8E79-3D69D8477DE4")
    assert boot["size"] * 512 == 1 << 30
    assert root["size"] * 512 > 6 << 30


def test_the_system_is_put_on_the_disk_without_network(machine):
    ended = machine.install(DISK, "--yes")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "done: remove the medium and reboot"
    (installed,) = (line for line in machine.done() if line.startswith("nixos-install"))
    assert installed.split()[1:] == [
        *("--root", f"{machine.root}/mnt", "--system", TOPLEVEL),
        *("--no-channel-copy", "--substituters", "--no-root-passwd"),
    ]
    made = [line for line in machine.done() if line.startswith("mkfs")]
    assert made == ["mkfs.vfat -F 32 -n BOOT /dev/vda1", "mkfs.ext4 -q -F -L nixos /dev/vda2"]
    assert machine.done()[-1] == f"umount -R {machine.root}/mnt"


def test_the_host_finds_the_flake_in_its_etc_and_may_change_it(machine):
    machine.install(DISK, "--yes")
    there = machine.root / "mnt/etc/nixos"
    assert (there / ".hidden").read_text() == "kept\n"
    assert (there / "flake.nix").stat().st_mode & 0o700 == 0o600
    assert (there / "script").stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize(
    ("sees", "arguments", "told"),
    [
        ({}, [], "usage: install-web-1 /dev/DISK [--yes]"),
        ({}, ["vda", "--yes"], "usage: install-web-1 /dev/DISK [--yes]"),
        ({"uid": "1000"}, [DISK, "--yes"], "must be run as root"),
        ({"type": "part"}, [DISK, "--yes"], "/dev/null is no disk"),
        ({"mounts": "\n/iso"}, [DISK, "--yes"], "/dev/null is in use"),
        ({"mounts": "[SWAP]"}, [DISK, "--yes"], "/dev/null is in use"),
        ({}, [DISK], "nothing was done"),
        ({"mnt": "not a directory"}, [DISK, "--yes"], "is not empty"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_touched(machine, sees, arguments, told):
    if "mnt" in sees:
        (machine.root / "mnt/home").mkdir(parents=True)
    else:
        machine.sees(**sees)
    ended = machine.install(*arguments, typed="vda\n")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert {line.split()[0] for line in machine.done()} & HARMFUL == set()


def test_a_machine_that_was_not_started_by_efi_is_refused(machine):
    (machine.root / "efi").rmdir()
    ended = machine.install(DISK, "--yes")
    assert "was not started by EFI" in ended.stderr
    assert {line.split()[0] for line in machine.done()} & HARMFUL == set()


def test_who_types_the_name_of_the_disk_means_it(machine):
    assert machine.install(DISK, typed="null\n").returncode == 0
    (installed,) = (line for line in machine.done() if line.startswith("nixos-install"))
    assert "--no-root-passwd" not in installed, "who is there is asked for a password"


@pytest.mark.parametrize(
    ("labels", "parent", "told"),
    [
        ("/dev/vda1  nixos-boot\n/dev/vdb1  nixos-boot", DISK, "remove the other disk"),
        ("/dev/vdb1  nixos-boot", "/dev/vdb", "has not appeared on /dev/null"),
        ("/dev/vdb1  my-nixos-boot", "", "has not appeared on /dev/null"),
    ],
)
def test_nothing_is_formatted_that_is_not_on_the_disk(machine, labels, parent, told):
    machine.sees(labels=labels, parent=parent)
    ended = machine.install(DISK, "--yes")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not any(line.startswith("mkfs") for line in machine.done())


def test_an_installation_that_fails_is_not_called_done(machine):
    machine.sees(full="")
    ended = machine.install(DISK, "--yes")
    assert ended.returncode == 1
    assert "done:" not in ended.stderr
