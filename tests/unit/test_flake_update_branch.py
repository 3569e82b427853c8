from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.flake_update.branch import (
    BranchTemplate,
    Diverged,
    Proposed,
    Target,
    UpdateBranch,
    choose_branch,
)
from agent.domain.flake_update.lock_file import LockFile

DAY = date(2026, 12, 19)
WANTED = "flake-update-20261219"
LOCK = LockFile({}, frozenset(), "new")
OTHER = LockFile({}, frozenset(), "older")
TODAY = UpdateBranch(WANTED, "1" * 40, LOCK, is_current=True, is_own=True, is_proposed=True)
YESTERDAY = replace(TODAY, name="flake-update-20261218", revision="2" * 40)


def test_a_branch_is_named_after_its_day():
    template = BranchTemplate()
    assert template.on(DAY) == WANTED
    assert template.prefix == "flake-update-"
    assert template.covers(WANTED)
    assert not template.covers("flake-update-by-hand")
    assert not template.covers("flake-update-")


def test_what_stands_after_the_day_belongs_to_the_name():
    template = BranchTemplate("auto/{date}-lock")
    assert template.on(DAY) == "auto/20261219-lock"
    assert template.covers("auto/20261219-lock")
    assert not template.covers("auto/20261219")
    assert not template.covers("other/20261219-lock")


def test_a_name_without_a_day_is_always_the_same():
    template = BranchTemplate("flake-update")
    assert template.on(DAY) == template.prefix == "flake-update"
    assert template.covers("flake-update")
    assert not template.covers("flake-update-2")


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ([], Target(WANTED, None)),
        # The same update is proposed already.
        ([TODAY], Proposed(TODAY)),
        ([YESTERDAY], Proposed(YESTERDAY)),
        ([replace(YESTERDAY, lock=OTHER), TODAY], Proposed(TODAY)),
        # The base branch has moved on: the same branch, and proposal, once more.
        ([replace(YESTERDAY, is_current=False)], Target(YESTERDAY.name, "2" * 40)),
        # It was pushed, and then the power failed.
        ([replace(YESTERDAY, is_proposed=False)], Target(YESTERDAY.name, "2" * 40)),
        # Of two with the same update the proposed one counts, then the one of today.
        (
            [replace(TODAY, is_proposed=False), replace(YESTERDAY, is_current=False)],
            Target(YESTERDAY.name, "2" * 40),
        ),
        (
            [replace(YESTERDAY, is_proposed=False), replace(TODAY, is_proposed=False)],
            Target(WANTED, "1" * 40),
        ),
        # Another update of an earlier day stays as it is.
        ([replace(YESTERDAY, lock=OTHER)], Target(WANTED, None)),
        ([replace(YESTERDAY, lock=None)], Target(WANTED, None)),
        # Another update of today gives way.
        ([replace(TODAY, lock=OTHER)], Target(WANTED, "1" * 40)),
        ([replace(TODAY, lock=None)], Target(WANTED, "1" * 40)),
    ],
)
def test_an_update_goes_to_the_branch_where_it_belongs(branches, expected):
    assert choose_branch(branches, WANTED, LOCK) == expected


def test_a_proposal_of_the_same_update_is_left_to_whoever_has_added_to_it():
    branch = replace(TODAY, is_own=False, is_current=False)
    assert choose_branch([branch], WANTED, LOCK) == Proposed(branch)


BRANCHES = st.lists(
    st.builds(
        UpdateBranch,
        name=st.sampled_from([WANTED, "flake-update-20261218", "flake-update-20261217"]),
        revision=st.text("0123456789abcdef", min_size=40, max_size=40),
        lock=st.sampled_from([LOCK, OTHER, None]),
        is_current=st.booleans(),
        is_own=st.booleans(),
        is_proposed=st.booleans(),
        is_as_proposed=st.booleans(),
    ),
    unique_by=lambda branch: branch.name,
)


STALE = replace(YESTERDAY, lock=OTHER, is_as_proposed=True)


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ([STALE], Target(STALE.name, "2" * 40)),
        # The newest one, of those that are proposed and have no commit of anybody else.
        (
            [replace(STALE, name="flake-update-20261217", revision="3" * 40), STALE],
            Target(STALE.name, "2" * 40),
        ),
        ([replace(STALE, is_own=False)], Target(WANTED, None)),
        ([replace(STALE, is_as_proposed=False)], Target(WANTED, None)),
        ([replace(STALE, is_proposed=False)], Target(WANTED, None)),
        # The proposal of the same update comes first, a branch without a proposal last.
        ([STALE, replace(TODAY, is_current=False)], Target(WANTED, "1" * 40)),
        ([STALE, replace(TODAY, is_proposed=False)], Target(STALE.name, "2" * 40)),
        ([STALE, replace(TODAY, lock=None, is_proposed=False)], Target(STALE.name, "2" * 40)),
        ([STALE, replace(TODAY, lock=OTHER, is_own=False)], Target(STALE.name, "2" * 40)),
    ],
)
def test_an_open_proposal_stays_fresh(branches, expected):
    assert choose_branch(branches, WANTED, LOCK, refreshes=True) == expected


@given(BRANCHES, st.booleans())
def test_no_update_has_two_proposals_and_no_work_of_others_is_lost(branches, refreshes):
    chosen = choose_branch(branches, WANTED, LOCK, refreshes=refreshes)
    by_name = {branch.name: branch for branch in branches}
    proposed = [one for one in branches if one.is_proposed and one.lock == LOCK]
    match chosen:
        case Proposed(branch):
            assert branch in proposed
        case Diverged(branch):
            assert not branch.is_own
        case Target(name, replaces):
            taken = by_name.get(name)
            assert replaces == (taken.revision if taken else None)
            assert taken is None or taken.is_own
            assert not proposed or taken in proposed
            is_refreshed = refreshes and taken is not None and taken.is_proposed
            assert taken is None or taken.lock == LOCK or name == WANTED or is_refreshed
            if is_refreshed and taken.lock != LOCK and name != WANTED:
                assert taken.is_as_proposed


@pytest.mark.parametrize("lock", [LOCK, OTHER])
def test_commits_of_others_are_never_overwritten(lock):
    branch = replace(TODAY, lock=lock, is_own=False, is_proposed=False)
    assert choose_branch([branch], WANTED, LOCK) == Diverged(branch)
