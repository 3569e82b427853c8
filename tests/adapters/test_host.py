from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.host_root import Root
from agent.domain.errors import HostError, Kind
from agent.domain.facts import FreeSpace
from agent.domain.systems import BootArtifacts, Systems
from fakes.host import FakeHost, FakeSystem


def unbooted(systems):
    """The systems without the boot in which they were seen."""
    return replace(systems, boot_id="")


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path.resolve())


# What every host answers.


class RealStage:
    """Sets up a real host with two systems, the second with two specialisations."""

    def __init__(self, root):
        artifacts = dict.fromkeys(("kernel", "initrd", "kernel-modules"), "x")
        self.special = root.add("s", artifacts=artifacts)
        self.other_special = root.add("v", artifacts=artifacts)
        self.first = root.add(
            "a",
            specialisations={"debug": self.special},
            units={"same.service": "[Unit]", "old.service": "[Unit]", "other.service": "1"},
        )
        self.second = root.add(
            "b",
            hostname="web-1\n",
            units={"same.service": "[Unit]", "new.service": "[Unit]", "other.service": "2"},
            specialisations={"debug": self.other_special, "lean": root.name("m")},
        )
        self.missing = root.name("d")
        root.inhibitors("a", '{"dbus": "dbus", "x": "1"}')
        root.inhibitors("b", "not JSON")
        self.host = root.host
        self._root = root
        root.generation(1, self.first)
        root.generation(2, self.second)

    def boot(self, path):
        self._root.booted.symlink_to(path)


class FakeStage:
    """Sets up the same with a fake host."""

    def __init__(self, root):
        self.first, self.second, self.special, self.other_special, self.missing = (
            root.name(letter) for letter in "absvd"
        )
        self.host = FakeHost()
        self.host.generations = {1: self.first}
        self.host.profile = self.second
        self.host.contents = {
            self.first: FakeSystem(
                artifacts=None,
                specialisations={"debug": self.special},
                units={"same.service": "[Unit]", "old.service": "[Unit]", "other.service": "1"},
                inhibitors={"dbus": '"dbus"', "x": '"1"'},
            ),
            self.second: FakeSystem(
                artifacts=None,
                hostname="web-1",
                specialisations={"debug": self.other_special},
                units={"same.service": "[Unit]", "new.service": "[Unit]", "other.service": "2"},
            ),
            self.special: FakeSystem(),
            self.other_special: FakeSystem(),
        }
        self.host.contents[self.second].inhibitors = {"dbus": '"broker"'}
        self.host.illegible = {self.second}

    def boot(self, path):
        self.host.booted = path


@pytest.fixture(params=[RealStage, FakeStage])
def stage(request, root):
    return request.param(root)


def test_a_missing_link_is_an_unknown_system(stage):
    assert unbooted(stage.host.systems()) == Systems(None, None, stage.second, is_container=False)


def test_switch_inhibitors_are_pairs_and_unknown_where_there_are_none_to_read(stage):
    assert stage.host.switch_inhibitors(stage.first) == {"dbus": '"dbus"', "x": '"1"'}
    for toplevel in (stage.second, stage.special, stage.missing):
        assert stage.host.switch_inhibitors(toplevel) is None


def test_the_counterpart_of_a_booted_specialisation_has_its_name(stage):
    stage.boot(stage.special)
    assert stage.host.counterpart(stage.second) == stage.other_special
    assert stage.host.counterpart(stage.missing) == stage.missing


def test_without_a_booted_specialisation_a_system_is_its_own_counterpart(stage):
    assert stage.host.counterpart(stage.second) == stage.second
    stage.boot(stage.first)
    assert stage.host.counterpart(stage.second) == stage.second


def test_specialisations_have_names_as_far_as_they_are_in_the_store(stage):
    assert stage.host.specialisations(stage.first) == {"debug": stage.special}
    assert stage.host.specialisations(stage.second) == {"debug": stage.other_special}
    assert stage.host.specialisations(stage.special) == {}
    assert stage.host.specialisations(stage.missing) == {}


def test_a_specialisation_s_name_is_that_of_a_generation(stage):
    assert stage.host.specialisation_name(stage.special) == "debug"
    assert stage.host.specialisation_name(stage.first) is None
    assert stage.host.specialisation_name(stage.missing) is None


