"""The boot loader: what its files say, and what its commands are told."""

from __future__ import annotations

import asyncio
import os

import pytest

from agent.adapters.boot.loader import BootLoader
from agent.adapters.process import Runner
from fakes.events import RememberedEvents, SteppedClock
from fakes.loader import FakeLoader

STORE = "/nix/store"
NO_LOADER = BootLoader(Runner(RememberedEvents(), SteppedClock()), boot=None, store_dir=STORE)


def name(letter):
    return f"{STORE}/{letter * 32}-nixos"


class Machine:
    """A boot partition, and the loader's commands, which note how they were called."""

    def __init__(self, path):
        self.boot = path / "boot"
        self.programs = path / "bin"
        self.calls = path / "calls"
        self.programs.mkdir()
        self.boot.mkdir()

    def has(self, program, exit_code=0):
        file = self.programs / program
        file.write_text(f'#!/bin/sh\necho "{program} $*" >> {self.calls}\nexit {exit_code}\n')
        file.chmod(0o755)

    def called(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    @property
    def loader(self):
        env = {"PATH": f"{self.programs}:/usr/bin:/bin"}
        runner = Runner(RememberedEvents(), SteppedClock(), env)
        return BootLoader(runner, boot=self.boot, store_dir=STORE)

    def entry(self, entry, options):
        file = self.boot / "loader/entries" / f"{entry}.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"title NixOS\nlinux /EFI/nixos/kernel.efi\n{options}\n")

    def default(self, line):
        file = self.boot / "loader/loader.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"timeout 5\n{line}\nconsole-mode keep\n")

    def grub(self, text):
        file = self.boot / "grub/grub.cfg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# What everybody may rely on of a loader


class Real:
    """systemd-boot, whose default is system `b`, with an entry of the specialisation `s` of it."""

    def __init__(self, path):
        self.machine = Machine(path)
        special(self.machine)
        self.loader = self.machine.loader

    def is_silent(self):
        self.machine.default("default nixos-*.conf")


class Fake:
    """The same in memory."""

    def __init__(self, _path):
        self.loader = FakeLoader()
        self.loader.installed = name("b")
        self.loader.entries = {name("s")}
        self.loader.without_entry = {name("x")}

    def is_silent(self):
        self.loader.is_silent = True


@pytest.fixture(params=[Real, Fake])
def either(request, tmp_path):
    return request.param(tmp_path)


def test_a_default_can_be_gone_back_to_and_a_specialisation_with_an_entry_be_made_it(either):
    assert either.loader.default() == name("b")
    assert either.loader.fallback() == either.loader.fallback(name("b")) == "systemd-boot"
    assert asyncio.run(either.loader.make_default(name("s")))
    assert either.loader.default() == name("s")


def test_what_has_no_entry_is_neither_made_the_default_nor_gone_back_to(either):
    assert not asyncio.run(either.loader.make_default(name("x")))
    assert either.loader.fallback(name("x")) is None
    assert either.loader.default() == name("b")


def test_an_unknown_default_is_nothing_to_go_back_to(either):
    either.is_silent()
    assert either.loader.default() is None
    assert either.loader.fallback() is None
    assert either.loader.fallback(name("b")) is None


# systemd-boot


def special(machine, lines="default nixos-generation-7.conf"):
    machine.has("bootctl")
    machine.default(lines)
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    machine.entry("nixos-generation-7-specialisation-quiet", f"options init={name('s')}/init")


@pytest.mark.parametrize(
    "lines",
    [
        "default nixos-generation-7.conf",
        "default nixos-generation-6\ndefault nixos-generation-7",
        "preferred nixos-generation-7.conf\ndefault nixos-*",
    ],
)
def test_a_specialisation_is_made_the_default_and_choices_are_forgotten(machine, lines):
    special(machine, lines)
    assert machine.loader.can_be_default(name("s"))
    assert asyncio.run(machine.loader.make_default(name("s")))
    assert machine.loader.default() == name("s")
    assert machine.called() == ["bootctl set-default "]
    text = (machine.boot / "loader/loader.conf").read_text()
    assert text.startswith("timeout 5\n")
    assert text.endswith("console-mode keep\n")
    assert ("default nixos-*" in text) == ("nixos-*" in lines)


@pytest.mark.parametrize("lines", ["", "editor 0"])
def test_what_has_no_entry_or_no_default_beside_it_is_not_made_one(machine, lines):
    special(machine)
    assert not machine.loader.can_be_default(name("x"))
    assert not asyncio.run(machine.loader.make_default(name("x")))
    assert machine.loader.default() == name("b")
    machine.default(lines)
    assert not asyncio.run(machine.loader.make_default(name("s")))
    assert machine.called() == []


def test_a_default_that_cannot_be_written_stays(machine):
    special(machine)
    (machine.boot / "loader/.loader.conf.new").mkdir()
    assert not asyncio.run(machine.loader.make_default(name("s")))
    assert machine.loader.default() == name("b")


def test_grub_and_no_loader_make_no_specialisation_the_default(machine):
    for loader in (machine.loader, NO_LOADER):
        assert not loader.can_be_default(name("s"))
        assert not asyncio.run(loader.make_default(name("s")))


@pytest.mark.parametrize("line", ["default nixos-generation-7.conf", "default  nixos-generation-7"])
def test_systemd_boots_default_is_the_system_of_its_entry(machine, line):
    machine.default(line)
    machine.entry("nixos-generation-6", f"options init={name('a')}/init quiet")
    machine.entry("nixos-generation-7", f"options quiet init={name('b')}/init loglevel=4")
    assert machine.loader.default() == name("b")


@pytest.mark.parametrize("counter", ["+3", "+0-3", "+12-1"])
def test_an_entry_whose_tries_are_counted_is_the_same_entry(machine, counter):
    machine.has("bootctl")
    machine.default("default nixos-generation-7.conf")
    machine.entry(f"nixos-generation-7{counter}", f"options init={name('b')}/init")
    assert machine.loader.default() == name("b")
    assert asyncio.run(machine.loader.boot_once(name("b")))
    assert machine.called()[-1] == "bootctl set-oneshot nixos-generation-7.conf"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "#default nixos-generation-7.conf",
        "default @saved",
        "default nixos-generation-8.conf",
        "default nixos-*",
        "default ../../etc/passwd",
    ],
)
def test_a_default_that_names_no_entry_is_unknown(machine, line):
    machine.default(line)
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    assert machine.loader.default() is None


