from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application import events
from agent.application.confirm.confirm import (
    action_of,
    confirm_pending,
    is_overdue,
    report_decision,
    take_as_confirmed,
)
from agent.application.manual import verdicts
from agent.domain.check import CheckResult, IcmpCheck
from agent.domain.confirmation import Baseline
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.policy import Action, OnFailure
from agent.domain.run_record import altered
from agent.domain.unit_names import CONFIRM_UNIT, GARBAGE_COLLECTION_UNIT
from fakes.pending import FULL, NEW, STRANGE, WELL, carry_out_with, pending_world, row_of_upgrade
from fakes.prober import FakeProber, RogueProber
from fakes.runs import NOW, a_run, an_arrival
from fakes.samples import JOB, OLD
from fakes.world import SERVICE, WATCHFUL

HOLDS = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, on_failure=OnFailure.HOLD))
COLLECTS = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, collects_garbage=True))


@pytest.fixture
def world():
    return pending_world()


def confirm(world, policy=WATCHFUL):
    return carry_out_with(world, lambda run: confirm_pending(run, NEW), policy)


def is_untouched(world):
    """Whether the host still waits, on the new system, for someone to decide."""
    return (
        world.host.running == world.host.profile == world.marks.links[Mark.PENDING] == NEW
        and world.marks.links[Mark.CONFIRMED] == OLD
        and world.systemd.activated == []
        and world.journal.denied == []
        and world.systemd.timer is not None
    )


def rival(world, to):
    """Let someone else decide just before this run does."""

    def decide():
        world.marks.links[to] = world.marks.links.pop(Mark.PENDING)

    world.marks.before_move = decide


# Healthy


def test_a_healthy_system_is_confirmed_and_its_timer_removed(world):
    report = confirm(world)
    assert (report.outcome, report.exit_code) == (Outcome.CONFIRMED, ExitCode.DONE)
    assert world.marks.read() == Marks(confirmed=NEW)
    assert world.systemd.timer is None
    assert world.told.fields_of(events.SYSTEM_CONFIRMED) == {"toplevel": NEW}
    row = row_of_upgrade(world)
    assert (row.outcome, row.reasons, row.finished_at) == ("confirmed", (), world.clock.now())


def test_the_first_judgement_waits_until_the_system_has_settled(world):
    asked = []
    world.steps.at("probe service", lambda: asked.append(world.clock.seconds))
    confirm(world)
    assert asked == [30]


def test_checks_are_repeated_more_and_more_slowly_until_the_deadline_ends(world):
    asked = []
    world.steps.at("probe service", lambda: asked.append(world.clock.seconds - 30))
    world.service_breaks()
    confirm(world)
    assert asked[:7] == [0, 1, 3, 7, 15, 30, 45]
    assert asked[-2:] == [585, 600]


def test_a_service_that_comes_up_late_is_no_reason_to_roll_back(world):
    def comes_up():
        if world.steps.count("probe service") == 3:
            world.all_is_well()

    world.service_breaks()
    world.steps.at("probe service", comes_up)
    assert confirm(world).outcome is Outcome.CONFIRMED
    assert world.systemd.activated == []


def test_a_dry_activation_in_between_is_not_the_upgrade_that_is_judged(world):
    """Its row has no baseline: nothing that fails would prove anything."""
    world.journal.record(an_arrival(3, NEW, "dry-activated", baseline=None))
    world.service_breaks()
    assert world.carry_out(verdicts.confirm).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD
    assert row_of_upgrade(world).outcome == "rolled-back"


def test_a_switch_that_is_confirmed_ends_what_test_had_brought(world):
    world.marks.set(Mark.TESTED, STRANGE)
    confirm(world)
    assert world.marks.read() == Marks(confirmed=NEW)


def test_a_boot_default_that_is_someone_elses_stays(world):
    world.host.loader.installed = STRANGE
    assert confirm(world).outcome is Outcome.CONFIRMED
    assert world.host.loader.installed == STRANGE
    assert world.systemd.activated == []


def test_garbage_is_collected_once_an_upgrade_is_confirmed(world):
    assert confirm(world).outcome is Outcome.CONFIRMED
    assert world.systemd.started_later == []
    world = pending_world()
    assert confirm(world, COLLECTS).outcome is Outcome.CONFIRMED
    assert world.systemd.started_later == [GARBAGE_COLLECTION_UNIT]


def test_nothing_is_collected_after_a_roll_back_or_while_a_system_is_pending(world):
    world.service_breaks()
    assert confirm(world, COLLECTS).outcome is Outcome.ROLLED_BACK
    assert world.systemd.started_later == []
    world = pending_world(Action.TEST)
    assert confirm(world, COLLECTS).outcome is Outcome.CONFIRMED
    assert world.systemd.started_later == []