def test_a_system_and_its_specialisations_are_equivalent(stage):
    assert stage.host.equivalents(stage.second) == {stage.second, stage.other_special}
    assert stage.host.equivalents(stage.special) == {stage.special}
    assert stage.host.equivalents(stage.missing) == {stage.missing}


def test_a_system_tells_the_host_name_it_would_set(stage):
    assert stage.host.hostname_of(stage.second) == "web-1"
    assert stage.host.hostname_of(stage.first) is None
    assert stage.host.hostname_of(stage.missing) is None


def test_only_a_system_with_a_kernel_has_boot_artifacts(stage):
    assert stage.host.boot_artifacts(stage.special) is not None
    assert stage.host.boot_artifacts(stage.first) is None
    assert stage.host.boot_artifacts(stage.missing) is None


def test_a_switch_touches_the_units_that_are_new_or_differ(stage):
    host = stage.host
    assert host.touched_units(stage.first, stage.second) == {"new.service", "other.service"}
    assert host.touched_units(stage.second, stage.first) == {"old.service", "other.service"}
    assert host.touched_units(stage.first, stage.first) == frozenset()
    assert host.touched_units(stage.first, stage.missing) == frozenset()
    assert host.touched_units(stage.missing, stage.second) == {
        *("same.service", "new.service", "other.service")
    }


def test_a_system_has_the_units_of_its_own(stage):
    assert stage.host.has_unit(stage.second, "new.service")
    assert not stage.host.has_unit(stage.first, "new.service")
    assert not stage.host.has_unit(stage.missing, "new.service")


def test_only_what_is_in_the_store_exists(stage):
    assert stage.host.exists(stage.second)
    assert not stage.host.exists(stage.missing)


# What the files say.


def test_the_three_links_are_three_systems(root):
    root.current.symlink_to(root.add("a"))
    root.booted.symlink_to(root.add("b"))
    root.generation(7, root.add("c"))
    assert unbooted(root.host.systems()) == Systems(root.name("a"), root.name("b"), root.name("c"))


@pytest.mark.parametrize("name", ["current", "booted", "profile"])
def test_a_link_that_points_nowhere_or_out_of_the_store_names_no_system(root, name):
    link = getattr(root, name)
    link.symlink_to(root.name("a"))
    assert unbooted(root.host.systems()) == Systems(None, None, None)
    link.unlink()
    link.symlink_to(root.path)
    assert unbooted(root.host.systems()) == Systems(None, None, None)
    link.unlink()
    inside = Path(root.add("b"), "sw")
    inside.mkdir()
    link.symlink_to(inside)
    assert unbooted(root.host.systems()) == Systems(None, None, None)


@pytest.mark.parametrize("name", ["current", "booted", "profile"])
def test_a_link_in_a_circle_is_told(root, name):
    link = getattr(root, name)
    link.symlink_to(link.name)
    with pytest.raises(HostError, match=f"{link}: Too many") as caught:
        root.host.systems()
    assert caught.value.kind is Kind.HOST_UNREADABLE


def test_a_file_where_a_directory_belongs_is_told(root):
    root.run.rmdir()
    root.run.write_text("")
    with pytest.raises(HostError, match="Not a directory"):
        root.host.systems()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_a_directory_that_may_not_be_entered_is_told(root):
    root.run.chmod(0)
    try:
        with pytest.raises(HostError, match="denied"):
            root.host.systems()
    finally:
        root.run.chmod(0o700)


def test_a_container_is_known_by_systemds_file(root):
    (root.run / "systemd").mkdir()
    (root.run / "systemd" / "container").write_text("lxc\n")
    assert root.host.systems().is_container


@pytest.mark.parametrize(
    ("content", "platform"),
    [(b"x86_64-linux", "x86_64-linux"), (b"aarch64-linux\n", "aarch64-linux"), (b"\n", None)],
)
def test_the_running_system_tells_its_platform(root, content, platform):
    assert root.host.platform() is None
    root.current.symlink_to(root.add("a"))
    assert root.host.platform() is None
    (root.current / "system").write_bytes(content)
    assert root.host.platform() == platform