@pytest.mark.parametrize(
    "options", ["", "options quiet", "options init=/bin/sh", "options init=/elsewhere/a-b/init"]
)
def test_an_entry_that_starts_no_system_of_the_store_is_unknown(machine, options):
    machine.default("default nixos-generation-7.conf")
    machine.entry("nixos-generation-7", options)
    assert machine.loader.default() is None


def test_the_newest_of_a_systems_generations_is_started_once(machine):
    machine.has("bootctl")
    machine.default("default nixos-generation-8.conf")
    for number, letter in ((8, "a"), (9, "b"), (10, "b"), (11, "a")):
        machine.entry(f"nixos-generation-{number}", f"options init={name(letter)}/init")
    assert machine.loader.fallback() == "systemd-boot"
    assert asyncio.run(machine.loader.boot_once(name("b")))
    assert machine.called() == [
        "bootctl set-default ",
        "bootctl set-oneshot nixos-generation-10.conf",
    ]


def test_a_system_without_an_entry_cannot_be_started_once(machine):
    machine.has("bootctl")
    machine.default("default nixos-generation-7.conf")
    machine.entry("nixos-generation-7", f"options init={name('a')}/init")
    assert not asyncio.run(machine.loader.boot_once(name("b")))
    assert machine.called() == []


def test_a_bootctl_that_fails_has_not_done_it(machine):
    machine.has("bootctl", exit_code=1)
    machine.default("default nixos-generation-7.conf")
    machine.entry("nixos-generation-7", f"options init={name('a')}/init")
    assert not asyncio.run(machine.loader.boot_once(name("a")))


def test_a_choice_in_the_menu_is_forgotten(machine):
    machine.has("bootctl")
    machine.default("default nixos-generation-7.conf")
    asyncio.run(machine.loader.forget_choices())
    assert machine.called() == ["bootctl set-default "]


@pytest.mark.parametrize("counter", ["+3", "+2-1", ""])
def test_a_good_boot_is_told_where_tries_are_counted(machine, counter):
    machine.has("systemctl")
    machine.default("default nixos-generation-7.conf")
    machine.entry(f"nixos-generation-7{counter}", f"options init={name('a')}/init")
    asyncio.run(machine.loader.bless())
    told = ["systemctl --no-block start systemd-bless-boot.service"] if counter else []
    assert machine.called() == told


# systemd-boot where tries are counted, and where entries are named by what is in them, as the
# installer of nixpkgs writes them for systemd-boot 260

HASHED = f"nixos-{'0a' * 32}"


@pytest.mark.parametrize("counter", ["", "+3", "+2-1"])
def test_the_preferred_entry_is_the_default(machine, counter):
    machine.has("bootctl")
    machine.default(f"preferred {HASHED}.conf\ndefault nixos-*")
    machine.entry(f"nixos-{'0b' * 32}", f"options init={name('a')}/init")
    machine.entry(f"{HASHED}{counter}", f"options init={name('b')}/init")
    assert machine.loader.default() == name("b")
    assert asyncio.run(machine.loader.boot_once(name("b")))
    assert machine.called()[-1] == f"bootctl set-oneshot {HASHED}.conf"


