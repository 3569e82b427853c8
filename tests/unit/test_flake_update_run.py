from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from agent.application.flake_update.policy import Verify
from agent.application.flake_update.ports import MergeMethod
from agent.application.flake_update.result import Outcome, headline
from agent.application.flake_update.run import Recipients, run
from agent.domain.errors import ConfigError, ExitCode, ForgeError, GitError, HydraError, Kind
from agent.domain.flake_update.comparison import Broken, Stage
from agent.domain.flake_update.hosts import HostPatterns
from agent.domain.flake_update.hydra_proof import JobState
from agent.domain.flake_update.lock_file import LOCK_FILE, parse_lock_file
from agent.domain.flake_update.report import mark_of
from fakes.flake_update import CHECKOUT, lock_text, system
from fakes.flake_update_world import NEW, NEWER, OLD, TODAY, YESTERDAY, UpdateWorld

CANDIDATE = "flake-update-candidate"
NOTHING = "ℹ️ No Flake Updates"  # noqa: RUF001 - the sign is meant
FAILS = Broken(Stage.BUILD, "linux failed", "cc: error")


@pytest.fixture
def world():
    return UpdateWorld()


def messages(world):
    return [(one.title, one.priority) for one in world.notifier.told]


def test_an_update_is_pushed_proposed_and_told(world):
    result = world.run()

    assert (result.outcome, result.exit_code) == (Outcome.PROPOSED, ExitCode.DONE)
    assert result.branch == TODAY
    tip = world.repository.commits[world.repository.remote[TODAY]]
    assert tip.files[LOCK_FILE] == lock_text(NEW)
    assert tip.parent == world.repository.remote["main"]
    assert "web:\n  linux: 1 → 2" in tip.message
    (pull,) = world.pulls.pulls
    assert (pull.head, pull.base, pull.title) == (
        TODAY,
        "main",
        "chore: update flake inputs 2026-12-19",
    )
    assert "### web\n```\nlinux: 1 → 2\n```" in pull.body
    (message,) = world.notifier.told
    assert message.title == "✅ Flake Updated Successfully"
    assert message.body == (
        f"Branch {TODAY} created and pushed.\nAll builds passed: db web\nhttps://forge.test/1"
    )
    assert message.tags == ("white_check_mark", "flake")
    assert world.sink.names()[-1] == "flake_update.finished"
    assert headline(result).startswith(f"proposed ({TODAY}): https://forge.test/1; unchanged: db")


def test_a_token_that_may_not_propose_is_told_before_anything_is_built(world):
    world.pulls.may_propose = False
    result = world.run()
    assert result.error.kind is Kind.FORGE_FORBIDDEN
    assert world.builds.realised == []
    assert set(world.repository.remote) == {"main"}
    world.builds.upstream = OLD
    assert world.run().outcome is Outcome.LOCK_UNCHANGED


def test_nothing_of_the_checkout_is_touched(world):
    before = dict(world.ground.directories[CHECKOUT])
    world.run()
    assert world.ground.directories == {CHECKOUT: before}
    assert world.repository.tip == world.repository.remote["main"]


def test_without_a_forge_the_branch_is_pushed(world):
    world.without("forge")
    result = world.run()
    assert result.outcome is Outcome.PUSHED
    assert set(world.repository.remote) == {"main", TODAY}
    assert world.notifier.told[0].link is None


def test_without_anybody_to_tell_nobody_is_told(world):
    world.without("notifier")
    assert world.run().outcome is Outcome.PROPOSED


def test_a_dry_run_commits_pushes_proposes_and_tells_nothing(world):
    commits = len(world.repository.commits)
    result = world.run(dry_run=True)
    assert (result.outcome, result.branch) == (Outcome.DRY_RUN, TODAY)
    assert [one.host for one in result.comparison.changed] == ["web"]
    assert set(world.repository.remote) == {"main"}
    assert len(world.repository.commits) == commits
    assert (world.pulls.pulls, world.notifier.told) == ([], [])


