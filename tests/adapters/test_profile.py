"""The system profile: real nix-env in the store of a throw-away host, beside the fake."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from agent.adapters.nix.profile import SystemProfile
from agent.application import events
from agent.domain.errors import HostError, Kind
from agent.domain.store_path import StorePath
from fakes.host import FakeHost
from fakes.nix import RememberedProgress
from fakes.profile import FakeProfile
from nix_on_host import NixOnHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.ports import Profile


@dataclass
class World:
    profile: Profile
    present: Callable[[], str]
    generations: Callable[[], dict[int, str]]
    first: StorePath
    second: StorePath


def fetched(on: NixOnHost) -> NixOnHost:
    asyncio.run(on.nix().substitute(on.farm.second, RememberedProgress()))
    return on


def profile_on(on: NixOnHost) -> SystemProfile:
    return SystemProfile(on.runner, on.host.paths.profile, on.host.paths.store_dir)


def generations_on(on: NixOnHost) -> dict[int, str]:
    links = on.host.paths.profile.parent.glob("system-*-link")
    return {int(link.name.split("-")[1]): str(link.resolve()) for link in links}


def real_world(request) -> World:
    on = fetched(request.getfixturevalue("nix_on_host"))
    return World(
        profile_on(on),
        lambda: str(on.host.paths.profile.resolve()),
        lambda: generations_on(on),
        on.farm.first,
        on.farm.second,
    )


def fake_world(_request) -> World:
    first, second = (StorePath(f"/nix/store/{letter * 32}-nixos") for letter in "ab")
    host = FakeHost()
    host.profile = first
    return World(
        FakeProfile(host), lambda: host.profile, lambda: dict(host.generations), first, second
    )


@pytest.fixture(params=[real_world, fake_world], ids=["real", "fake"])
def world(request) -> World:
    return request.param(request)


# What everybody may rely on of a profile.


def test_a_system_becomes_the_newest_generation_once(world):
    for _ in range(2):
        asyncio.run(world.profile.set(world.second))

    assert world.present() == world.second
    assert world.generations() == {1: world.first, 2: world.second}


def test_going_back_makes_a_new_generation_and_what_failed_can_be_removed(world):
    asyncio.run(world.profile.set(world.second))
    asyncio.run(world.profile.set(world.first))
    assert world.generations() == {1: world.first, 2: world.second, 3: world.first}

    assert asyncio.run(world.profile.remove_generations(world.second)) == 1

    assert world.present() == world.first
    assert world.generations() == {1: world.first, 3: world.first}
    assert asyncio.run(world.profile.remove_generations(world.second)) == 0


def test_the_present_generation_is_never_removed(world):
    for system in (world.second, world.first):
        asyncio.run(world.profile.set(system))

    assert asyncio.run(world.profile.remove_generations(world.first)) == 1

    assert world.generations() == {2: world.second, 3: world.first}


def test_the_generation_before_is_the_newest_older_one(world):
    assert world.profile.generation_before() is None
    asyncio.run(world.profile.set(world.second))
    assert world.profile.generation_before() == world.first
    asyncio.run(world.profile.set(world.first))
    assert world.profile.generation_before() == world.second


# What the links and nix-env do.


def test_the_generation_before_is_by_number_and_not_by_name(nix_on_host):
    on = fetched(nix_on_host)
    profile = on.host.paths.profile
    for number, system in ((9, on.farm.second), (10, on.farm.first), (11, on.farm.second)):
        (profile.parent / f"system-{number}-link").symlink_to(system)
    for present, before in ((11, on.farm.first), (10, on.farm.second), (9, on.farm.first)):
        profile.unlink()
        profile.symlink_to(f"system-{present}-link")
        assert profile_on(on).generation_before() == before


@pytest.mark.parametrize("target", [None, "/nowhere", "system-x-link"])
def test_a_profile_without_a_present_generation_has_none_before(nix_on_host, target):
    profile = nix_on_host.host.paths.profile
    profile.unlink()
    if target is not None:
        profile.symlink_to(target)

    assert profile_on(nix_on_host).generation_before() is None


def test_a_profile_that_is_gone_is_made_anew(nix_on_host, farm):
    profile = nix_on_host.host.paths.profile
    profile.unlink()

    asyncio.run(profile_on(nix_on_host).set(farm.first))

    assert str(profile.resolve()) == farm.first


def test_a_generation_that_has_lost_its_system_counts_for_nothing(nix_on_host):
    on = fetched(nix_on_host)
    asyncio.run(profile_on(on).set(on.farm.second))
    first = on.host.paths.profile.with_name("system-1-link")
    first.unlink()
    first.symlink_to("/nowhere")

    assert profile_on(on).generation_before() is None
    assert asyncio.run(profile_on(on).remove_generations(on.farm.first)) == 0


def test_other_profiles_of_that_directory_are_left_alone(nix_on_host):
    on = fetched(nix_on_host)
    other = on.host.paths.profile.with_name("system-profiles-7-link")
    other.symlink_to(on.farm.second)

    assert asyncio.run(profile_on(on).remove_generations(on.farm.second)) == 0
    assert other.is_symlink()


def test_where_nothing_is_to_be_done_no_program_is_started(nix_on_host, farm):
    asyncio.run(profile_on(nix_on_host).set(farm.first))
    asyncio.run(profile_on(nix_on_host).remove_generations(farm.second))

    assert events.PROGRAM_STARTED not in [event for event, _ in nix_on_host.sink.said]


def test_a_system_that_is_not_in_the_store_is_a_failed_roll_back(nix_on_host, farm):
    before = generations_on(nix_on_host)

    fault = fault_of(nix_on_host, farm.unpublished)

    assert fault.kind is Kind.ROLL_BACK_FAILED
    assert str(nix_on_host.host.paths.profile) in fault.message
    assert farm.unpublished in fault.message
    assert generations_on(nix_on_host) == before


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo one >&2; echo two >&2; exit 3", ": two"),
        ("exit 3", ": exit code 3"),
        (None, "nix-env"),
    ],
)
def test_a_nix_env_that_fails_is_told_with_its_last_words(
    farm, throwaway_host, tmp_path, script, told
):
    if script is not None:
        program = tmp_path / "nix-env"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    on = NixOnHost(farm, throwaway_host, {"PATH": f"{tmp_path}:/nonexistent"})

    fault = fault_of(on, farm.second)

    assert fault.kind is Kind.ROLL_BACK_FAILED
    assert told in fault.message


def test_where_nix_env_fails_an_older_generation_is_the_present_one_again(nix_on_host, farm):
    on = fetched(nix_on_host)
    asyncio.run(profile_on(on).set(farm.second))
    before = generations_on(on)
    without_nix = NixOnHost(farm, on.host, {"PATH": "/nonexistent"})

    asyncio.run(profile_on(without_nix).set(farm.first))

    assert str(on.host.paths.profile.resolve()) == farm.first
    assert on.host.paths.profile.readlink().name in ("system-1-link", "system-2-link")
    assert generations_on(on) == before


def fault_of(on: NixOnHost, system: StorePath) -> HostError:
    with pytest.raises(HostError) as caught:
        asyncio.run(profile_on(on).set(system))
    return caught.value
