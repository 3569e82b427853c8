"""What the ports Nix and NixosRebuild promise, asked of the fakes and of the real ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from agent.application.ports import Fetched, Nix, NixosRebuild
from agent.domain.errors import Kind, NixError
from agent.domain.facts import FetchPlan
from agent.domain.policy import Action
from agent.domain.systems import Systems
from built_systems import HOST
from fakes.nix import FakeNix, FakeNixosRebuild, RememberedProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.store_path import StorePath
    from nix_on_host import NixOnHost


@dataclass
class World:
    nix: Nix
    nixos_rebuild: NixosRebuild
    systems: Callable[[], Systems]
    flake: LockedFlakeReference
    first: StorePath
    candidate: StorePath
    uncached: StorePath
    cache: str


def fake_world(on: NixOnHost) -> World:
    farm = on.farm
    shown = [Systems(farm.first, farm.first, farm.first)]

    def activate(action: Action, path: StorePath) -> None:
        if action.moves_profile:
            shown[0] = replace(shown[0], profile=path)
        if action in (Action.SWITCH, Action.TEST):
            shown[0] = replace(shown[0], running=path)

    known = {(on.flake(), HOST): farm.second}
    cache = f"file://{farm.layout.cache}"
    nix = FakeNix(
        evaluates=known,
        cached={farm.second: FetchPlan(2, 410_000, 420_000)},
        valid={farm.first},
        caches=(cache,),
    )
    rebuild = FakeNixosRebuild(builds=known, activate=activate)
    return World(
        nix, rebuild, lambda: shown[0], on.flake(), farm.first, farm.second, farm.unpublished, cache
    )


def real_world(on: NixOnHost) -> World:
    farm = on.farm
    return World(
        on.nix(),
        on.nixos_rebuild(),
        on.systems,
        on.flake(),
        farm.first,
        farm.second,
        farm.unpublished,
        f"file://{farm.layout.cache}",
    )


@pytest.fixture(params=[fake_world, real_world], ids=["fake", "real"])
def world(request, nix_on_host) -> World:
    return request.param(nix_on_host)


def test_a_host_of_the_flake_evaluates_to_its_toplevel(world):
    assert asyncio.run(world.nix.evaluate_toplevel(world.flake, HOST)) == world.candidate


def test_an_unknown_host_cannot_be_evaluated(world):
    with pytest.raises(NixError) as caught:
        asyncio.run(world.nix.evaluate_toplevel(world.flake, "nonesuch"))
    assert caught.value.kind is Kind.EVALUATION_FAILED


def test_the_substituters_in_force_are_told(world):
    assert asyncio.run(world.nix.substituters()) == (world.cache,)


def test_what_is_valid_needs_no_fetch(world):
    assert asyncio.run(world.nix.plan_fetch(world.first)) == FetchPlan(0, 0, 0)
    assert asyncio.run(world.nix.substitute(world.first, RememberedProgress())) == Fetched(0, 0)


def test_what_is_cached_is_planned_then_fetched_then_valid(world):
    progress = RememberedProgress()

    planned = asyncio.run(world.nix.plan_fetch(world.candidate))
    fetched = asyncio.run(world.nix.substitute(world.candidate, progress))

    assert planned.paths == fetched.paths == 2
    assert planned.unpacked_bytes == pytest.approx(fetched.size, rel=0.05)
    assert progress.updates[-1] == (2, 2, fetched.size, fetched.size)
    assert asyncio.run(world.nix.plan_fetch(world.candidate)) == FetchPlan(0, 0, 0)


def test_what_is_not_cached_is_neither_planned_nor_fetched(world):
    for asked in (
        world.nix.plan_fetch(world.uncached),
        world.nix.substitute(world.uncached, RememberedProgress()),
    ):
        with pytest.raises(NixError) as caught:
            asyncio.run(asked)
        assert caught.value.kind is Kind.PATH_NOT_CACHED


def test_a_build_gives_the_toplevel_and_changes_nothing(world):
    before = world.systems()
    asyncio.run(world.nix.substitute(world.candidate, RememberedProgress()))

    assert asyncio.run(world.nixos_rebuild.build(world.flake, HOST)) == world.candidate
    assert world.systems() == before


def test_a_build_of_an_unknown_host_fails(world):
    with pytest.raises(NixError) as caught:
        asyncio.run(world.nixos_rebuild.build(world.flake, "nonesuch"))
    assert caught.value.kind is Kind.BUILD_ERROR


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("by_path", [False, True], ids=["flake", "store-path"])
def test_an_activation_moves_what_its_action_says(world, action, by_path):
    asyncio.run(world.nix.substitute(world.candidate, RememberedProgress()))
    rebuild = world.nixos_rebuild

    ended = asyncio.run(
        rebuild.activate_store_path(action, world.candidate)
        if by_path
        else rebuild.activate_flake(action, world.flake, HOST)
    )

    assert ended.returncode == 0
    moves_running = action in (Action.SWITCH, Action.TEST)
    assert world.systems() == Systems(
        running=world.candidate if moves_running else world.first,
        booted=world.first,
        profile=world.candidate if action.moves_profile else world.first,
    )


def test_an_activation_of_an_unknown_host_is_an_exit_and_no_error(world):
    before = world.systems()

    ended = asyncio.run(world.nixos_rebuild.activate_flake(Action.SWITCH, world.flake, "nonesuch"))

    assert ended.returncode == 1
    assert world.systems() == before