def test_a_system_that_only_runs_by_test_is_no_target_of_a_roll_back():
    world = pending_world(Action.TEST)
    assert confirm(world).outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=OLD, tested=NEW)


# More checks than there is time for


CROWD = tuple(
    IcmpCheck(f"c{number}", f"c{number}.example", timedelta(seconds=1)) for number in range(400)
)
CROWDED = replace(
    WATCHFUL,
    confirm=replace(
        WATCHFUL.confirm, checks=CROWD, deadline=timedelta(seconds=1), asks_hydra=False
    ),
)


def crowded_world(ill=()):
    """Return a world with room for 16 checks, which take 0.16 s each, and all were well before."""
    was = Baseline(dict.fromkeys((check.name for check in CROWD), True), frozenset())
    world = pending_world(baseline=was.serialise())

    def act(check):
        async def takes_time():
            asyncio.get_running_loop().skipped += 0.01
            world.clock.seconds += 0.01
            for _ in range(5):  # whatever is due has its turn
                await asyncio.sleep(0)
            return CheckResult(check, is_well=check.name not in ill, reason="no reply")

        return takes_time

    world.prober = RogueProber({check.name: act(check) for check in CROWD}, room=16)
    return world


def test_of_400_checks_with_a_deadline_of_a_second_those_without_room_are_inconclusive_by_name():
    world = crowded_world()
    report = confirm(world, CROWDED)
    assert report.outcome is Outcome.PENDING
    assert is_untouched(world)
    seen = [fields for event, fields in world.told.said if event is events.CHECK_FINISHED]
    last = {fields["check"]: fields for fields in seen[-400:]}
    late = {name for name, fields in last.items() if not fields["well"]}
    assert len(last) == 400
    assert 0 < len(late) < 400
    assert not any(last[name]["conclusive"] for name in late)
    assert {reason.partition(":")[0] for _, reason in report.reasons} == late
    assert {name for name, _ in report.reasons} == {"check-impossible"}
    assert world.clock.seconds < 60


def test_of_400_checks_one_that_had_its_turn_and_failed_is_proof_enough():
    world = crowded_world(ill={"c0"})
    report = confirm(world, CROWDED)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.marks.read() == Marks(confirmed=OLD)


# Broken


def test_a_system_that_breaks_a_checked_service_is_rolled_back_from_and_denied(world):
    world.service_breaks()
    report = confirm(world)
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.FAILED)
    assert report.error.kind is Kind.ROLLED_BACK
    assert "service: no reply" in report.error.message
    assert world.told.fields_of(events.RUN_FAILED)["error.kind"] is Kind.ROLLED_BACK
    assert world.host.running == world.host.profile == OLD
    assert world.marks.read() == Marks(confirmed=OLD)
    (denial,) = world.journal.denied
    assert (denial.toplevel, denial.reason) == (NEW, "service: no reply")
    ill = [{"name": "check-failed", "reason": "service: no reply"}]
    assert world.told.fields_of(events.CONFIRMATION_BROKEN) == {
        "toplevel": NEW, "reasons": ill, "rolls_back": True
    }  # fmt: skip
    assert world.told.fields_of(events.CONFIRMATION_JUDGED)["reasons"] == ill
    assert world.told.fields_of(events.CONFIRMATION_JUDGED)["verdict"] == "broken"


