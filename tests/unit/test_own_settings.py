"""A candidate's own settings decide on what follows its activation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.await_confirmation import await_decision
from agent.application.confirm.dead_man import dead_man
from agent.application.ports import ActivationExit
from agent.application.upgrade import upgrade
from agent.domain.check import IcmpCheck
from agent.domain.errors import Kind
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import Outcome
from agent.domain.pause import Pause
from agent.domain.policy import OnFailure, RebootMode
from agent.domain.unit_names import CONFIRM_UNIT
from fakes.pending import NEW, carry_out_with, pending_world
from fakes.samples import OLD
from fakes.systemd import AT_WORK, Armed
from fakes.world import SERVICE, WATCHFUL, World

UNIT = "NetworkManager-wait-online.service"


def saying(**changes):
    """Return the settings that the new system brings."""
    return replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, **changes))


@pytest.fixture
def world():
    world = World()
    world.publish(1, NEW)
    world.marks.set(Mark.CONFIRMED, OLD)
    return world


def breaks_a_unit(world):
    """Let the switch change a unit, which fails in it."""

    def fails():
        world.systemd.failed = frozenset({UNIT})

    world.host.contents[NEW].units[UNIT] = "new"
    world.nixos_rebuild.ends = ActivationExit(4, f"the following units failed: {UNIT}")
    world.nixos_rebuild.moves_before_failing = True
    world.steps.at("switch", fails)


# The activation


def test_a_unit_that_the_new_settings_ignore_is_no_reason_to_roll_back(world):
    breaks_a_unit(world)
    world.new_policy = saying(ignored_units=("NetworkManager-*.service",))
    assert world.run().outcome is Outcome.CONFIRMED
    assert world.marks.read() == Marks(confirmed=NEW)


def test_a_unit_that_only_the_old_settings_ignore_counts(world):
    breaks_a_unit(world)
    world.new_policy = saying(ignored_units=())
    report = world.run(saying(ignored_units=(UNIT,)))
    assert (report.outcome, report.error.kind) == (Outcome.ROLLED_BACK, Kind.UNITS_FAILED)


def test_where_the_new_settings_cannot_be_read_the_old_ones_count(world):
    breaks_a_unit(world)
    assert world.run(saying(ignored_units=(UNIT,))).outcome is Outcome.CONFIRMED


def test_whether_a_failed_system_stays_the_new_settings_say(world):
    breaks_a_unit(world)
    world.new_policy = saying(on_failure=OnFailure.HOLD)
    world.run()
    assert world.last_row().outcome == "pending"
    assert (world.host.running, world.marks.read().pending) == (NEW, NEW)


def test_the_baseline_has_the_checks_of_both(world):
    own = IcmpCheck("own", "own.example", timedelta(seconds=5))
    theirs = IcmpCheck("theirs", "theirs.example", timedelta(seconds=5))
    changed = IcmpCheck("service", "moved.example", timedelta(seconds=5))
    world.new_policy = saying(checks=(theirs, changed), asks_hydra=False, asks_gateway=False)
    assert world.run(saying(checks=(own, *WATCHFUL.confirm.checks))).outcome is Outcome.CONFIRMED
    taken = world.told.fields_of(events.BASELINE_TAKEN)
    assert taken["checks"] == {"own": True, "service": True, "theirs": True}
    assert taken["hydra"] is True
    asked = {check.target for check in world.prober.asked}
    assert "moved.example" in asked
    assert SERVICE not in asked


def test_the_dead_man_waits_as_long_as_the_new_settings_take(world):
    world.new_policy = saying(settle=timedelta(minutes=5), deadline=timedelta(hours=2))
    world.run()
    armed = world.told.fields_of(events.DEAD_MAN_ARMED)
    assert (
        armed["seconds"] == (timedelta(hours=2, minutes=5) + WATCHFUL.activate_deadline).seconds + 5
    )


def test_a_run_s_own_settings_are_in_force_again_when_an_earlier_upgrade_is_decided():
    world = pending_world()
    world.new_policy = saying(on_failure=OnFailure.HOLD)
    found = []

    async def body(run):
        result = await await_decision(run, NEW, starts=1)
        found.append(run.policy)
        return result

    carry_out_with(world, body)
    assert found == [WATCHFUL]


# Who waits for the verdict, and who gives it in the place of the new agent


def hangs(world):
    """Let the new agent hang, and return what time it is given before it counts as hung."""

    async def program():
        return AT_WORK

    world.systemd.programs[CONFIRM_UNIT] = program
    carry_out_with(world, lambda run: await_decision(run, NEW, starts=1))
    return world.clock.seconds


def test_a_confirmation_may_take_as_long_as_the_new_settings_say():
    usual = hangs(pending_world())
    world = pending_world()
    world.new_policy = saying(deadline=WATCHFUL.confirm.deadline + timedelta(hours=1))
    assert hangs(world) == usual + 3600


def without_the_agent():
    world = pending_world()
    world.systemd.timer = None
    del world.host.contents[NEW].units[CONFIRM_UNIT]
    world.host.contents[NEW].units[UNIT] = "new"
    world.systemd.failed = frozenset({UNIT})
    world.new_policy = saying(ignored_units=(UNIT,))
    return world


def test_a_system_without_the_agent_is_judged_by_its_own_settings():
    world = without_the_agent()
    report = carry_out_with(world, lambda run: await_decision(run, NEW, starts=1))
    assert report.outcome is Outcome.CONFIRMED


def test_the_dead_man_judges_by_the_new_settings():
    world = without_the_agent()
    assert world.carry_out(partial(dead_man, toplevel=NEW)).outcome is Outcome.CONFIRMED


def test_the_dead_man_is_set_again_as_the_new_settings_say():
    world = pending_world()
    world.systemd.timer = None
    world.hydra_is_gone()
    world.new_policy = saying(settle=timedelta(minutes=3), patience=timedelta(days=9))
    world.clock.move(timedelta(days=2).total_seconds())
    world.carry_out(partial(dead_man, toplevel=NEW))
    delay = timedelta(minutes=3) + WATCHFUL.confirm.deadline
    assert world.systemd.timer == Armed(delay, "run-1", NEW)


# Canaries that the new settings name no more

CANARIES = (
    IcmpCheck("canary", "canary.example", timedelta(seconds=5)),
    IcmpCheck("other", "other.example", timedelta(seconds=5)),
)
WATCHES = replace(WATCHFUL, checks=CANARIES)


def naming(*names):
    """Return the settings of a new system that names these canaries."""
    return replace(WATCHFUL, checks=tuple(check for check in CANARIES if check.name in names))


def test_a_canary_that_is_gone_for_good_keeps_nobody_from_the_build_that_drops_it(world):
    world.canary_dies()
    world.new_policy = naming("other")
    assert world.run(WATCHES).outcome is Outcome.CONFIRMED
    assert world.steps.among("substitute", "probe canary", "probe other", "activate-flake") == [
        *("probe canary", "probe other"),
        "substitute",
        "probe other",
        "activate-flake",
    ]
    assert world.told.fields_of(events.CANARY_DROPPED) == {
        "check": "canary",
        "target": "canary.example",
    }


def test_a_canary_that_the_new_settings_still_name_holds(world):
    world.canary_dies()
    world.new_policy = naming("canary", "other")
    report = world.run(WATCHES)
    assert (report.outcome, [name for name, _ in report.reasons]) == (Outcome.HELD, ["health"])
    assert world.links() == (OLD, OLD, OLD)
    assert events.CANARY_DROPPED.name not in world.told.names()


def test_a_candidate_that_was_looked_into_is_not_verified_again_and_again(world):
    world.canary_dies()
    world.new_policy = naming("canary", "other")
    world.run(WATCHES)
    assert world.run(WATCHES).outcome is Outcome.HELD
    assert world.steps.among("evaluate", "substitute", "nixos-rebuild build") == []


def test_where_no_other_canary_is_well_nothing_is_upgraded(world):
    world.canary_dies()
    world.prober.reasons["other.example"] = "no reply"
    world.new_policy = naming("other")
    assert world.run(WATCHES).outcome is Outcome.HELD
    assert world.links() == (OLD, OLD, OLD)


def test_a_canary_that_is_merely_wanted_and_fails_is_no_witness(world):
    lenient = replace(WATCHFUL, checks=(CANARIES[0], replace(CANARIES[1], is_wanted=True)))
    world.canary_dies()
    world.prober.reasons["other.example"] = "no reply"
    world.new_policy = naming("other")
    assert world.run(lenient).outcome is Outcome.HELD


def test_with_no_other_canary_left_only_a_person_can_pass(world):
    world.canary_dies()
    world.new_policy = naming()
    assert world.run(WATCHFUL).outcome is Outcome.HELD
    assert world.steps.among("substitute") == []
    report = world.carry_out(
        upgrade, WATCHFUL, ignored_gates=frozenset({"health"}), ignored_because="it is gone"
    )
    assert report.outcome is Outcome.CONFIRMED


def test_the_last_canary_is_asked_as_long_as_it_is_there(world):
    world.new_policy = naming()
    assert world.run(WATCHFUL).outcome is Outcome.CONFIRMED
    assert world.steps.among("probe canary") == ["probe canary"] * 2


def test_with_another_gate_closed_nothing_is_fetched(world):
    world.canary_dies()
    world.new_policy = naming("other")
    world.journal.set_pause(Pause("audit", "eve", world.clock.now()))
    assert world.run(WATCHES).outcome is Outcome.HELD
    assert world.steps.among("substitute") == []


def test_a_staged_system_that_drops_a_canary_is_rebooted_into(world):
    world.publish(1, NEW, kernel="k2")
    reboots = replace(WATCHES, reboot_mode=RebootMode.WHEN_NEEDED)
    world.canary_dies()
    world.new_policy = naming("other")
    assert world.run(reboots).outcome is Outcome.REBOOTING
