"""A home on a throw-away host: real nix, and activation packages of home-manager's own shape."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING

import pytest

from agent.adapters.home.files import HomeFiles
from agent.adapters.home.home_manager import HomeManagerCommand
from agent.adapters.home.user_marks import UserMarks
from agent.adapters.home.user_systemd import UserSystemd
from agent.adapters.nix.commands import NixCommand, nix_options
from agent.adapters.nix.profile import SystemProfile
from agent.adapters.process import Runner, run_now
from agent.demo.host import Farm, ThrowawayHost, remove_tree
from agent.domain.errors import HostError, Kind, NixError
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.marks import Mark
from agent.domain.origin import UrlPrefix
from agent.domain.policy import Action
from agent.domain.target import HOME_MANAGER
from fakes.events import RememberedEvents, SteppedClock
from fakes.nix import RememberedProgress

if TYPE_CHECKING:
    from pathlib import Path

EVE = "eve@web-1"
UNIT = "[Service]\nExecStart=/bin/true\n"


class Homes:
    """What a farm has built of one user's home; `user` is whoever runs the tests."""

    def __init__(self, root: Path) -> None:
        user = getpass.getuser()
        first = {"version": "1", "user": user, "files": {".a": "1", ".b": "1"}}
        second = {
            **first,
            "version": "2",
            "files": {".a": "2", ".c": "2"},
            "units": {"x.service": UNIT},
        }
        parameters = {
            "first": first,
            EVE: second,
            "half": {**second, "version": "3", "breaksOffAfter": "linkGeneration"},
            "refused": {**second, "version": "4", "breaksOffAfter": "checkLinkTargets"},
            "old": {**second, "version": "5", "isOld": True},
            "bobs": {**second, "version": "6", "user": "bob"},
            "unpublished": {**second, "version": "7"},
        }
        self.farm = farm = Farm(root)
        self.revision = farm.commit({}, homes=parameters)
        self.paths = {name: farm.build(self.revision, name, HOME_MANAGER) for name in parameters}
        farm.publish(*(path for name, path in self.paths.items() if name != "unpublished"))
        self.flake = parse_locked_flake_reference(farm.reference(self.revision))
        farm.close()


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    root = tmp_path_factory.mktemp("homes")
    yield Homes(root)
    remove_tree(root)


