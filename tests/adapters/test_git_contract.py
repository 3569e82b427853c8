"""What the port Repository promises, asked of the fake and of git."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from adapters.checkout import Checkout
from agent.domain.errors import GitError, Kind
from agent.domain.flake_update.lock_file import LOCK_FILE
from fakes.flake_update import FakeRepository, Ground

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.flake_update.ports import Repository

FILES = {"flake.nix": "{ }\n", LOCK_FILE: "{}\n"}
BRANCH = "flake-update-20261219"


@dataclass
class World:
    repository: Repository
    tips: Callable[[], dict[str, str]]
    change: Callable[[str, str], None]
    """Changes a file of the checkout, and commits nothing."""


def fake_world(_directory):
    ground = Ground()
    repository = FakeRepository(ground, FILES)
    return World(
        repository,
        lambda: dict(repository.remote),
        lambda name, text: repository.put(repository.flake, name, text),
    )


def real_world(directory):
    checkout = Checkout(directory, FILES)
    return World(
        checkout.repository(),
        checkout.tips,
        lambda name, text: (checkout.path / name).write_text(text) and None,
    )


@pytest.fixture(params=[fake_world, real_world], ids=["fake", "git"])
def world(request, tmp_path) -> World:
    made = request.param(tmp_path)
    asyncio.run(made.repository.prepare())
    return made


async def commit(world, base, text="{ }\n", message="Update\n\nx: 1\n"):
    """Commit another lock file on top of `base`."""
    async with world.repository.worktree(base) as flake:
        world.repository.put(flake, LOCK_FILE, text)
        return await world.repository.commit(flake, message)


def test_a_revision_has_its_files(world):
    async def look():
        head = await world.repository.head()
        assert await world.repository.file_at(head, LOCK_FILE) == "{}\n"
        assert await world.repository.file_at(head, "nonesuch") is None
        assert world.repository.text_in(world.repository.flake, "flake.nix") == "{ }\n"
        assert world.repository.text_in(world.repository.flake, "nonesuch") is None

    asyncio.run(look())


def test_worktrees_are_apart_from_each_other_and_from_the_checkout(world):
    async def work():
        head = await world.repository.head()
        async with (
            world.repository.worktree(head) as one,
            world.repository.worktree(head) as other,
        ):
            world.repository.put(one, LOCK_FILE, "changed")
            assert world.repository.text_in(one, LOCK_FILE) == "changed"
            assert world.repository.text_in(other, LOCK_FILE) == "{}\n"
        assert world.repository.text_in(world.repository.flake, LOCK_FILE) == "{}\n"

    asyncio.run(work())


def test_uncommitted_changes_can_be_had_in_a_worktree(world):
    async def work():
        head = await world.repository.head()
        async with world.repository.worktree(head) as flake:
            await world.repository.copy_changes(flake)
            assert world.repository.text_in(flake, "flake.nix") == "{ }\n"
        world.change("flake.nix", "{ new = true; }\n")
        async with world.repository.worktree(head) as flake:
            await world.repository.copy_changes(flake)
            assert world.repository.text_in(flake, "flake.nix") == "{ new = true; }\n"

    asyncio.run(work())


def test_a_commit_is_pushed_to_a_new_branch_and_found_there(world):
    async def work():
        base = (await world.repository.remote_branches("main", ["flake-update-"]))["main"]
        revision = await commit(world, base)
        await world.repository.push(revision, BRANCH, None)
        assert world.tips() == {"main": base, BRANCH: revision}
        found = await world.repository.remote_branches("main", ["other-", "flake-update-"])
        assert found == {"main": base, BRANCH: revision}
        assert await world.repository.file_at(revision, LOCK_FILE) == "{ }\n"
        assert await world.repository.messages(base, revision) == ("Update\n\nx: 1",)
        assert await world.repository.messages(base, base) == ()
        assert await world.repository.adds_only_lock(base, revision)
        assert await world.repository.is_ancestor(base, revision)
        assert not await world.repository.is_ancestor(revision, base)

    asyncio.run(work())


def test_a_branch_is_replaced_only_if_it_is_what_it_was_taken_for(world):
    async def work():
        base = await world.repository.head()
        first = await commit(world, base)
        second = await commit(world, base, "{  }\n")
        await world.repository.push(first, BRANCH, None)
        for wrong in (None, base):
            with pytest.raises(GitError) as caught:
                await world.repository.push(second, BRANCH, wrong)
            assert caught.value.kind is Kind.BRANCH_DIVERGED
        assert world.tips()[BRANCH] == first
        await world.repository.push(second, BRANCH, first)
        assert world.tips()[BRANCH] == second

    asyncio.run(work())


def test_a_branch_is_taken_back_to_what_it_was(world):
    async def work():
        base = await world.repository.head()
        first = await commit(world, base)
        second = await commit(world, base, "{  }\n")
        await world.repository.push(first, BRANCH, None)
        await world.repository.push(second, BRANCH, first)
        await world.repository.revert_branch(second, BRANCH, first)
        assert world.tips()[BRANCH] == first
        await world.repository.revert_branch(second, BRANCH, None)
        assert world.tips()[BRANCH] == first, "it is not what is to be taken back"
        await world.repository.revert_branch(first, BRANCH, None)
        assert set(world.tips()) == {"main"}
        await world.repository.revert_branch(first, BRANCH, None)

    asyncio.run(work())


def test_a_base_branch_that_is_gone_is_a_fault(world):
    with pytest.raises(GitError) as caught:
        asyncio.run(world.repository.remote_branches("trunk", ["flake-update-"]))
    assert caught.value.kind is Kind.BASE_MISSING


def test_it_is_held_by_one_at_a_time(world):
    with world.repository.hold():
        with pytest.raises(GitError) as caught, world.repository.hold():
            pytest.fail("it was held twice")
        assert caught.value.kind is Kind.REPOSITORY_BUSY
    with world.repository.hold():
        pass