def test_a_broken_system_that_was_booted_is_left_too():
    world = pending_world(Action.BOOT)
    world.host.boot()
    world.service_breaks()
    assert confirm(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == world.host.profile == OLD
    assert world.systemd.activated == [(Action.SWITCH, OLD)]


def test_a_host_that_is_cut_off_is_rolled_back(world):
    world.host_is_cut_off()
    assert confirm(world).outcome is Outcome.ROLLED_BACK


def test_a_failed_unit_counts_where_this_switch_has_changed_its_file(world):
    world.host.contents[NEW].units["web.service"] = "new"
    world.systemd.failed = frozenset({"web.service"})
    assert confirm(world).outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize("unit", ["other.service", CONFIRM_UNIT])
def test_a_unit_that_the_switch_left_alone_and_our_own_are_no_reason(world, unit):
    world.host.contents[NEW].units[CONFIRM_UNIT] = "newer"
    world.systemd.failed = frozenset({unit})
    assert confirm(world).outcome is Outcome.CONFIRMED


def test_without_a_system_to_compare_with_no_unit_counts_as_changed(world):
    world.marks.remove(Mark.CONFIRMED)
    world.host.contents[NEW].units["web.service"] = "new"
    world.systemd.failed = frozenset({"web.service"})
    assert confirm(world).outcome is Outcome.CONFIRMED


def test_a_history_that_cannot_be_read_does_not_keep_a_broken_system(world):
    world.service_breaks()
    world.steps.at("probe service", lambda: setattr(world.journal, "read_fault", FULL))
    assert confirm(world).outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD
    assert events.RECORD_FAILED.name in world.told.names()


# Left to a person


def test_a_broken_system_stays_where_the_settings_say_so(world):
    world.service_breaks()
    report = confirm(world, HOLDS)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert [name for name, _ in report.reasons] == ["confirmation-failed", "check-failed"]
    assert is_untouched(world)
    assert row_of_upgrade(world).reasons == report.reasons
    assert world.told.fields_of(events.CONFIRMATION_BROKEN)["rolls_back"] is False


def test_what_was_denied_while_it_was_pending_is_never_rolled_back_from_again(world):
    world.journal.deny(Denial(NEW, "no", NOW, "agent"))
    world.service_breaks()
    report = confirm(world)
    assert report.outcome is Outcome.PENDING
    assert "denied before" in report.reasons[0][1]
    assert (world.host.running, world.systemd.activated) == (NEW, [])


def test_a_pending_system_that_a_person_has_denied_is_not_confirmed_by_being_well(world):
    world.journal.deny(Denial(NEW, "it eats the data", NOW, "ada"))
    report = confirm(world)
    assert report.outcome is Outcome.PENDING
    assert report.reasons[1] == ("denied", "denied by ada: it eats the data")
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert world.systemd.activated == []


def test_a_system_that_stayed_after_a_failed_activation_is_not_confirmed_by_being_well():
    world = pending_world(fault="broken", error_message="the activation script failed")
    report = confirm(world, HOLDS)
    assert (report.outcome, report.reasons[1]) == (
        Outcome.PENDING, (Kind.ACTIVATION_FAILED, "the activation script failed")
    )  # fmt: skip
    assert is_untouched(world)


def test_such_a_system_is_rolled_back_from_once_the_settings_allow_it():
    world = pending_world(fault="suspect")
    report = confirm(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert "did not end well" in report.error.message


# Inconclusive


def unasked_before(world):
    world.journal.rows[0] = altered(
        world.journal.rows[0], baseline=replace(WELL, checks={}).serialise()
    )
    world.service_breaks()


def clock_lost(world):
    world.service_breaks()
    world.systemd.is_synchronised = False


DOUBTS = {
    "hydra-unreachable": lambda world: world.hydra_is_gone(),
    "check-impossible": lambda world: (world.service_breaks(), world.prober.unproven.add(SERVICE)),
    "check-new": unasked_before,
    "units-unknown": lambda world: setattr(world.systemd, "failed", None),
    "clock-unsynchronised": clock_lost,
    "foreign-system": lambda world: world.somebody_switches(STRANGE),
    "activation-busy": lambda world: setattr(world.systemd, "is_running", True),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_a_doubt_neither_rolls_back_nor_denies_nor_confirms(world, name):
    DOUBTS[name](world)
    report = confirm(world)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)
    assert report.reasons[0][0] == name
    assert world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    assert (world.systemd.activated, world.journal.denied) == ([], [])
    assert row_of_upgrade(world).reasons == report.reasons


@pytest.mark.parametrize("name", ["foreign-system", "activation-busy"])
def test_a_roll_back_does_not_undo_what_a_person_does_meanwhile(world, name):
    world.service_breaks()
    DOUBTS[name](world)
    running = world.host.running
    assert confirm(world).outcome is Outcome.PENDING
    assert (world.host.running, world.systemd.activated) == (running, [])


def test_a_lost_baseline_proves_nothing_broken(world):
    world.journal.rows[0] = altered(world.journal.rows[0], baseline=None)
    world.host_is_cut_off()
    world.service_breaks()
    assert confirm(world).outcome is Outcome.PENDING
    assert Baseline.parse(None) == Baseline()


def test_a_doubt_on_a_full_disk_is_still_a_doubt(world):
    world.hydra_is_gone()
    world.journal.fault = FULL
    report = confirm(world)
    assert (report.outcome, report.exit_code) == (Outcome.PENDING, ExitCode.HELD)


@pytest.mark.parametrize(
    ("waited", "event"),
    [
        (timedelta(hours=23), events.CONFIRMATION_INCONCLUSIVE),
        (timedelta(hours=25), events.CONFIRMATION_OVERDUE),
    ],
)
def test_a_person_is_asked_once_patience_is_over(world, waited, event):
    world.clock.move(waited.total_seconds())
    world.hydra_is_gone()
    confirm(world)
    assert event.name in world.told.names()
    assert is_untouched(world)


@pytest.mark.parametrize("years", [-40, 40])
def test_patience_is_not_over_because_the_clock_was_set(world, years):
    world.clock.instant += timedelta(days=365 * years)
    world.hydra_is_gone()
    confirm(world)
    assert events.CONFIRMATION_OVERDUE.name not in world.told.names()
    assert is_untouched(world)


def test_patience_counts_while_a_system_is_judged(world):
    counted = []
    world.marks.on_look = lambda: counted.append(world.clock.seconds)
    world.service_breaks()
    confirm(world, HOLDS)
    assert counted[:3] == [0, 30, 31]
    assert counted[-1] == 630


def test_a_mark_that_cannot_be_looked_at_keeps_nobody_from_a_verdict(world):
    def breaks():
        raise HostError(Kind.MARKS_UNUSABLE, "input/output error")

    world.marks.on_look = breaks
    assert confirm(world).outcome is Outcome.CONFIRMED


def test_a_check_that_comes_too_late_at_the_end_counts_as_it_did_before(world):
    world.prober = LatePasses()
    report = confirm(world)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reasons == (("check-failed", "service: no reply"),)


class LatePasses(FakeProber):
    """Has time for every check in its first pass only."""

    def __init__(self):
        super().__init__({SERVICE: "no reply"})
        self.passes = 0

    async def probe(self, check):
        told = await super().probe(check)
        if check.target != SERVICE:
            return told
        self.passes += 1
        if self.passes == 1:
            return told
        return replace(told, reason="not asked", is_conclusive=False, is_cut_short=True)


def test_nothing_is_overdue_where_nothing_is_pending(world):
    world.marks.remove(Mark.PENDING)
    world.clock.move(10**6)
    found = []

    async def ask(run):
        found.append(is_overdue(run))

    carry_out_with(world, ask)
    assert found == [False]


# Decided by someone else


@pytest.mark.parametrize(
    ("to", "outcome"),
    [(Mark.CONFIRMED, Outcome.CONFIRMED), (Mark.ROLLING_BACK, Outcome.ROLLED_BACK)],
)
@pytest.mark.parametrize("is_well", [True, False])
def test_who_comes_second_stands_down_and_tells_what_the_first_has_done(
    world, to, outcome, is_well
):
    if not is_well:
        world.service_breaks()
    rival(world, to)
    report = confirm(world)
    assert report.outcome is outcome
    assert events.CLAIM_LOST.name in world.told.names()
    assert (world.systemd.activated, world.journal.denied) == ([], [])
    assert world.marks.links[to] == NEW
    assert row_of_upgrade(world).outcome == "pending"


@pytest.mark.parametrize(
    ("marks", "rows", "outcome"),
    [
        ({Mark.TESTED: NEW}, (), Outcome.CONFIRMED),
        ({Mark.ROLLED_BACK: NEW}, (), Outcome.ROLLED_BACK),
        ({}, ("rolled-back", "held"), Outcome.ROLLED_BACK),
        ({}, ("rolled-back", "failed"), Outcome.HELD),
        ({}, (), Outcome.HELD),
    ],
)
def test_what_became_of_a_system_is_told_by_marks_and_history(world, marks, rows, outcome):
    world.marks.links = {Mark.CONFIRMED: OLD, **marks}
    world.journal.rows.clear()
    for number, told in enumerate(rows, 1):
        previous = None if told == "held" else OLD
        world.journal.record(a_run(number, outcome=told, toplevel=NEW, previous=previous))

    async def tell(run):
        return report_decision(run, NEW)

    report = carry_out_with(world, tell)
    assert report.outcome is outcome
    assert (report.error is not None) is (outcome is Outcome.ROLLED_BACK)
    assert ("not-pending" in dict(report.reasons)) is (outcome is Outcome.HELD)
    assert report.is_recorded_elsewhere
    assert len(world.journal.rows) == len(rows)


def test_where_the_history_cannot_tell_the_confirmed_system_was_likely_rolled_back_to(world):
    world.marks.links.pop(Mark.PENDING)

    async def tell(run):
        world.journal.read_fault = FULL
        return report_decision(run, NEW)

    assert carry_out_with(world, tell).outcome is Outcome.ROLLED_BACK


def test_a_claim_that_is_lost_leaves_the_timer_to_whoever_has_won(world):
    rival(world, Mark.ROLLING_BACK)
    carry_out_with(world, lambda run: take_as_confirmed(run, NEW))
    assert world.systemd.timer is not None


@pytest.mark.parametrize(
    ("told", "action"),
    [(None, Action.SWITCH), ("test", Action.TEST), ("boot", Action.BOOT), ("jump", Action.SWITCH)],
)
def test_the_action_of_a_row_that_does_not_tell_is_a_switch(told, action):
    assert action_of(a_run(action=told, job=JOB.key)) is action