def test_inputs_that_are_as_new_as_can_be_are_told_at_low_priority(world):
    world.builds.upstream = OLD
    result = world.run()
    assert (result.outcome, result.exit_code) == (Outcome.LOCK_UNCHANGED, ExitCode.DONE)
    (message,) = world.notifier.told
    assert (message.title, message.body) == (
        NOTHING,
        "flake.lock is already up to date",
    )
    assert (message.priority, message.tags) == ("low", ("information_source", "flake"))
    assert headline(result) == "lock-unchanged"


def test_an_update_that_changes_no_host_is_never_proposed(world):
    world.change(hosts=world.policy.hosts.__class__(include=("db",)))
    result = world.run()
    assert (result.outcome, result.exit_code) == (Outcome.HOSTS_UNCHANGED, ExitCode.DONE)
    assert set(world.repository.remote) == {"main"}
    assert messages(world) == [(NOTHING, "low")]


def test_an_update_that_breaks_a_host_is_not_proposed_but_told(world):
    world.builds.unbuildable[system("web-2").derivation] = FAILS
    result = world.run()
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, ExitCode.FAILED)
    assert result.error.kind is Kind.HOSTS_BROKEN
    assert "web: linux failed" in result.error.message
    assert [one.host for one in result.comparison.broken] == ["web"]
    assert set(world.repository.remote) == {"main"}
    (message,) = world.notifier.told
    assert (message.title, message.priority) == ("❌ Flake Update Build Failed", "high")
    assert message.body.startswith("Builds failed for updated flake.lock.\n")
    assert message.body.endswith("Check logs: the log")
    assert message.tags == ("x", "flake", "warning")


def test_an_update_with_which_no_host_can_be_built_is_not_proposed(world):
    world.builds.fleets = {NEW: {"web": FAILS}, OLD: {"web": FAILS}}
    result = world.run()
    assert result.error.kind is Kind.HOSTS_BROKEN
    assert "1 host(s) fail: web: linux failed" in result.error.message


@pytest.mark.parametrize("stage", list(Stage))
def test_a_host_that_was_broken_before_does_not_block_the_others(world, stage):
    leave_broken(world, stage)
    result = world.run()
    assert result.outcome is Outcome.PROPOSED
    assert [one.host for one in result.comparison.broken] == ["db"]
    (pull,) = world.pulls.pulls
    assert "as before: linux failed" in pull.body
    assert "*Every other host was built with these inputs" in pull.body
    tip = world.repository.commits[world.repository.remote[TODAY]]
    assert "\n\nbroken as before: db\n\n" in tip.message
    (message,) = world.notifier.told
    assert message.body.splitlines()[1:3] == ["Builds passed: web", "Broken as before: db"]
    assert "still-broken: db" in headline(result)
    finished = world.sink.said[-1][1]
    assert (finished["changed"], finished["broken"]) == (["web"], ["db"])


@pytest.mark.parametrize("stage", list(Stage))
def test_a_required_host_blocks_even_if_it_was_broken_before(world, stage):
    leave_broken(world, stage)
    world.change(hosts=HostPatterns(require=("d.",)))
    result = world.run()
    assert result.error.kind is Kind.HOSTS_BROKEN
    assert "1 host(s) fail: db: linux failed" in result.error.message
    assert set(world.repository.remote) == {"main"}
    world.change(hosts=HostPatterns(require=("web",)))
    assert world.run().outcome is Outcome.PROPOSED


def test_hosts_that_were_broken_before_are_not_named_as_the_cause(world):
    leave_broken(world, Stage.EVALUATION)
    world.builds.unbuildable[system("web-2").derivation] = FAILS
    result = world.run()
    assert result.error.kind is Kind.HOSTS_BROKEN
    # No host is left that the update could be proven by: but only one of them is its doing.
    assert "1 host(s) fail: web: linux failed" in result.error.message


def test_a_host_that_refuses_dirty_trees_was_not_seen_broken_before(world):
    leave_broken(world, Stage.EVALUATION, "refusing to deploy a dirty tree")
    result = world.run()
    assert result.error.kind is Kind.HOSTS_BROKEN
    assert "self.dirtyRev" in result.error.hint


def test_a_build_that_is_called_dirty_was_seen_to_fail(world):
    failed = Broken(Stage.BUILD, "dirty-json-1.0 failed", "cc: error")
    world.builds.unbuildable[system("db-1").derivation] = failed
    assert world.run().outcome is Outcome.PROPOSED