@pytest.mark.parametrize("counter", ["+0", "+0-3"])
def test_a_preferred_entry_whose_tries_are_used_up_is_not_the_default(machine, counter):
    machine.default(f"preferred {HASHED}.conf\ndefault nixos-*")
    machine.entry(f"{HASHED}{counter}", f"options init={name('b')}/init")
    assert machine.loader.default() is None


# What is promised


def test_a_way_back_is_to_what_has_an_entry(machine):
    machine.has("bootctl")
    machine.default("default nixos-generation-7.conf")
    machine.entry("nixos-generation-6", f"options init={name('a')}/init")
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    machine.entry("nixos-generation-7-specialisation-debug", f"options init={name('d')}/init")
    for letter in ("a", "b", "d"):
        assert machine.loader.fallback(name(letter)) == "systemd-boot"
    assert machine.loader.fallback(name("c")) is None
    assert machine.loader.fallback() == "systemd-boot"


@pytest.mark.parametrize(
    "line", ["default nixos-*", "default @saved", "", "default nixos-generation-8.conf"]
)
def test_there_is_no_way_back_where_the_default_cannot_be_kept(machine, line):
    machine.has("bootctl")
    machine.default(line)
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    assert machine.loader.fallback(name("b")) is None
    assert machine.loader.fallback() is None


def test_unified_kernel_images_are_no_way_back(machine):
    """lanzaboote writes `default nixos-*`, and no entry but EFI/Linux/nixos-generation-N-HASH.efi."""
    machine.has("bootctl")
    for line in ("default nixos-*", "default nixos-generation-7-abc.efi"):
        machine.default(line)
        image = machine.boot / "EFI/Linux/nixos-generation-7-abc.efi"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_text(f"MZ options init={name('b')}/init")
        assert machine.loader.fallback(name("b")) is None
        assert machine.loader.default() is None
        assert not asyncio.run(machine.loader.boot_once(name("b")))
    assert machine.called() == []


def test_entries_left_behind_by_an_earlier_loader_promise_nothing(machine):
    """Those of systemd-boot, of before lanzaboote came, do not name what runs now."""
    machine.has("bootctl")
    machine.default("default nixos-*")
    machine.entry("nixos-generation-6", f"options init={name('a')}/init")
    assert machine.loader.fallback(name("b")) is None


def test_files_of_two_loaders_promise_nothing(machine):
    machine.has("bootctl")
    machine.has("grub-reboot")
    machine.default("default nixos-generation-7.conf")
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    machine.grub(GRUB)
    assert machine.loader.fallback(name("b")) is None
    assert machine.loader.default() is None


def test_a_partition_that_cannot_be_read_promises_nothing(machine):
    machine.has("bootctl")
    (machine.boot / "loader").mkdir()
    (machine.boot / "loader/loader.conf").symlink_to("loader.conf")
    assert machine.loader.fallback(name("b")) is None
    (machine.boot / "loader/loader.conf").unlink()
    machine.default("default nixos-generation-7.conf")
    (machine.boot / "loader/entries").write_text("no directory")
    assert machine.loader.fallback(name("b")) is None
    (machine.boot / "grub").write_text("no directory")
    assert machine.loader.default() is None
    asyncio.run(machine.loader.bless())
    assert machine.called() == []
    machine.boot /= "x" * 300  # what the kernel will not even look for
    assert machine.loader.fallback() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_a_partition_that_is_roots_alone_promises_an_ordinary_user_nothing(machine):
    machine.has("bootctl")
    machine.default("default nixos-generation-7.conf")
    machine.boot.chmod(0)
    assert machine.loader.fallback() is None
    machine.boot.chmod(0o755)


@pytest.mark.parametrize(
    ("lines", "system"),
    [
        ("default nixos-generation-6.conf\ndefault nixos-generation-7.conf", "b"),
        ("  default\tnixos-generation-6.conf", "a"),
        ("default\nnixos-generation-6.conf", None),
    ],
)
def test_the_last_line_of_a_key_counts(machine, lines, system):
    machine.default(lines)
    machine.entry("nixos-generation-6", f"options init={name('a')}/init")
    machine.entry("nixos-generation-7", f"options init={name('b')}/init")
    assert machine.loader.default() == (system and name(system))


# GRUB, whose file has the default first and the generations in a submenu

