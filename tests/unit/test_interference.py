"""Whatever is unknown, and whoever comes in between, at each step of an upgrade.

No system is confirmed that was not proven healthy, what someone else brings stays, and a doubt
decides nothing: once it is over, the upgrade ends as it would have without it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import pytest

from agent.application import events
from agent.application.confirm.dead_man import dead_man
from agent.application.manual import verdicts
from agent.application.upgrade import upgrade as upgrade_once
from agent.domain.marks import Mark, Marks
from agent.domain.policy import RebootMode
from fakes.interference import DOUBTS, STRANGE, STRANGERS, doubting
from fakes.samples import OLD
from fakes.stepwise import system_with
from fakes.world import SERVICE, WATCHFUL, PowerCut, World, system

NEW = system(1)
DAY = timedelta(days=1)
BEFORE = [
    "journal selected", "journal verified", "substitute", "journal fetched", "nixos-rebuild build",
    "journal armed", "mark pending", "arm",
]  # fmt: skip
BLIND = ["journal activating", "activate-flake", "switch"]
"""After the last look around: who is quicker here than nixos-rebuild is is not seen any more."""
JUDGED = ["journal pending", "start confirm", "probe service"]
CONFIRMED = ["pending to confirmed", "bless", "disarm", "journal confirmed"]
ROLLED_BACK = [
    "pending to rolling-back", "journal rolling-back", "journal deny", "set-profile",
    "switch-to-configuration switch", "rolling-back to rolled-back", "disarm",
    "journal rolled-back", "unmark rolled-back",
]  # fmt: skip
BLIND_BACK = ["set-profile", "switch-to-configuration switch"]
FORTH = [*BEFORE, *BLIND, *JUDGED]
SPARSE = ["substitute", "journal armed", "arm", "switch", *JUDGED]
"""Enough of them for the doubts, of which there are many."""
LOSABLE = [
    "journal verified", "substitute", "journal armed", "mark pending", "arm", "journal activating",
    "switch", "journal pending", "start confirm",
]  # fmt: skip
LOSABLE_BACK = ["journal rolling-back", "journal deny", "set-profile", "journal rolled-back"]


@dataclass
class Upgrade:
    """An upgrade from `OLD` to `NEW`, whose service answers unless it `is_broken`."""

    is_broken: bool
    world: World = field(default_factory=World)
    confirmed: list[bool] = field(default_factory=list)
    """Whether NEW ran and was well, each time it was called confirmed."""
    claims: int = 0
    """How often a roll-back from NEW was begun."""

    def __post_init__(self):
        world = self.world
        world.marks.set(Mark.CONFIRMED, OLD)
        world.publish(1, NEW)
        self._move, world.marks.move = world.marks.move, self._moves

    def _moves(self, mark, path, to):
        is_moved = self._move(mark, path, to)
        if is_moved and to in (Mark.CONFIRMED, Mark.TESTED):
            self.confirmed.append(not self.is_broken)
        self.claims += is_moved and to is Mark.ROLLING_BACK
        return is_moved

    def at(self, step, happening):
        """Let something happen once at a step, the baseline's look at the service aside."""
        left = 1 + (step == "probe service")
        seen = []

        def happen():
            nonlocal left
            left -= 1
            if left == 0:
                seen.append(step)
                happening()

        for each in {step, "probe service"}:
            self.world.steps.at(each, partial(self._step, each, step, happen))
        return seen

    def _step(self, name, wanted, happen):
        if name == "probe service" and self.is_broken and self.world.host.running == NEW:
            self.world.service_breaks()
        elif name == "probe service" and SERVICE not in self.world.prober.unproven:
            self.world.prober.reasons.pop(SERVICE, None)
        if name == wanted:
            happen()

    def run(self, use_case=upgrade_once, policy=WATCHFUL):
        """Let the agent do one thing, which may be cut short but never meets a bug of its own."""
        world = self.world
        with suppress(PowerCut):
            world.carry_out(use_case, policy)
        for told in (world.told, world.told_by_new):
            bugs = [fields for event, fields in told.said if event is events.BUG_FOUND]
            assert bugs == []

    def goes_on(self):
        """Let all be as on any day: the timer fires if it is set, and runs come every hour."""
        world = self.world
        world.steps.calm()
        world.systemd.units.clear()
        self.at("probe service", lambda: None)
        if world.systemd.is_running:
            world.clock.move(100)
            world.clock.on_sleep()
        timer, world.systemd.timer = world.systemd.timer, None
        if timer is not None:
            world.clock.move(timer.delay.total_seconds())
            self.run(partial(dead_man, toplevel=timer.toplevel))
        for _ in range(2):
            self.run()
            world.clock.move(3600)

    @property
    def ends(self):
        """What runs, the profile, and what would be booted."""
        host = self.world.host
        return host.running, host.profile, host.loader.installed