def leave_broken(world, stage, reason="linux failed"):
    """Let `db` be broken with the old inputs and with the new ones."""
    if stage is Stage.BUILD:
        world.builds.unbuildable[system("db-1").derivation] = FAILS
        return
    broken = Broken(stage, reason, "error: linux")
    world.builds.fleets = {
        revision: {**hosts, "db": broken} for revision, hosts in world.builds.fleets.items()
    }


@pytest.mark.parametrize("name", ["flake.nix", LOCK_FILE])
def test_a_base_branch_without_flake_or_lock_file_is_a_fault(world, name):
    files = {"flake.nix": "{}", LOCK_FILE: lock_text(OLD)}
    del files[name]
    world.repository.remote["main"] = world.repository.add(files, None, "Without")
    kinds = {"flake.nix": Kind.FLAKE_MISSING, LOCK_FILE: Kind.LOCK_FILE_MISSING}
    assert world.run().error.kind is kinds[name]
    assert messages(world) == [("❌ Flake Update Failed", "high")]


@pytest.mark.parametrize("kind", [Kind.REMOTE_UNREACHABLE, Kind.NO_SPACE])
def test_a_fault_of_git_is_told(world, kind):
    world.repository.faults["worktree"] = GitError(kind, "no")
    result = world.run()
    assert result.error.kind is kind
    assert messages(world) == [("❌ Flake Update Failed", "high")]


def test_a_forge_that_refuses_ends_the_run_before_anything_is_built(world):
    world.forge.fault = ForgeError(Kind.FORGE_UNAUTHORISED, "401")
    assert world.run().error.kind is Kind.FORGE_UNAUTHORISED
    assert (world.builds.updated, world.builds.realised) == ([], [])


def test_wishes_for_the_proposal_are_fulfilled(world):
    world.change(labels=("flake",), assignees=("bob",), auto_merge=MergeMethod.SQUASH)
    world.run()
    (pull,) = world.pulls.pulls
    assert (pull.labels, pull.assignees, pull.merge_method) == (["flake"], ["bob"], "squash")


def test_a_wish_that_fails_leaves_the_proposal_standing(world):
    world.change(assignees=("nobody",), auto_merge=MergeMethod.MERGE)
    world.pulls.allows_auto_merge = False
    assert world.run().outcome is Outcome.PROPOSED
    told = [f["step"] for e, f in world.sink.said if e.name.endswith("proposal_unfinished")]
    assert told == ["assignees", "auto-merge"]


def test_what_keeps_a_run_from_beginning_is_told_too(world):
    @asynccontextmanager
    async def opening():
        raise ConfigError(Kind.SECRET_MISSING, "there is no file /run/token")
        yield

    recipients = Recipients(world.sink, world.notifier, "the log")
    result = asyncio.run(run(opening(), world.policy, recipients, dry_run=False))
    assert (result.error.kind, result.exit_code) == (Kind.SECRET_MISSING, ExitCode.BAD_CONFIG)
    assert messages(world) == [("❌ Flake Update Failed", "high")]


# Reuse


def test_an_update_that_is_proposed_is_not_proposed_again(world):
    world.run()
    tip = dict(world.repository.remote)
    result = world.run()
    assert result.outcome is Outcome.ALREADY_PROPOSED
    assert result.proposal.number == 1
    assert (len(world.pulls.pulls), world.repository.remote) == (1, tip)
    assert world.notifier.told[-1].link == "https://forge.test/1"


def test_the_same_update_of_another_day_is_taken_up_again(world):
    world.propose(YESTERDAY, "", lock=NEW)
    former = world.repository.remote[YESTERDAY]
    world.advance_base()
    result = world.run()
    assert (result.outcome, result.branch) == (Outcome.PROPOSED, YESTERDAY)
    assert set(world.repository.remote) == {"main", YESTERDAY}
    assert world.repository.remote[YESTERDAY] != former
    (pull,) = world.pulls.pulls
    assert pull.title == "chore: update flake inputs 2026-12-19"
    assert "flake_update.proposal_refreshed" in world.sink.names()