def test_boot_artifacts_are_where_the_links_lead(root):
    kernel = root.store / "kernel-file"
    kernel.write_text("")
    system = Path(root.add("a", artifacts={"initrd": "", "kernel-params": " quiet debug\n"}))
    (system / "kernel").symlink_to(kernel)
    (system / "kernel-modules").symlink_to(root.store / "collected")
    assert root.host.boot_artifacts(str(system)) == BootArtifacts(
        str(kernel), str(system / "initrd"), "", "quiet debug"
    )


def test_a_kernel_that_is_not_there_leaves_nothing_to_compare(root):
    system = Path(root.add("a", artifacts={"initrd": ""}))
    (system / "kernel").symlink_to("gone")
    assert root.host.boot_artifacts(str(system)) is None
    (system / "kernel").unlink()
    (system / "kernel").symlink_to("kernel")
    assert root.host.boot_artifacts(str(system)) is None


def test_a_dangling_specialisation_is_not_taken_for_an_unknown_booted_system(root):
    other = root.add("s")
    root.generation(1, root.add("a", specialisations={"debug": root.name("m")}))
    second = root.add("b", specialisations={"debug": other})
    assert root.host.counterpart(second) == second


def test_the_counterpart_is_found_in_any_generation(root):
    special = root.add("s")
    root.generation(1, root.add("a", specialisations={"debug": special}))
    root.generation(2, root.add("b"))
    root.booted.symlink_to(special)
    newest = root.add("c", specialisations={"lean": root.add("v")})
    assert root.host.counterpart(newest) == newest


def test_binary_garbage_in_a_text_file_is_no_crash(root):
    Path(root.add("a", hostname="")).joinpath("etc", "hostname").write_bytes(b"\xff" * 100_000)
    assert root.host.hostname_of(root.name("a")) == "\ufffd" * 65536


def test_free_space_is_that_of_store_and_boot(root):
    free = root.host.free_space()
    assert free == FreeSpace(store=free.store, boot=None)
    assert 0 < free.store <= shutil.disk_usage(root.store).total
    root.boot.mkdir()
    assert root.host.free_space().boot > 0


def test_a_missing_store_is_told(root):
    root.store.rmdir()
    with pytest.raises(HostError, match=str(root.store)) as caught:
        root.host.free_space()
    assert caught.value.kind is Kind.HOST_UNREADABLE


def reboot(tmp_path, monkeypatch, script):
    """Ask for a reboot with a stub systemctl, and return the host's words."""
    programs = tmp_path / "bin"
    programs.mkdir()
    if script is not None:
        stub = programs / "systemctl"
        stub.write_text(f"#!/bin/sh\n{script}\n")
        stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/nonexistent")
    asyncio.run(Root(tmp_path).host.reboot())


def test_a_reboot_is_asked_of_systemd_and_not_waited_for(tmp_path, monkeypatch):
    reboot(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/asked')
    assert (tmp_path / "asked").read_text() == "--no-block reboot\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo a >&2; echo 'Access denied' >&2; exit 1", "Access denied$"),
        ("exit 4", "exit code 4$"),
        ("echo >&2; exit 5", "exit code 5$"),
        (None, "cannot run systemctl: No such file"),
    ],
)
def test_a_reboot_that_cannot_be_had_is_told(tmp_path, monkeypatch, script, why):
    with pytest.raises(HostError, match=why) as caught:
        reboot(tmp_path, monkeypatch, script)
    assert caught.value.kind is Kind.REBOOT_FAILED


def test_a_host_without_a_store_is_told_before_nix_could_make_one(root):
    root.store.rmdir()
    with pytest.raises(HostError) as caught:
        root.host.systems()
    assert caught.value.kind is Kind.HOST_WITHOUT_STORE
    assert str(root.store) in caught.value.message


def test_each_boot_has_an_id_of_its_own(root):
    root.add("b")
    root.booted.symlink_to(root.name("b"))
    before = root.host.systems().boot_id
    assert root.host.systems().boot_id == before
    root.booted.unlink()
    root.booted.symlink_to(root.name("b"))
    assert root.host.systems().boot_id != before
