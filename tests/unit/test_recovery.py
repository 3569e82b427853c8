from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.application import events
from agent.application.act.recover import recover_all
from agent.application.report import Result
from agent.application.run import begin, carry_out
from agent.domain.marks import Mark, Marks
from agent.domain.outcome import HARMLESS, UNDER_WAY, Outcome
from agent.domain.policy import Action
from agent.domain.recovery import STEPS, RecoveryState, Step, recover
from agent.domain.run_record import altered
from agent.domain.systems import Systems
from fakes.runs import an_arrival
from fakes.samples import NEW, OLD, OTHER
from fakes.stepwise import system_with
from fakes.world import World

PAGE = Path(__file__).parents[2] / "docs" / "design" / "recovery.md"
NAMED = {"old": OLD, "new": NEW, "other": OTHER, "unknown": None}
ENDS = (Step.NOTHING, Step.WAIT, Step.CONFIRM)
LASTING = {Outcome.STAGED, Outcome.REBOOTING, Outcome.CONFIRMED, Outcome.ROLLED_BACK}


@dataclass(frozen=True)
class Row:
    """One row of the tables: where a host is found, and what is done about it."""

    phase: Outcome | None
    what: str
    marks: Marks
    systems: Systems
    is_running: bool | None
    steps: tuple[Step, ...]

    @property
    def action(self):
        named = [action for action in Action if f"`{action}`" in self.what]
        return named[0] if named else Action.SWITCH

    @property
    def previous(self):
        is_touched = self.phase not in HARMLESS and self.action is not Action.DRY_ACTIVATE
        return OLD if is_touched else None


def rows_of(page):
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and "running" in cells[3]:
            yield row_of(*cells)


def row_of(phase, what, marks, shown, steps):
    pointing = {
        mark.replace("-", "_"): NAMED[name] for mark, name in re.findall(r"`(\S+)` (\w+)", marks)
    }
    links = {
        name: NAMED[path] for name, path in re.findall(r"(running|profile|booted) (\w+)", shown)
    }
    return Row(
        phase=None if phase == "-" else Outcome(phase.strip("`")),
        what=what,
        marks=Marks(**pointing),
        systems=Systems(links["running"], links.get("booted", OLD), links["profile"]),
        is_running=None if "activation unknown" in shown else "activation running" in shown,
        steps=tuple(Step(step) for step in re.findall(r"`(\S+?)`", steps)),
    )


ROWS = list(rows_of(PAGE))
EVERY_ROW = pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row.phase}: {row.what}, {row.steps[0]}"
)


@EVERY_ROW
def test_recovery_begins_with_the_table_s_first_step(row):
    marks, systems = row.marks, row.systems
    is_under_way = row.phase in UNDER_WAY
    memory = RecoveryState(
        marks=marks,
        systems=systems,
        row=row_in_history(row) if is_under_way else None,
        is_pending_running=systems.running == marks.pending,
        is_running_known=systems.running is None
        or systems.running in marks.known
        or (is_under_way and systems.running == row.previous),
        is_staged_booted=systems.running == systems.booted == marks.staged,
        is_activating=row.is_running,
    )
    assert recover(memory).name is row.steps[0]


@EVERY_ROW
def test_recovery_takes_the_table_s_steps_and_comes_to_an_end(row):
    world = world_of(row)
    steps = steps_taken(world)
    assert steps == row.steps
    if row.steps[-1] in ENDS and row.steps[-1] is not Step.NOTHING:
        return
    assert world.journal.under_way() is None
    assert steps_taken(world) == (Step.NOTHING,)


def test_each_under_way_phase_is_cut_short_before_and_after_its_effect():
    for phase in UNDER_WAY | {Outcome.REBOOTING, Outcome.STAGED}:
        told = " ".join(row.what for row in ROWS if row.phase is phase)
        assert "before" in told, phase
        assert "after" in told, phase


def test_the_table_has_every_phase_step_and_mark():
    assert {row.phase for row in ROWS} == UNDER_WAY | LASTING | {None}
    assert {step for row in ROWS for step in row.steps} == set(Step) == set(STEPS)
    told = PAGE.read_text()
    assert all(f"`{mark}` " in told for mark in Mark)


def test_each_step_is_explained():
    explained = re.findall(r"^\| `(\S+)` \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(Step)


def row_in_history(row):
    past = an_arrival(99, NEW, row.phase, action=row.action, finished_at=None)
    return altered(past, previous=row.previous)


def world_of(row):
    """Return a world as the row describes it."""
    world = World()
    host = world.host
    for path in (NEW, OTHER):
        host.contents[path] = system_with("k1")
    host.running, host.booted = row.systems.running, row.systems.booted
    if row.systems.profile != OLD:
        host.profile = row.systems.profile
    world.systemd.is_running = row.is_running is True
    world.systemd.is_silent = row.is_running is None
    for mark in Mark:
        path = getattr(row.marks, mark.replace("-", "_"))
        if path is not None:
            world.marks.set(mark, path)
    if row.phase is not None:
        world.journal.record(row_in_history(row))
    return world


def steps_taken(world):
    """Return the steps that recovery takes, the one that is left included."""
    left = []

    async def body(run):
        left.append(await recover_all(run))
        return Result(Outcome.NOTHING_TO_DO)

    async def use_case(ports, policy, settings):
        return await carry_out(begin(ports, policy, settings), body)

    report = world.carry_out(use_case)
    assert report.error is None, report.error
    taken = [
        Step.ADOPT if event is events.SYSTEM_ADOPTED else Step(fields["step"])
        for event, fields in world.told.said
        if event in (events.SYSTEM_ADOPTED, events.RECOVERY_STEP)
    ]
    (last,) = left
    return tuple(taken) if taken and last is Step.NOTHING else (*taken, last)


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Outcome.ACTIVATING, Step.CLOSE_FAILED),
        (Outcome.ROLLING_BACK, Step.CLOSE_FAILED),
        (Outcome.PENDING, Step.CLOSE_CONFIRMED),
    ],
)
def test_a_confirmed_system_that_does_not_run_was_activated_if_its_row_says_so(phase, step):
    row = an_arrival(99, NEW, phase, finished_at=None)
    memory = RecoveryState(Marks(confirmed=NEW), Systems(OLD, OLD, NEW), row)
    assert recover(memory).name is step