def test_a_branch_that_was_left_without_a_proposal_is_proposed(world):
    world.leave(YESTERDAY, lock=NEW)
    result = world.run()
    assert (result.outcome, result.branch) == (Outcome.PROPOSED, YESTERDAY)
    assert [pull.head for pull in world.pulls.pulls] == [YESTERDAY]


def test_a_newer_update_of_another_day_refreshes_the_open_proposal(world):
    world.propose(YESTERDAY, "", lock=NEWER)
    older = world.repository.remote[YESTERDAY]
    result = world.run()
    assert (result.outcome, result.branch) == (Outcome.PROPOSED, YESTERDAY)
    assert set(world.repository.remote) == {"main", YESTERDAY}
    tip = world.repository.commits[world.repository.remote[YESTERDAY]]
    assert world.repository.remote[YESTERDAY] != older
    assert (tip.parent, tip.files[LOCK_FILE]) == (world.repository.tip, lock_text(NEW))
    (pull,) = world.pulls.pulls
    assert "### web" in pull.body
    assert world.run().outcome is Outcome.ALREADY_PROPOSED


@pytest.mark.parametrize("change", ["a file", "the lock", "an empty message"])
def test_what_a_person_has_amended_in_an_open_proposal_is_not_overwritten(world, change):
    world.propose(YESTERDAY, "", lock=NEWER)
    repository = world.repository
    theirs = repository.commits[repository.remote[YESTERDAY]]
    files, message, parent = dict(theirs.files), theirs.message, theirs.parent
    if change == "a file":
        files["flake.nix"] = "{ amended = true; }"
    elif change == "the lock":
        files[LOCK_FILE] = lock_text(OLD)
    else:
        message, parent = "", repository.remote[YESTERDAY]
    tip = repository.remote[YESTERDAY] = repository.add(files, parent, message)
    result = world.run()
    assert (result.outcome, result.branch) == (Outcome.PROPOSED, TODAY)
    assert repository.remote[YESTERDAY] == tip


def test_a_refresh_that_fails_leaves_the_proposal_as_it_was(world):
    async def refused(*_arguments):
        raise ForgeError(Kind.FORGE_FORBIDDEN, "403")

    world.propose(YESTERDAY, "", lock=NEWER)
    older = dict(world.repository.remote)
    world.forge.refresh = refused
    assert world.run().error.kind is Kind.FORGE_FORBIDDEN
    assert world.repository.remote == older


def test_without_a_forge_each_day_has_a_branch_of_its_own(world):
    world.without("forge")
    world.leave(YESTERDAY, lock=NEWER)
    assert world.run().branch == TODAY


def test_an_older_proposal_with_commits_of_others_keeps_its_branch(world):
    theirs = "Mend what the update breaks"
    world.pulls.add(YESTERDAY, revision=world.leave(YESTERDAY, lock=NEWER, message=theirs))
    older = world.repository.remote[YESTERDAY]
    assert world.run().branch == TODAY
    assert world.repository.remote[YESTERDAY] == older
    first, second = world.pulls.pulls
    assert (first.head, second.head) == (YESTERDAY, TODAY)
    assert (first.state, first.comments) == (
        "open",
        ["There is a newer update: https://forge.test/2"],
    )


def test_a_note_on_the_older_proposal_may_fail(world):
    async def refused(*_arguments):
        raise ForgeError(Kind.FORGE_FORBIDDEN, "403")

    theirs = "Mend what the update breaks"
    world.pulls.add(YESTERDAY, revision=world.leave(YESTERDAY, lock=NEWER, message=theirs))
    world.forge.comment = refused
    assert world.run().outcome is Outcome.PROPOSED


def test_a_proposal_that_someone_opens_meanwhile_is_refreshed(world):
    async def already(head, base, *_texts):
        world.pulls.add(head, base, "by hand")
        raise ForgeError(Kind.FORGE_CONFLICT, "409")

    world.forge.open = already
    assert world.run().outcome is Outcome.PROPOSED
    (pull,) = world.pulls.pulls
    assert pull.title == "chore: update flake inputs 2026-12-19"