def cases(forth, back, what, *, good=CONFIRMED):
    return [
        pytest.param(is_broken, step, one, id=f"{'broken' if is_broken else 'good'}-{step}-{one}")
        for is_broken, steps in ((False, [*forth, *good]), (True, [*forth, *back]))
        for step in steps
        for one in what
    ]


# Someone else


def left_by(stranger, way):
    """Return what a stranger leaves of what was here; `way` is the agent's running and next."""
    runs, boots = way
    return {
        "switches": (STRANGE, STRANGE, STRANGE),
        "is switching": (STRANGE, STRANGE, STRANGE),
        "stages": (runs, STRANGE, STRANGE),
    }.get(stranger, (STRANGE, boots, boots))


@pytest.mark.parametrize(("is_broken", "step", "who"), cases(FORTH, ROLLED_BACK, STRANGERS))
def test_what_someone_else_brings_stays_and_nothing_unproven_is_confirmed(is_broken, step, who):
    upgrade = Upgrade(is_broken)
    seen = upgrade.at(step, lambda: STRANGERS[who](upgrade.world))
    upgrade.run()
    assert seen
    upgrade.goes_on()
    marks = upgrade.world.marks.read()
    assert all(upgrade.confirmed)
    is_overrun = step in (*BLIND, *BLIND_BACK) and who in ("switches", "stages", "tests")
    if not upgrade.confirmed:
        assert marks == Marks(confirmed=OLD)
        allowed = {left_by(who, (OLD, OLD))}
        if is_overrun:
            allowed.add((OLD, OLD, OLD))
        assert upgrade.ends in allowed
        return
    assert NEW in (marks.confirmed, marks.tested)
    allowed = {left_by(who, (NEW, NEW))}
    if is_overrun:
        allowed.add((NEW, NEW, NEW))
    assert upgrade.ends in allowed


# Unknown


def is_over(upgrade):
    """Whether the upgrade has ended as it does where nothing is unknown."""
    path = OLD if upgrade.is_broken else NEW
    return upgrade.ends == (path,) * 3 and upgrade.world.marks.read() == Marks(confirmed=path)


def is_left_to_a_person(upgrade):
    """Whether a broken system stays pending, as where nobody knows how things were before it."""
    is_pending = upgrade.world.marks.read() == Marks(confirmed=OLD, pending=NEW)
    return upgrade.is_broken and is_pending and upgrade.ends[:2] == (NEW, NEW)


@pytest.mark.parametrize(
    ("is_broken", "step", "doubt"),
    cases(SPARSE, ["journal rolling-back", *BLIND_BACK, "disarm"], DOUBTS, good=["disarm"]),
)
def test_a_doubt_decides_nothing_and_when_it_is_over_the_upgrade_ends_as_any(
    is_broken, step, doubt
):
    upgrade = Upgrade(is_broken)
    with doubting(upgrade.world, doubt) as begin:
        seen = upgrade.at(step, begin)
        upgrade.run()
        assert seen
        assert all(upgrade.confirmed)
        assert is_broken or upgrade.claims == 0
    upgrade.goes_on()
    assert all(upgrade.confirmed)
    assert is_broken or upgrade.claims == 0
    assert is_over(upgrade) or is_left_to_a_person(upgrade)


@pytest.mark.parametrize("days", [-400, 400])
@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("step", SPARSE)
def test_a_clock_that_jumps_decides_nothing(is_broken, step, days):
    upgrade = Upgrade(is_broken)
    clock = upgrade.world.clock
    upgrade.at(step, lambda: setattr(clock, "instant", clock.instant + days * DAY))
    upgrade.run()
    upgrade.goes_on()
    assert all(upgrade.confirmed)
    assert is_broken or upgrade.claims == 0
    assert is_over(upgrade)


# An answer is lost


