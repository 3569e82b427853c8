from __future__ import annotations

import json

import pytest

from agent.domain.errors import FlakeError, GitError, Kind, NixError
from agent.domain.flake_update.comparison import Broken, DiffExit, Effect, Stage
from agent.domain.flake_update.lock_file import LOCK_FILE
from agent.domain.origin import UrlPrefix
from fakes.flake_update import CHECKOUT, lock_text, system
from fakes.flake_update_world import NEW, NEWER, OLD, UpdateWorld

FAILS = Broken(Stage.BUILD, "linux failed", "cc: error")


@pytest.fixture
def world():
    return UpdateWorld()


def test_the_lock_file_here_is_updated_and_the_hosts_are_compared(world):
    comparison = world.diff()

    assert [(one.host, one.verdict) for one in comparison.hosts] == [
        ("db", Effect.UNCHANGED),
        ("web", Effect.CHANGED),
    ]
    assert comparison.hosts[1].packages == world.builds.packages
    assert [one.name for one in comparison.inputs] == ["base"]
    assert comparison.exit_code is DiffExit.CHANGED
    assert world.ground.directories == {
        CHECKOUT: {"flake.nix": "{}", LOCK_FILE: lock_text(NEW)},
    }


def test_an_input_that_is_not_locked_yet_is_no_host_that_was_broken_before(world):
    world.builds.lacking = {OLD}
    comparison = world.diff()
    assert [one.verdict for one in comparison.hosts] == [Effect.UNCHANGED, Effect.CHANGED]
    world.builds.lacking = {NEW}
    world.repository.put(CHECKOUT, LOCK_FILE, lock_text(OLD))
    assert [one.verdict for one in world.diff().hosts] == [Effect.BREAKS] * 2


def test_what_is_the_same_before_and_after_is_built_once(world):
    world.diff()
    assert sorted(world.builds.realised) == sorted(
        system(name).derivation for name in ("db-1", "web-1", "web-2")
    )


def test_an_unchanged_lock_file_ends_it_before_anything_is_built(world):
    world.builds.upstream = OLD
    assert world.diff() is None
    assert world.builds.realised == []
    assert "flake_update.lock_unchanged" in world.sink.names()


def test_an_update_that_was_made_already_is_only_looked_at(world):
    world.ground.directories[CHECKOUT][LOCK_FILE] = lock_text(NEW)
    world.builds.upstream = NEWER
    comparison = world.diff(skips_update=True)
    assert [one.host for one in comparison.changed] == ["web"]
    assert world.builds.updated == []
    assert world.diff(skips_update=True).inputs == comparison.inputs


def test_an_input_that_an_upstream_has_brought_from_this_host_is_not_fetched(world):
    brought = json.loads(lock_text(NEW))
    brought["nodes"]["theirs"] = {"locked": {"type": "path", "path": "/root/.ssh"}}
    world.ground.directories[CHECKOUT][LOCK_FILE] = json.dumps(brought)

    with pytest.raises(NixError) as caught:
        world.diff(skips_update=True)

    assert caught.value.kind is Kind.FLAKE_INSECURE
    assert 'trust.allow_insecure = ["path:/root/.ssh"]' in caught.value.hint
    assert world.builds.realised == []
    world.change(allow_insecure=(UrlPrefix("path:/root/.ssh"),))
    assert world.diff(skips_update=True) is not None


def test_only_the_inputs_that_are_named_are_updated(world):
    world.change(inputs=("base",))
    world.diff()
    assert world.builds.updated == [("base",)]


def test_an_input_that_the_flake_does_not_have_is_a_fault_and_nothing_is_updated(world):
    world.change(inputs=("base", "nixpkgs"))
    with pytest.raises(FlakeError) as caught:
        world.diff()
    assert caught.value.kind is Kind.INPUT_UNKNOWN
    assert world.builds.updated == []


@pytest.mark.parametrize(
    ("name", "kind"), [("flake.nix", Kind.FLAKE_MISSING), (LOCK_FILE, Kind.LOCK_FILE_MISSING)]
)
def test_a_checkout_without_flake_or_lock_file_is_a_fault(world, name, kind):
    files = {"flake.nix": "{}", LOCK_FILE: lock_text(OLD)}
    del files[name]
    world.repository.tip = world.repository.add(files, None, "Without")
    world.ground.directories[CHECKOUT] = files
    with pytest.raises(FlakeError) as caught:
        world.diff()
    assert caught.value.kind is kind


def test_two_at_once_are_one_too_many(world):
    with world.repository.hold(), pytest.raises(GitError) as caught:
        world.diff()
    assert caught.value.kind is Kind.REPOSITORY_BUSY


@pytest.mark.parametrize(
    ("before", "after", "verdict", "code"),
    [
        (system("web-1"), FAILS, Effect.BREAKS, DiffExit.FAILED),
        (FAILS, system("web-2"), Effect.FIXED, DiffExit.CHANGED),
        (FAILS, FAILS, Effect.STILL_BROKEN, DiffExit.FAILED),
    ],
)
def test_hosts_that_do_not_evaluate_have_a_verdict(world, before, after, verdict, code):
    fleets = {NEW: {"web": after}, OLD: {"web": before}}
    world.builds.fleets = fleets
    comparison = world.diff()
    assert [one.verdict for one in comparison.hosts] == [verdict]
    assert comparison.exit_code is code


def test_a_host_that_does_not_build_is_told_with_the_tail_of_its_log(world):
    world.builds.unbuildable[system("web-2").derivation] = FAILS
    comparison = world.diff()
    assert comparison.exit_code is DiffExit.FAILED
    told = [fields for event, fields in world.sink.said if event.name.endswith("host_compared")]
    assert [(one["host"], one["verdict"], one["log"]) for one in told] == [
        ("db", "unchanged", ""),
        ("web", "breaks", "cc: error"),
    ]


def test_a_fault_of_nix_leaves_no_worktree(world):
    world.builds.fault = NixError(Kind.INPUT_UNAVAILABLE, "gone")
    with pytest.raises(NixError):
        world.diff()
    assert set(world.ground.directories) == {CHECKOUT}
    assert not world.repository.is_held


def test_uncommitted_changes_are_on_both_sides(world):
    world.ground.directories[CHECKOUT]["flake.nix"] = "{ changed = true; }"
    seen = []

    async def evaluate(flake, hosts, **_):
        seen.append(dict(world.ground.directories[flake]))
        return {host: system(host) for host in hosts}

    world.builds.evaluate = evaluate
    world.diff()
    before, after = seen
    assert before["flake.nix"] == after["flake.nix"] == "{ changed = true; }"
    # The committed one, and written differently: so that both trees are dirty.
    assert before[LOCK_FILE] == lock_text(OLD) + "\n"