def test_a_conflict_without_an_open_proposal_is_a_fault(world):
    async def conflict(*_arguments):
        raise ForgeError(Kind.FORGE_CONFLICT, "409")

    world.forge.open = conflict
    assert world.run().error.kind is Kind.FORGE_CONFLICT
    assert set(world.repository.remote) == {"main"}


def test_a_second_update_of_a_day_refreshes_the_first_ones_proposal(world):
    world.run()
    world.builds.upstream = NEWER
    assert world.run().outcome is Outcome.PROPOSED
    (pull,) = world.pulls.pulls
    assert "### db" in pull.body
    tip = world.repository.commits[world.repository.remote[TODAY]]
    assert tip.files[LOCK_FILE] == lock_text(NEWER)


def test_an_older_good_update_is_kept_when_a_newer_one_fails(world):
    world.run()
    good = dict(world.repository.remote)
    world.builds.upstream = NEWER
    world.builds.unbuildable[system("db-2").derivation] = FAILS
    assert world.run().error.kind is Kind.HOSTS_BROKEN
    assert world.repository.remote == good


def test_commits_of_others_on_the_branch_are_never_overwritten(world):
    theirs = world.leave(TODAY, lock=NEWER, message="Mend what the update breaks")
    result = world.run()
    assert result.error.kind is Kind.BRANCH_DIVERGED
    assert world.repository.remote[TODAY] == theirs


def test_branches_of_other_names_and_unreadable_lock_files_are_passed_over(world):
    world.leave("flake-update-by-hand", lock=NEW)
    files = {LOCK_FILE: "<<<<<<<"}
    world.repository.remote[YESTERDAY] = world.repository.add(files, world.repository.tip, "x")
    world.repository.remote["flake-update-20261217"] = world.repository.add({}, None, "y")
    assert world.run().branch == TODAY


def test_an_update_that_someone_has_declined_is_not_proposed_again(world):
    world.run()
    world.pulls.pulls[0].state = "closed"
    for leaves_branch in (True, False):
        if not leaves_branch:
            del world.repository.remote[TODAY]
        result = world.run()
        assert (result.outcome, result.exit_code) == (Outcome.DECLINED, ExitCode.DONE)
        assert headline(result).startswith("declined: https://forge.test/1")
        assert messages(world)[-1] == (NOTHING, "low")
        assert world.notifier.told[-1].link == "https://forge.test/1"
    assert len(world.pulls.pulls) == 1

    world.builds.upstream = NEWER
    assert world.run().outcome is Outcome.PROPOSED
    assert len(world.pulls.pulls) == 2


def test_commits_of_others_in_a_declined_update_are_no_fault(world):
    world.run()
    world.pulls.pulls[0].state = "closed"
    files = world.repository.commits[world.repository.remote[TODAY]].files
    world.repository.remote[TODAY] = world.repository.add(
        files, world.repository.remote[TODAY], "Mend what the update breaks"
    )
    assert world.run().outcome is Outcome.DECLINED


def test_a_proposal_that_is_closed_while_the_next_is_proven_is_not_taken_for_it(world):
    world.run()
    world.builds.upstream = NEWER
    first = world.pulls.pulls[0]
    world.repository.on_push = lambda: setattr(first, "state", "closed")
    result = world.run()
    assert (result.outcome, result.proposal.number) == (Outcome.PROPOSED, 2)
    assert "### db" not in first.body


def test_without_a_forge_an_update_that_is_pushed_is_done(world):
    world.without("forge")
    assert world.run().outcome is Outcome.PUSHED
    pushed = dict(world.repository.remote)
    world.clock.seconds += 86400
    result = world.run()
    assert (result.outcome, result.exit_code) == (Outcome.ALREADY_PUSHED, ExitCode.DONE)
    assert TODAY in world.notifier.told[-1].body
    assert world.repository.remote == pushed
    world.advance_base()
    assert world.run().outcome is Outcome.PUSHED


def test_a_proposal_that_was_merged_and_reverted_may_come_again(world):
    world.run()
    world.pulls.pulls[0].state, world.pulls.pulls[0].is_merged = "closed", True
    assert world.run().outcome is Outcome.PROPOSED