@pytest.mark.parametrize(
    ("is_broken", "step"),
    [
        *[(False, step) for step in [*LOSABLE, "journal confirmed"]],
        *[(True, step) for step in [*LOSABLE, *LOSABLE_BACK]],
    ],
)
def test_an_answer_that_is_lost_changes_no_end(is_broken, step):
    upgrade = Upgrade(is_broken)
    upgrade.at("probe service", lambda: None)
    upgrade.world.steps.lose(step)
    upgrade.run()
    assert step in upgrade.world.steps
    assert all(upgrade.confirmed)
    upgrade.goes_on()
    assert all(upgrade.confirmed)
    assert is_over(upgrade)
    # That the activation itself came to no good end is a reason to undo it, and to try again.
    assert is_broken or upgrade.claims == (step in ("journal activating", "switch"))


# By way of a reboot

REBOOTS = replace(WATCHFUL, reboot_mode=RebootMode.WHEN_NEEDED)
STAGED = ["boot", "pending to staged", "journal staged", "boot-once", "journal rebooting", "reboot"]


def reboots(upgrade, booted):
    """Let the host go down if that was asked for, and start what the loader has or `booted`."""
    world = upgrade.world
    asked, world.host.reboots = world.host.reboots, 0
    if not asked:
        return
    world.host.boot()
    if booted is not None:
        world.host.contents.setdefault(booted, system_with("k1"))
        world.host.running = world.host.booted = booted
    upgrade.run(verdicts.confirm, REBOOTS)


def staged(*, is_broken):
    upgrade = Upgrade(is_broken)
    upgrade.world.publish(1, NEW, kernel="k2")
    return upgrade


def comes_to_rest(upgrade):
    """Let runs come every hour, and the host be rebooted as often as that is asked for."""
    world = upgrade.world
    world.steps.calm()
    world.systemd.units.clear()
    upgrade.at("probe service", lambda: None)
    for _ in range(3):
        reboots(upgrade, None)
        upgrade.run(policy=REBOOTS)
        world.clock.move(3600)


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("booted", [None, OLD, NEW, STRANGE])
def test_whatever_a_reboot_brings_up_is_judged_as_what_it_is(is_broken, booted):
    upgrade = staged(is_broken=is_broken)
    upgrade.at("probe service", lambda: None)
    upgrade.run(policy=REBOOTS)
    reboots(upgrade, booted)
    comes_to_rest(upgrade)
    marks, host = upgrade.world.marks.read(), upgrade.world.host
    assert all(upgrade.confirmed)
    if booted is STRANGE:
        assert host.running == STRANGE
    elif booted is OLD:
        assert (host.running, marks.confirmed) == (OLD, OLD)  # it is not tried twice by itself
    else:
        assert is_over(upgrade)
    assert host.loader.installed == marks.confirmed


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("step", ["journal staged", "journal rebooting"])
def test_a_doubt_before_a_reboot_decides_nothing(is_broken, step, doubt):
    upgrade = staged(is_broken=is_broken)
    with doubting(upgrade.world, doubt) as begin:
        seen = upgrade.at(step, begin)
        upgrade.run(policy=REBOOTS)
        assert seen
    comes_to_rest(upgrade)
    assert all(upgrade.confirmed)
    assert is_over(upgrade)


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_doubt_after_a_reboot_decides_nothing(is_broken, doubt):
    upgrade = staged(is_broken=is_broken)
    upgrade.at("probe service", lambda: None)
    upgrade.run(policy=REBOOTS)
    with doubting(upgrade.world, doubt) as begin:
        begin()
        reboots(upgrade, None)
        assert all(upgrade.confirmed)
        assert is_broken or upgrade.claims == 0
    comes_to_rest(upgrade)
    assert all(upgrade.confirmed)
    if doubt == "the loader's default":
        upgrade.world.host.loader.installed = upgrade.world.marks.read().confirmed  # left as it was
    assert is_over(upgrade) or is_left_to_a_person(upgrade)


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize(
    "step", ["boot", "journal staged", "switch-to-configuration boot", "boot-once", "reboot"]
)
def test_an_answer_that_is_lost_before_a_reboot_changes_no_end(is_broken, step):
    upgrade = staged(is_broken=is_broken)
    upgrade.at("probe service", lambda: None)
    upgrade.world.steps.lose(step)
    upgrade.run(policy=REBOOTS)
    assert step in upgrade.world.steps
    upgrade.world.steps.calm()
    comes_to_rest(upgrade)
    assert all(upgrade.confirmed)
    assert is_over(upgrade)
