"""Gates at their stages: what changes while a candidate is fetched or a reboot prepared is seen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, time, timedelta

import pytest

from agent.application import events
from agent.application.facts.ask_gates import ask_again
from agent.application.facts.foreign import find_intervention
from agent.application.manual.pauses import reboot_by_hand
from agent.application.run import RunSettings, begin
from agent.domain.errors import ActivationError, ExitCode, HostError, JournalError, Kind
from agent.domain.gate import Gate, Stage, no_facts
from agent.domain.gates import asked_at, ignorable, registered
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.path_record import Denial
from agent.domain.pause import Pause
from agent.domain.policy import Action, RebootMode
from agent.domain.reboot import Inhibitor
from agent.domain.systems import Systems
from agent.domain.unit_names import CONFIRM_UNIT
from agent.domain.window import Schedule, Window
from fakes.loader import FakeLoader, SlowLoader
from fakes.runs import a_run, an_arrival
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.world import STORE, WATCHFUL, World, candidate_of, system

NEW, HOTFIX = system(1), system(9)
WINDOWED = replace(
    WATCHFUL,
    upgrade_schedule=Schedule(
        (Window(frozenset(range(7)), time(4, 10), timedelta(hours=1), UTC),),
        margin=timedelta(minutes=15),
    ),
)
"""Open for another half an hour when a world begins."""
NIGHTLY_REBOOTS = replace(
    WATCHFUL, reboot=replace(WATCHFUL.reboot, schedule=WINDOWED.upgrade_schedule)
)
NIGHTLY = replace(NIGHTLY_REBOOTS, upgrade_schedule=WINDOWED.upgrade_schedule)
REBOOTS = replace(NIGHTLY, reboot_mode=RebootMode.WHEN_NEEDED)


@pytest.fixture
def world():
    """A confirmed host in which every gate is asked and open, and a good build of NEW."""
    world = World()
    world.publish(1, NEW)
    world.marks.links = {Mark.CONFIRMED: OLD}
    world.systemd.host_upgrades = False
    return world


# What closes each gate


def is_paused(world):
    world.journal.set_pause(Pause("audit", "eve", world.clock.now()))


def is_upgraded_below(world):
    world.systemd.host_upgrades = True


def has_booted_another_entry(world):
    """Let the profile be what waits for nothing, and the booted system another one."""
    other = system(7)
    world.host.contents[other] = system_with("k1")
    world.host.booted = world.host.running = other
    world.host.booted_when = world.clock.now()
    world.marks.links[Mark.TESTED] = other


def is_switched(world):
    world.somebody_switches(HOTFIX)


def is_denied(world):
    world.journal.deny(Denial(NEW, "it broke sshd", world.clock.now(), "eve"))


def is_suspected(world):
    at = {"fault": "suspect", "finished_at": world.clock.now()}
    world.journal.record(a_run(9, outcome="failed", toplevel=NEW, **at))


def has_taken_a_newer_build(world):
    world.journal.record(an_arrival(2, system(5)))


def is_late(world):
    world.clock.move(3600)


def loses_the_time(world):
    world.systemd.is_synchronised = False


def is_inhibited(world):
    world.logind.inhibiting = (Inhibitor("backup", "a dump is being written"),)


def has_users(world):
    world.logind.logged_in = ("ann",)


def fills_the_boot_partition(world):
    world.host.space = replace(world.host.space, boot=0)


def fills_the_store(world):
    world.host.space = replace(world.host.space, store=0)


def is_failing(world):
    world.canary_dies()


def loses_the_agent(world):
    world.host.contents[NEW].units.pop(CONFIRM_UNIT)


def loses_its_specialisation(world):
    """Let what runs be a specialisation of the confirmed system, as which the candidate has none."""
    base = system(8)
    world.host.contents[base] = system_with("k1")
    world.host.contents[base].specialisations["quiet"] = OLD
    world.marks.links[Mark.CONFIRMED] = base
    if world.host.profile == OLD:
        world.host.profile = base


CLOSES = {
    "paused": is_paused,
    "host-upgrade": is_upgraded_below,
    "booted-unexpected": has_booted_another_entry,
    "foreign-system": is_switched,
    "denied": is_denied,
    "suspect": is_suspected,
    "downgrade": has_taken_a_newer_build,
    "upgrade-window": is_late,
    "clock": loses_the_time,
    "reboot-window": is_late,
    "inhibited": is_inhibited,
    "users": has_users,
    "boot-space": fills_the_boot_partition,
    "store-space": fills_the_store,
    "health": is_failing,
    "agent-removed": loses_the_agent,
    "specialisation-lost": loses_its_specialisation,
}

POLICIES = {"upgrade-window": WINDOWED, "reboot-window": NIGHTLY_REBOOTS}
"""Of gates that another one would go before, if both had windows."""


def again(world, stage, policy=WINDOWED, candidate=..., **asked):
    run = begin(world.ports, policy, RunSettings("run-1", STORE, **asked))
    found = candidate_of(world.hydra.builds[1]) if candidate is ... else candidate
    return asyncio.run(ask_again(run, stage, NEW, found))


def reasons(report):
    return [name for name, _ in report.reasons]


# By construction


def test_of_every_gate_this_file_knows_what_closes_it():
    assert set(CLOSES) == set(registered())


def test_a_gate_without_a_stage_cannot_be_declared():
    with pytest.raises(TypeError, match="'never' has no stage"):
        Gate("never", 1, (), "never", no_facts, lambda *_: None)


def test_every_gate_but_those_of_a_reboot_is_asked_just_before_an_activation():
    left_out = set(registered().values()) - {*asked_at(Stage.BEFORE_ACTIVATION)}
    assert {gate.name for gate in left_out} == {"reboot-window", "inhibited", "users"}


def test_what_does_not_bear_on_a_reboot_is_named_here():
    left_out = set(registered().values()) - {*asked_at(Stage.BEFORE_REBOOT)}
    assert {gate.name for gate in left_out} == {
        "host-upgrade",  # a home's
        "downgrade",  # it is taken already
        "upgrade-window",  # it has windows of its own
        *("boot-space", "store-space"),  # it writes to neither
    }


@pytest.mark.parametrize("stage", [Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT])
@pytest.mark.parametrize("gate", registered())
def test_a_gate_holds_at_its_stages_and_at_no_other(world, gate, stage):
    CLOSES[gate](world)
    told = again(world, stage, POLICIES.get(gate, NIGHTLY))
    if stage in registered()[gate].stages:
        assert (told.gate, told.is_open) == (gate, False)
        assert world.told.fields_of(events.GATE_HELD) == {"gate": gate, "reason": told.reason}
    else:
        assert told is None
        assert events.GATE_HELD.name not in world.told.names()


@pytest.mark.parametrize("stage", [Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT])
def test_where_all_are_open_the_run_goes_on(world, stage):
    assert again(world, stage) is None


def test_what_takes_its_time_is_asked_first_so_that_the_rest_is_fresh(world):
    world.steps.at("probe canary", lambda: is_paused(world))
    assert again(world, Stage.BEFORE_ACTIVATION).gate == "paused"


@pytest.mark.parametrize("gate", ignorable())
def test_a_gate_that_a_person_passes_is_passed_late_too(world, gate):
    CLOSES[gate](world)
    policy, asked = POLICIES.get(gate, NIGHTLY), {"ignored_gates": frozenset({gate})}
    for stage in registered()[gate].stages:
        assert not stage.is_late or again(world, stage, policy, **asked) is None


UNKNOWN = [
    ("systems", HostError(Kind.HOST_UNREADABLE, "a loop")),
    ("highest-build", JournalError(Kind.STATE_UNUSABLE, "no history")),
    ("free-space", HostError(Kind.HOST_UNREADABLE, "no such directory")),
]


@pytest.mark.parametrize(("step", "fault"), UNKNOWN)
def test_a_late_answer_that_is_unknown_holds(world, step, fault):
    world.steps.at(step, fault)
    told = again(world, Stage.BEFORE_ACTIVATION)
    assert (told.is_open, told.reason) == (False, fault.message)


def test_a_history_that_cannot_be_read_any_more_holds(world):
    world.journal.read_fault = JournalError(Kind.STATE_UNUSABLE, "no history")
    for stage in (Stage.BEFORE_ACTIVATION, Stage.BEFORE_REBOOT):
        assert "no history" in again(world, stage).reason


def test_nothing_is_asked_of_the_caches_for_what_is_here(world):
    again(world, Stage.BEFORE_ACTIVATION)
    assert "plan_fetch" not in world.steps


def test_without_a_candidate_nothing_is_a_downgrade(world):
    has_taken_a_newer_build(world)
    assert again(world, Stage.BEFORE_ACTIVATION, candidate=None) is None


# While a candidate is fetched


DURING = [
    gate.name for gate in asked_at(Stage.BEFORE_ACTIVATION) if gate.name != "booted-unexpected"
]


@pytest.mark.parametrize("gate", DURING)
@pytest.mark.parametrize("moment", ["substitute", "probe service"])
def test_a_gate_that_closes_during_a_run_holds_it(world, gate, moment):
    world.steps.at(moment, lambda: CLOSES[gate](world))
    report = world.run(WINDOWED)
    assert (report.outcome, report.exit_code) == (Outcome.HELD, ExitCode.HELD)
    assert (report.decision, reasons(report)) == ("hold", [gate])
    assert world.marks.read() == Marks(confirmed=world.marks.read().confirmed)
    assert not world.nixos_rebuild.activated
    assert [row.previous for row in world.journal.rows if row.run_id == "run-1"] == [None]


def test_a_hot_fix_during_the_fetch_is_left_alone(world):
    world.steps.at("substitute", lambda: world.somebody_switches(HOTFIX))
    world.run()
    assert world.links() == (HOTFIX, OLD, HOTFIX)
    world.steps.calm()
    assert reasons(world.run()) == ["foreign-system"]
    assert world.links() == (HOTFIX, OLD, HOTFIX)


@pytest.mark.parametrize("action", [Action.SWITCH, Action.BOOT, Action.TEST])
@pytest.mark.parametrize("moment", ["substitute", "journal armed", "mark pending", "arm"])
def test_a_system_that_a_person_brings_until_the_very_end_is_left_alone(world, action, moment):
    world.host.contents[HOTFIX] = system_with("k1")
    world.steps.at(moment, lambda: world.host.activate(action, HOTFIX))
    report = world.run()
    assert (report.outcome, reasons(report)) == (Outcome.HELD, ["foreign-system"])
    assert HOTFIX in world.links()
    assert NEW not in world.links()
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.systemd.timer is None
    assert (world.last_row().outcome, world.last_row().previous) == ("held", None)


def test_a_switch_to_a_system_that_the_agent_knows_is_a_persons_too(world):
    world.host.contents[HOTFIX] = system_with("k1")
    world.marks.links[Mark.TESTED] = HOTFIX
    world.steps.at("substitute", lambda: world.somebody_switches(HOTFIX))
    report = world.run()
    assert (report.outcome, reasons(report)) == (Outcome.HELD, ["foreign-system"])
    assert f"was {OLD} when this run began, and is {HOTFIX} now" in report.reasons[0][1]
    assert world.host.running == HOTFIX


@pytest.mark.parametrize("hold", [timedelta(0), timedelta(days=1)])
def test_what_comes_during_the_run_is_not_what_was_passed_before_it(world, hold):
    world.steps.at("substitute", lambda: world.somebody_switches(HOTFIX))
    report = world.carry_out(
        upgrade_of_agent,
        replace(WATCHFUL, foreign_hold=hold),
        ignored_gates=frozenset({"foreign-system"}),
    )
    assert (report.outcome, reasons(report)) == (Outcome.HELD, ["foreign-system"])
    assert world.host.running == HOTFIX


async def upgrade_of_agent(ports, policy, settings):
    from agent.application.upgrade import upgrade

    return await upgrade(ports, policy, settings)


@pytest.mark.parametrize("moment", ["substitute", "arm"])
@pytest.mark.parametrize("is_running", [True, None])
def test_an_activation_that_is_or_may_be_at_work_goes_first(world, moment, is_running):
    def begin_it():
        world.systemd.is_running = is_running

    world.steps.at(moment, begin_it)
    report = world.run()
    assert (report.outcome, report.error.kind) == (Outcome.HELD, Kind.ACTIVATION_BUSY)
    assert world.links() == (OLD, OLD, OLD)
    assert world.last_row().previous is None
    assert world.marks.read() == Marks(confirmed=OLD)
    assert world.systemd.timer is None


def test_links_that_cannot_be_read_at_the_very_end_leave_the_host_alone(world):
    world.steps.at("arm", lambda: setattr(world.host, "fault", UNKNOWN[0][1]))
    report = world.run()
    assert report.error.kind is Kind.HOST_UNREADABLE
    world.host.fault = None
    assert world.links() == (OLD, OLD, OLD)
    assert world.last_row().previous is None
    assert world.marks.read() == Marks(confirmed=OLD)


def test_what_was_held_late_goes_through_once_it_is_open(world):
    world.steps.at("substitute", lambda: is_paused(world))
    assert reasons(world.run(WINDOWED)) == ["paused"]
    world.steps.calm()
    world.journal.set_pause(None)
    assert world.run(WINDOWED).outcome is Outcome.CONFIRMED


def test_a_denied_build_is_not_activated_as_another_path(world):
    lenient = replace(WATCHFUL, verify=False)
    world.builds_instead(1, system(6))
    world.steps.at("substitute", lambda: is_denied(world))
    report = world.run(lenient)
    assert (report.outcome, reasons(report)) == (Outcome.HELD, ["denied"])
    assert world.is_untouched()


# While a reboot is prepared


LATE = [gate.name for gate in asked_at(Stage.BEFORE_REBOOT) if gate.name != "booted-unexpected"]


@pytest.mark.parametrize("gate", LATE)
def test_a_gate_that_closes_while_the_loader_is_told_leaves_the_system_staged(world, gate):
    world.publish(1, NEW, kernel="k2")
    world.host.loader = SlowLoader(lambda: CLOSES[gate](world))
    report = world.run(REBOOTS)
    assert (report.outcome, report.exit_code) == (Outcome.STAGED, ExitCode.DONE)
    assert reasons(report) == ["reboot", gate]
    assert world.host.reboots == 0
    assert world.marks.read().staged == NEW
    assert [row.outcome for row in world.journal.rows if row.run_id == "run-1"] == ["staged"]


HOLDS = [name for name in LATE if not registered()[name].postpones and name != "denied"]


@pytest.mark.parametrize("gate", HOLDS)
def test_a_gate_that_has_closed_since_the_staging_holds_the_reboot(world, gate):
    world.publish(1, NEW, kernel="k2")
    world.logind.logged_in = ("ann",)
    assert world.run(REBOOTS).outcome is Outcome.STAGED
    world.logind.logged_in = ()
    CLOSES[gate](world)
    if gate == "foreign-system":
        world.host.profile = NEW  # a `test`: the profile still has what is staged
    report = world.run(REBOOTS)
    assert (report.outcome, reasons(report)) == (Outcome.HELD, [gate])
    assert world.host.reboots == 0
    assert world.marks.read().staged == NEW
    assert events.REBOOT_CANCELLED.name in world.told.names()


def test_an_activation_that_begins_while_the_loader_is_told_is_not_cut_off(world):
    def begin_it():
        world.systemd.is_running = True

    world.publish(1, NEW, kernel="k2")
    world.host.loader = SlowLoader(begin_it)
    report = world.run(REBOOTS)
    assert report.error.kind is Kind.ACTIVATION_BUSY
    assert world.host.reboots == 0
    assert world.last_row().outcome == "staged"


def test_a_pause_that_cannot_be_read_any_more_leaves_the_system_staged(world):
    world.publish(1, NEW, kernel="k2")
    world.host.loader = SlowLoader(
        lambda: setattr(world.journal, "plan_read_fault", JournalError(Kind.STATE_UNUSABLE, "lost"))
    )
    report = world.run(REBOOTS)
    assert report.error.kind is Kind.STATE_UNUSABLE
    assert world.host.reboots == 0
    assert world.last_row().outcome == "staged"
    world.journal.plan_read_fault = None
    world.host.loader = FakeLoader()
    assert world.run(REBOOTS).outcome is Outcome.REBOOTING


def test_a_person_reboots_past_what_a_person_has_brought_here(world):
    world.publish(1, NEW, kernel="k2")
    world.run(WINDOWED)
    world.host.running = HOTFIX
    assert world.carry_out(reboot_by_hand, WINDOWED).outcome is Outcome.REBOOTING


def test_a_person_who_switches_during_a_reboot_by_hand_is_respected(world):
    world.publish(1, NEW, kernel="k2")
    world.run(replace(WINDOWED, action=Action.BOOT))
    world.host.loader = SlowLoader(lambda: world.somebody_switches(HOTFIX))
    report = world.carry_out(reboot_by_hand, WINDOWED)
    assert (report.outcome, reasons(report)) == (Outcome.HELD, ["reboot", "foreign-system"])
    assert world.host.reboots == 0


def test_a_profile_that_a_person_has_prepared_is_not_foreign_to_its_reboot(world):
    booting = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED, action=Action.BOOT)
    world.publish(1, NEW, kernel="k2")
    world.host.booted_when = world.clock.now()
    world.clock.move(3600)
    world.host.activate(Action.BOOT, NEW)
    world.host.changed = world.clock.now()
    assert world.run(booting).outcome is Outcome.REBOOTING


# What is not asked


def test_a_roll_back_asks_no_gate(world):
    def close_all():
        for gate in ("paused", "upgrade-window", "boot-space", "store-space", "health"):
            CLOSES[gate](world)
        world.service_breaks()

    world.steps.at("switch", close_all)
    report = world.run(WINDOWED)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.host.running == OLD


def test_nothing_has_come_between_where_nothing_has_changed(world):
    seen = world.host.systems()
    assert asyncio.run(find_intervention(world.ports, seen)) is None
    unknown = Systems(running=None, booted=None, profile=seen.profile)
    name, told = asyncio.run(find_intervention(world.ports, unknown))
    assert (name, "was unknown" in told) == ("foreign-system", True)
    world.systemd.is_running = True
    with pytest.raises(ActivationError):
        asyncio.run(find_intervention(world.ports, seen))


def test_a_gate_that_postpones_a_reboot_is_asked_again_once_the_others_have_taken_their_time(world):
    world.steps.at("probe canary", lambda: has_users(world))
    assert again(world, Stage.BEFORE_REBOOT).gate == "users"


@pytest.mark.parametrize("moment", ["newest_good_build", "substitute"])
def test_a_hold_with_an_end_is_looked_at_again_then(world, moment):
    until = world.clock.now() + timedelta(hours=5)
    pause = Pause("audit", "eve", world.clock.now(), until)
    world.steps.at(moment, lambda: world.journal.set_pause(pause))
    assert reasons(world.run()) == ["paused"]
    assert world.systemd.woken_at == until


def test_a_reboot_that_is_held_is_looked_at_again_when_its_gate_may_open(world):
    world.publish(1, NEW, kernel="k2")
    world.host.loader = SlowLoader(lambda: is_suspected(world))
    assert reasons(world.run(REBOOTS)) == ["reboot", "suspect"]
    assert world.systemd.woken_at == world.clock.now() + timedelta(minutes=10)