# Whatever ends it early


def test_a_push_that_is_refused_leaves_nothing_to_take_back(world):
    world.repository.faults["push"] = GitError(Kind.PUSH_REFUSED, "protected")
    world.repository.faults["take_back"] = GitError(Kind.GIT_FAILED, "must not be asked for")
    assert world.run().error.kind is Kind.PUSH_REFUSED
    assert "flake_update.branch_left" not in world.sink.names()


def test_a_branch_whose_proposal_fails_is_removed_again(world):
    def refuse():
        world.forge.fault = None
        world.forge.open = refused

    async def refused(*_arguments):
        raise ForgeError(Kind.FORGE_UNPROCESSABLE, "422")

    world.repository.on_push = refuse
    assert world.run().error.kind is Kind.FORGE_UNPROCESSABLE
    assert set(world.repository.remote) == {"main"}
    assert "flake_update.branch_taken_back" in world.sink.names()


def test_a_proposal_that_was_opened_in_spite_of_the_fault_keeps_its_branch(world):
    async def opened_but_slow(head, base, title, body):
        world.pulls.add(head, base, title, body=body)
        raise ForgeError(Kind.FORGE_TIMEOUT, "no answer")

    world.forge.open = opened_but_slow
    assert world.run().error.kind is Kind.FORGE_TIMEOUT
    assert set(world.repository.remote) == {"main", TODAY}
    assert world.run().outcome is Outcome.ALREADY_PROPOSED


def test_a_refreshed_branch_goes_back_to_what_it_was(world):
    world.run()
    good = dict(world.repository.remote)
    world.builds.upstream = NEWER

    async def refused(*_arguments):
        raise ForgeError(Kind.FORGE_SERVER_ERROR, "500")

    world.forge.refresh = refused
    assert world.run().error.kind is Kind.FORGE_SERVER_ERROR
    assert world.repository.remote == good


def test_a_refresh_whose_answer_is_lost_keeps_the_branch_that_the_proposal_describes(world):
    world.run()
    world.builds.upstream = NEWER
    refresh = world.forge.refresh

    async def lost(*arguments):
        await refresh(*arguments)
        raise ForgeError(Kind.FORGE_UNREACHABLE, "timeout")

    world.forge.refresh = lost
    assert world.run().error.kind is Kind.FORGE_UNREACHABLE
    tip = world.repository.commits[world.repository.remote[TODAY]]
    lock = tip.files[LOCK_FILE]
    assert lock == lock_text(NEWER)
    assert mark_of(parse_lock_file(lock)) in world.pulls.pulls[0].body


def test_a_branch_that_cannot_be_taken_back_is_told(world):
    def cut():
        world.forge.fault = ForgeError(Kind.FORGE_UNREACHABLE, "gone")

    world.repository.on_push = cut
    assert world.run().error.kind is Kind.FORGE_UNREACHABLE
    assert set(world.repository.remote) == {"main", TODAY}
    titles = [title for title, _ in messages(world)]
    assert titles == ["❌ Flake Update Left A Branch", "❌ Flake Update Failed"]


def test_a_branch_that_cannot_be_taken_back_is_logged_where_nobody_is_told(world):
    world.without("notifier", "forge")
    world.repository.faults["take_back"] = GitError(Kind.REMOTE_UNREACHABLE, "gone")

    def fail():
        raise GitError(Kind.GIT_TIMEOUT, "too slow")

    world.repository.on_push = fail
    assert world.run().error.kind is Kind.GIT_TIMEOUT
    assert "flake_update.branch_left" in world.sink.names()


def test_an_interruption_takes_the_branch_back(world):
    async def hang(*_arguments):
        await asyncio.sleep(3600)

    async def main():
        task = asyncio.current_task()
        world.forge.open = hang
        world.repository.on_push = lambda: asyncio.get_running_loop().call_soon(task.cancel)
        await world.running()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert set(world.repository.remote) == {"main"}
    assert set(world.ground.directories) == {CHECKOUT}
    assert not world.repository.is_held


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_that_is_ended_is_told_all_the_same(world, dry_run):
    async def ended(*_arguments):
        asyncio.current_task().cancel()
        await asyncio.sleep(3600)

    world.builds.realise = ended
    with pytest.raises(asyncio.CancelledError):
        world.run(dry_run=dry_run)
    told = [(one.title, "asked to end" in one.body) for one in world.notifier.told]
    assert told == ([] if dry_run else [("❌ Flake Update Failed", True)])
    assert "flake_update.finished" not in world.sink.names()