class Desk:
    """The user's adapters; `current` is home-manager's link."""

    def __init__(self, homes: Homes) -> None:
        layout = homes.farm.layout
        host = ThrowawayHost(
            layout, substituters=(f"file://{layout.cache}",), trusted_keys=(homes.farm.public_key,)
        )
        layout.forget()
        remove_tree(layout.root / "home")
        self.home = layout.root / "home"
        state = self.home / ".local/state"
        (state / "nix/profiles").mkdir(parents=True)
        self.current = state / "home-manager/gcroots/current-home"
        self.profile = state / "nix/profiles/home-manager"
        self.left = None
        self.sink = RememberedEvents()
        environment = {
            **host.environment(),
            "USER": getpass.getuser(),
            "XDG_STATE_HOME": str(state),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        runner = Runner(self.sink, SteppedClock(), environment)
        store_dir = layout.store_dir
        self.files = HomeFiles(
            runner, current_home=self.current, profile=self.profile, store_dir=store_dir
        )
        self.systemd = UserSystemd(
            runner,
            dead_man=("agent", "dead-man"),
            activate_deadline=60.0,
            run_dir=layout.root / "nowhere",
            current_home=self.current,
            left=lambda: self.left,
        )
        self.runner = runner
        self.marks = UserMarks(state / "marks", store_dir, runner.environment)
        self.profiles = SystemProfile(runner, self.profile, store_dir)
        self.home_manager = HomeManagerCommand(
            runner,
            profile=self.profiles,
            systemd=self.systemd,
            settings=nix_options((), (), local_builds=False),
            build_deadline=60.0,
            store_dir=str(store_dir),
            allow_insecure=(UrlPrefix(homes.farm.origin),),
        )
        self.nix = NixCommand(
            runner,
            store_dir=str(store_dir),
            gc_root=state / "candidate",
            substituters=(),
            trusted_public_keys=(),
            local_builds=False,
            flags=(),
            deadline=60.0,
            target=HOME_MANAGER,
            allow_insecure=(UrlPrefix(homes.farm.origin),),
        )
        self.homes = homes

    def fetch(self, *names):
        for name in names:
            asyncio.run(self.nix.substitute(self.homes.paths[name], RememberedProgress()))

    def switch(self, name):
        """Fetch a home, and activate it by its path."""
        self.fetch(name)
        path = self.homes.paths[name]
        return asyncio.run(self.home_manager.activate_store_path(Action.SWITCH, path))

    def links(self):
        return {f.name: f.read_text() for f in self.home.glob(".?") if f.is_symlink()}

    def where(self):
        systems = self.files.systems()
        names = {path: name for name, path in self.homes.paths.items()}
        assert systems.booted is None
        return names.get(systems.running), names.get(systems.profile)


@pytest.fixture
def desk(homes):
    desk = Desk(homes)
    assert desk.switch("first").returncode == 0
    assert desk.where() == ("first", "first")
    return desk


def test_a_home_is_evaluated_and_built_by_the_attribute_of_home_manager(desk, homes):
    assert asyncio.run(desk.nix.evaluate_toplevel(homes.flake, EVE)) == homes.paths[EVE]
    assert asyncio.run(desk.home_manager.build(homes.flake, EVE)) == homes.paths[EVE]


def test_what_no_cache_has_is_not_built(desk, homes):
    with pytest.raises(NixError) as caught:
        asyncio.run(desk.home_manager.build(homes.flake, "unpublished"))
    assert caught.value.kind is Kind.BUILD_ERROR


def test_a_switch_moves_the_profile_and_then_the_home(desk, homes):
    exit_ = asyncio.run(desk.home_manager.activate_flake(Action.SWITCH, homes.flake, EVE))
    assert (exit_.returncode, desk.where()) == (0, (EVE, EVE))
    assert desk.links() == {".a": "2", ".c": "2"}


def test_what_breaks_off_half_way_has_begun_and_is_undone_wholly(desk, homes):
    exit_ = desk.switch("half")
    assert (exit_.returncode, desk.where()) == (2, ("first", "half"))
    assert "broken on purpose" in exit_.tail
    assert desk.links() == {".a": "2", ".c": "2"}

    desk.left = homes.paths["half"]
    asyncio.run(desk.profiles.set(homes.paths["first"]))
    back = asyncio.run(desk.systemd.activate(homes.paths["first"], Action.SWITCH))

    assert (back.returncode, desk.where()) == (0, ("first", "first"))
    assert desk.links() == {".a": "1", ".b": "1"}


def test_what_is_refused_has_moved_nothing_but_the_profile(desk, homes):
    assert desk.switch("refused").returncode == 1
    assert desk.where() == ("first", "refused")
    asyncio.run(desk.profiles.set(homes.paths["first"]))
    exit_ = asyncio.run(desk.systemd.activate(homes.paths["first"], Action.BOOT))
    assert (exit_.returncode, desk.where()) == (0, ("first", "first"))
    assert desk.links() == {".a": "1", ".b": "1"}


def test_a_file_in_the_way_is_a_refusal(desk):
    (desk.home / ".c").write_text("mine")
    exit_ = desk.switch(EVE)
    assert exit_.returncode == 1
    assert "would be clobbered" in exit_.tail
    assert (desk.home / ".c").read_text() == "mine"


def test_a_package_of_an_older_release_takes_no_arguments(desk):
    assert desk.switch("old").returncode == 0
    assert desk.where() == ("old", "old")


def test_a_profile_that_cannot_be_set_is_a_refusal(desk, tmp_path):
    desk.profiles._profile = tmp_path / "no" / "where"
    (tmp_path / "no").touch()
    assert desk.switch(EVE).returncode == 1
    assert desk.where() == ("first", "first")


def test_a_package_tells_whose_home_it_is(desk, homes):
    desk.fetch("bobs", EVE)
    assert desk.files.hostname_of(homes.paths["bobs"]) == "bob"
    assert desk.files.hostname_of(homes.paths[EVE]) == getpass.getuser()
    assert desk.files.hostname_of(str(desk.home)) is None
    (desk.home / "activate").write_text("checkUsername 'mallory'\n")
    assert desk.files.hostname_of(str(desk.home)) == "mallory"
    (desk.home / "activate").write_text("true\n")
    assert desk.files.hostname_of(str(desk.home)) is None


def test_the_units_of_a_home_are_those_of_its_users_manager(desk, homes):
    desk.fetch(EVE)
    first, second = homes.paths["first"], homes.paths[EVE]
    assert desk.files.has_unit(second, "x.service")
    assert not desk.files.has_unit(first, "x.service")
    assert desk.files.touched_units(first, second) == {"x.service"}


def test_a_home_has_nothing_to_boot(desk, homes):
    assert desk.files.platform().endswith("-linux")
    assert desk.files.free_space().boot is None
    assert desk.files.booted_at() is None
    assert desk.files.counterpart(homes.paths[EVE]) == homes.paths[EVE]
    with pytest.raises(HostError):
        asyncio.run(desk.files.reboot())


def roots(desk):
    told = run_now(("nix-store", "--gc", "--print-roots"), env=desk.runner.environment)
    return [line.partition(" -> ")[0] for line in told.splitlines()]


def test_marks_are_roots_that_nix_knows_from_their_beginning_and_after_a_rename(desk, homes):
    desk.fetch(EVE)
    pending, confirmed = (str(desk.marks._marks_dir / mark) for mark in ("pending", "confirmed"))
    desk.marks.set(Mark.PENDING, homes.paths[EVE])
    assert pending in roots(desk)
    assert desk.marks.move(Mark.PENDING, homes.paths[EVE], Mark.CONFIRMED)
    assert not desk.marks.move(Mark.PENDING, homes.paths[EVE], Mark.CONFIRMED)
    found = roots(desk)
    assert confirmed in found
    assert pending not in found
    assert desk.marks.read().confirmed == homes.paths[EVE]


def test_a_mark_stands_even_where_nix_does_not_remember_it(desk, homes):
    marks = UserMarks(desk.marks._marks_dir, desk.homes.farm.layout.store_dir, {"PATH": "/nowhere"})
    marks.set(Mark.ROLLING_BACK, homes.paths["first"])
    marks.set(Mark.CONFIRMED, homes.paths["first"])
    assert marks.read().confirmed == homes.paths["first"]


@pytest.mark.parametrize(
    ("script", "deadline", "kind"),
    [
        (None, 60.0, Kind.NIX_MISSING),
        ("exec sleep 60", 0.05, Kind.NIX_TIMEOUT),
        ("echo nonsense", 60.0, Kind.NIX_NONSENSE),
        ("""echo '[{"outputs":{"out":7}}]'""", 60.0, Kind.NIX_NONSENSE),
        ("""echo '[{"outputs":{"out":"/etc"}}]'""", 60.0, Kind.NIX_NONSENSE),
    ],
)
def test_what_nix_cannot_tell_has_a_kind_of_its_own(homes, tmp_path, script, deadline, kind):
    if script:
        (tmp_path / "nix").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nix").chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path)
    home_manager = HomeManagerCommand(
        Runner(RememberedEvents(), SteppedClock(), {"PATH": path}),
        profile=None,
        systemd=None,
        settings=(),
        build_deadline=deadline,
        store_dir="/nix/store",
    )
    with pytest.raises(NixError) as caught:
        asyncio.run(home_manager.build(homes.flake, EVE))
    assert caught.value.kind is kind