GRUB = f"""
set default=0
menuentry "NixOS" --class nixos --unrestricted {{
search --set=drive1 --fs-uuid 1234
  linux ($drive1)//kernels/linux.efi init={name("b")}/init quiet
  initrd ($drive1)//kernels/initrd
}}
menuentry "Memtest" {{
  linux16 /memtest
}}
submenu "NixOS - All configurations" --class submenu {{
menuentry 'NixOS - Configuration 12 (2026-11-21 - 26.05)' --class nixos {{
  linux ($drive1)//kernels/linux.efi init={name("b")}/init quiet
}}
menuentry "NixOS - Configuration 11 (2026-11-20 - 26.05)" --class nixos {{
  linux ($drive1)//kernels/linux.efi init={name("a")}/init quiet
}}
}}
"""


def test_grubs_default_is_its_first_entry(machine):
    machine.grub(GRUB)
    assert machine.loader.default() == name("b")


@pytest.mark.parametrize(
    ("lines", "system"),
    [
        ("set default=0", "b"),
        ('  set default="0"', "b"),
        ("", "b"),
        ('set default="${next_entry}"\nset default=0', "b"),
        ('set default="${saved_entry}"\nset default=0', "b"),
        ('set default="${next_entry}"\nset default="${saved_entry}"', None),
        ("set default=1", None),
        ("set default=2", None),
        ("set default=7", None),
        ("set default=99999", None),
        ("set default=1>0", None),
        ("set default=Memtest", None),
        ("set default=", None),
    ],
)
def test_grubs_default_is_the_one_that_its_file_names(machine, lines, system):
    machine.has("grub-reboot")
    machine.grub(GRUB.replace("set default=0", lines))
    assert machine.loader.default() == (system and name(system))
    assert machine.loader.fallback(name("a")) == ("grub" if system else None)


def test_grubs_entries_before_nixos_are_counted(machine):
    machine.has("grub-reboot")
    windows = 'menuentry "Windows" {\n  chainloader /w.efi\n}\n'
    for place, system in ((0, None), (1, "b")):
        machine.grub(GRUB.replace("set default=0", f"set default={place}\n{windows}"))
        assert machine.loader.default() == (system and name(system))


@pytest.mark.parametrize("text", ["", "set default=0\n", "menuentry 'Memtest' {\n}\n"])
def test_a_grub_without_entries_has_no_way_back(machine, text):
    machine.has("grub-reboot")
    machine.grub(text)
    assert machine.loader.default() is None
    assert machine.loader.fallback(name("a")) is None
    assert machine.loader.fallback() is None


def test_grub_has_no_way_back_to_what_is_in_no_submenu(machine):
    machine.has("grub-reboot")
    machine.grub(GRUB)
    assert machine.loader.fallback(name("c")) is None


def test_grub_starts_a_generation_once_by_its_place_in_the_menu(machine):
    machine.has("grub-reboot")
    machine.grub(GRUB)
    assert machine.loader.fallback() == "grub"
    assert asyncio.run(machine.loader.boot_once(name("a")))
    place = "NixOS - All configurations>NixOS - Configuration 11 (2026-11-20 - 26.05)"
    assert machine.called() == [f"grub-reboot --boot-directory={machine.boot} {place}"]
    assert not asyncio.run(machine.loader.boot_once(name("c")))


def test_grub_keeps_no_choice(machine):
    machine.has("bootctl")
    machine.grub(GRUB)
    asyncio.run(machine.loader.forget_choices())
    asyncio.run(machine.loader.bless())
    assert machine.called() == []


# Others


def test_a_host_without_a_loader_has_no_way_back(machine):
    machine.has("bootctl")
    assert machine.loader.fallback() is None
    assert machine.loader.default() is None
    assert not asyncio.run(machine.loader.boot_once(name("a")))
    asyncio.run(machine.loader.forget_choices())
    assert machine.called() == []


def test_a_loader_whose_command_is_missing_has_no_way_back(machine):
    machine.grub(GRUB)
    assert machine.loader.fallback() is None
    assert not asyncio.run(machine.loader.boot_once(name("a")))


def test_what_was_to_be_started_once_is_taken_back(machine):
    machine.has("bootctl")
    asyncio.run(machine.loader.forget_once())
    assert machine.called() == []
    special(machine)
    asyncio.run(machine.loader.boot_once(name("b")))
    asyncio.run(machine.loader.forget_once())
    assert machine.called()[-1] == "bootctl set-oneshot "


def test_what_grub_was_to_start_once_is_taken_back(machine):
    machine.has("grub-editenv")
    machine.grub('set default="0"\n')
    asyncio.run(machine.loader.forget_once())
    block = machine.boot / "grub/grubenv"
    assert machine.called() == [f"grub-editenv {block} unset next_entry"]


def test_without_a_loader_nothing_is_taken_back():
    asyncio.run(NO_LOADER.forget_once())