def test_an_interruption_while_a_branch_is_taken_back_does_not_keep_it(world):
    async def refused(*_arguments):
        raise ForgeError(Kind.FORGE_UNPROCESSABLE, "422")

    async def main():
        task = asyncio.current_task()
        revert_branch = world.repository.revert_branch

        async def slow(*arguments):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await revert_branch(*arguments)

        world.forge.open = refused
        world.repository.revert_branch = slow
        await world.running()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert set(world.repository.remote) == {"main"}


def test_an_interruption_after_the_proposal_leaves_both(world):
    async def hang(*_arguments):
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await asyncio.sleep(3600)

    world.run()
    world.builds.upstream = NEWER
    world.change(labels=("flake",), assignees=("bob",))
    world.forge.add_labels = hang
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(world.running())
    tip = world.repository.commits[world.repository.remote[TODAY]]
    assert tip.files[LOCK_FILE] == lock_text(NEWER)
    assert "### db" in world.pulls.pulls[0].body


# Hydra


def test_hydra_proves_a_pushed_branch_before_it_is_proposed(world):
    world.asks_hydra()
    result = world.run()
    assert result.outcome is Outcome.PROPOSED
    assert world.jobset.asked == [world.repository.remote[TODAY]]
    assert set(world.repository.remote) == {"main", TODAY}
    pushed = [f["branch"] for e, f in world.sink.said if e.name.endswith("branch_pushed")]
    assert pushed == [CANDIDATE, TODAY]
    (pull,) = world.pulls.pulls
    assert "linux: 1 → 2" in pull.body
    assert "Hydra has built every host" in pull.body
    assert world.policy.verify is Verify.HYDRA


def test_what_is_in_no_cache_is_not_broken_when_hydra_has_built_it(world):
    world.asks_hydra()
    world.builds.unbuildable[system("web-2").derivation] = FAILS
    assert world.run().outcome is Outcome.PROPOSED
    assert "the packages were not compared" in world.pulls.pulls[0].body


def test_a_branch_that_hydra_cannot_build_is_taken_back(world):
    world.asks_hydra()
    world.jobset.jobs["web"] = [JobState.RED]
    result = world.run()
    assert result.error.kind is Kind.JOBS_RED
    assert "web failed: https://hydra.test/web" in result.error.message
    assert set(world.repository.remote) == {"main"}
    assert (result.branch, result.fields()["broken"]) == (None, ["web"])
    assert "web" not in result.fields()["changed"]
    assert messages(world) == [("❌ Flake Update Build Failed", "high")]


def test_where_hydra_will_evaluate_nothing_nothing_is_pushed(world):
    world.asks_hydra()
    world.jobset.refusal = HydraError(Kind.JOBSET_DISABLED, "disabled")
    result = world.run()
    assert (result.error.kind, result.exit_code) == (Kind.JOBSET_DISABLED, 66)
    assert "flake_update.branch_pushed" not in world.sink.names()


def test_a_proposal_never_shows_what_hydra_has_not_built(world):
    world.asks_hydra()
    world.run()
    good = dict(world.repository.remote)
    world.builds.upstream = NEWER
    seen = []
    world.repository.on_push = lambda: seen.append(dict(world.repository.remote))
    world.jobset.jobs["db"] = [JobState.RED]
    assert world.run().error.kind is Kind.JOBS_RED
    assert world.repository.remote == good
    assert seen == [good]


def test_a_candidate_that_a_killed_run_has_left_is_taken_over(world):
    world.asks_hydra()
    world.leave(CANDIDATE, lock=NEWER)
    assert world.run().outcome is Outcome.PROPOSED
    assert set(world.repository.remote) == {"main", TODAY}


def test_a_candidate_with_commits_of_others_is_not_overwritten(world):
    world.asks_hydra()
    theirs = world.leave(CANDIDATE, lock=NEWER, message="Try something")
    result = world.run()
    assert (result.error.kind, result.error.message.split()[0]) == (
        Kind.BRANCH_DIVERGED,
        CANDIDATE,
    )
    assert world.repository.remote == {"main": world.repository.tip, CANDIDATE: theirs}


def test_a_candidate_that_cannot_be_pushed_or_removed_is_told(world):
    world.asks_hydra()
    world.repository.faults["push"] = GitError(Kind.PUSH_REFUSED, "protected")
    assert world.run().error.kind is Kind.PUSH_REFUSED
    assert "flake_update.branch_left" not in world.sink.names()
    world.repository.faults = {"take_back": GitError(Kind.REMOTE_UNREACHABLE, "gone")}
    assert world.run().outcome is Outcome.PROPOSED
    assert "flake_update.branch_left" in world.sink.names()
    assert "❌ Flake Update Left A Branch" in [title for title, _ in messages(world)]


def test_an_interruption_while_hydra_builds_removes_the_candidate(world):
    async def main():
        task = asyncio.current_task()

        async def interrupted(_revision):
            task.cancel()
            await asyncio.sleep(3600)

        world.jobset.find_eval = interrupted
        await world.running()

    world.asks_hydra()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert set(world.repository.remote) == {"main"}


def test_the_packages_that_hydra_has_built_are_of_trees_without_changes(world):
    world.asks_hydra()
    compared = []
    evaluate = world.builds.evaluate

    async def remembered(flake, hosts, **more):
        compared.append((world.ground.directories[flake][LOCK_FILE], tuple(hosts)))
        return await evaluate(flake, hosts, **more)

    world.builds.evaluate = remembered
    world.run()
    dirty, *_, before, after = compared
    assert dirty == (lock_text(OLD) + "\n", ("db", "web"))
    assert (before, after) == ((lock_text(OLD), ("web",)), (lock_text(NEW), ("web",)))


def test_a_host_that_refuses_a_dirty_tree_has_a_hint(world):
    refuses = Broken(Stage.EVALUATION, "error: Refusing to build from a dirty Git tree!", "")
    world.builds.fleets = {NEW: {"web": refuses}, OLD: {"web": refuses}}
    assert "self.dirtyRev" in world.run().error.hint
    world.builds.fleets = {NEW: {"web": FAILS}, OLD: {"web": FAILS}}
    assert "self.dirtyRev" not in world.run().error.hint


def test_of_two_runs_at_once_one_tells(world):
    world.repository.is_held = True
    assert world.run().error.kind is Kind.REPOSITORY_BUSY
    assert messages(world) == []


def test_nothing_is_said_in_proposals_that_are_of_others(world):
    theirs = world.leave("flake-update-by-hand", lock=NEWER, message="Mine")
    world.pulls.add("flake-update-by-hand", revision=theirs)
    assert world.run().outcome is Outcome.PROPOSED
    assert world.pulls.pulls[0].comments == []


def test_hydra_is_not_asked_for_a_host_that_never_evaluated(world):
    world.asks_hydra()
    leave_broken(world, Stage.EVALUATION)
    world.jobset.jobs = {"web": [JobState.GREEN], "db": [JobState.WAITING]}
    assert world.run().outcome is Outcome.PROPOSED
    (pull,) = world.pulls.pulls
    assert "### db\n```\ndoes not evaluate, as before: linux failed" in pull.body
    assert "*Hydra has built every other host" in pull.body


def test_a_host_that_hydra_cannot_build_blocks_since_nobody_has_seen_it_broken_before(world):
    world.asks_hydra()
    world.jobset.jobs = {"db": [JobState.RED]}
    assert world.run().error.kind is Kind.JOBS_RED


def test_a_host_that_does_not_evaluate_is_not_even_pushed(world):
    world.asks_hydra()
    pushed = []
    world.repository.on_push = lambda: pushed.append(1)
    world.builds.fleets = {NEW: {"web": FAILS}, OLD: {"web": system("web-1")}}
    assert world.run().error.kind is Kind.HOSTS_BROKEN
    assert pushed == []
