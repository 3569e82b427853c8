from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from agent.domain.confirmation import Baseline
from agent.domain.outcome import HARMLESS, UNDER_WAY, Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.run_record import COLUMNS, altered, recorded
from agent.domain.states import (
    UNKNOWN,
    Activating,
    Armed,
    Change,
    Confirmed,
    Ended,
    Failed,
    Fetched,
    OpenState,
    Pending,
    Rebooting,
    RolledBack,
    RollingBack,
    Selected,
    Staged,
    State,
    StateColumns,
    Unreadable,
    Verified,
    change_of,
    columns_of,
    outcome_of,
    state_of,
)
from fakes.runs import NOW
from fakes.samples import NEW, OLD

CHANGE = Change(
    toplevel=NEW,
    action=Action.TEST,
    previous=OLD,
    boot_id="boot-1",
    baseline=Baseline({"service": True}, frozenset({"a.service"}), hydra=True),
    invocation="0" * 32,
)
STATES = [
    Selected(NEW),
    Verified(NEW),
    Fetched(NEW),
    Armed(CHANGE),
    Activating(CHANGE),
    Pending(CHANGE),
    Pending(CHANGE, Fault.BROKEN),
    RollingBack(CHANGE, OLD, Fault.SUSPECT),
    RollingBack(CHANGE, None, None),
    Staged(CHANGE),
    Rebooting(CHANGE),
    Confirmed(CHANGE),
    RolledBack(CHANGE, OLD, Fault.BROKEN),
    Failed(),
    Failed(NEW, Fault.SUSPECT),
    Failed(CHANGE),
    Ended(Outcome.HELD),
    Ended(Outcome.HELD, NEW, Fault.SUSPECT),
    Ended(Outcome.DRY_ACTIVATED, replace(CHANGE, action=Action.DRY_ACTIVATE)),
    Unreadable("of-tomorrow", "/nowhere"),
    Unreadable(Outcome.PENDING),
]
EVERY_STATE = pytest.mark.parametrize("state", STATES, ids=repr)


@EVERY_STATE
def test_a_state_is_read_back_as_it_was_written(state):
    assert state_of(columns_of(state)) == state


def test_there_is_a_sample_of_every_type():
    assert {type(state) for state in STATES} == set(get_args(State))


def test_the_open_states_are_the_phases_that_are_under_way():
    samples = [state for state in STATES if isinstance(state, get_args(OpenState))]
    assert {outcome_of(state) for state in samples} == UNDER_WAY
    assert {outcome_of(state) for state in samples if change_of(state) is None} == HARMLESS


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_is_a_state_of_a_system(outcome):
    state = state_of(StateColumns(outcome, NEW, previous=OLD))
    assert (outcome_of(state), columns_of(state).toplevel) == (outcome, NEW)
    assert not isinstance(state, Unreadable)


@pytest.mark.parametrize(
    "columns",
    [
        StateColumns("of-tomorrow", NEW),
        StateColumns(Outcome.ACTIVATING, "../etc", previous=OLD),
        StateColumns(Outcome.ACTIVATING, "/nix/store/no-hash", previous=OLD),
        StateColumns(Outcome.PENDING, None, previous=OLD),
        StateColumns(Outcome.SELECTED),
    ],
)
def test_what_cannot_be_read_is_said_to_be_that(columns):
    assert state_of(columns) == Unreadable(columns.outcome, columns.toplevel)


def test_of_a_change_the_parts_that_can_be_read_count():
    held = StateColumns(
        Outcome.PENDING, NEW, "juggle", UNKNOWN, baseline="{", fault="evil", target="/x"
    )
    assert state_of(held) == Pending(Change(NEW))
    assert columns_of(Pending(Change(NEW))).previous == UNKNOWN


def test_a_dry_activation_is_no_lasting_change():
    assert CHANGE.is_lasting
    assert not replace(CHANGE, action=Action.DRY_ACTIVATE).is_lasting


@EVERY_STATE
def test_a_run_shows_its_state_as_the_history_has_it(state):
    run = replace(
        recorded(run_id="1", started_at=NOW, host="h", job="j", outcome="held"), state=state
    )
    held = columns_of(state)
    shown = {name: getattr(run, name) for name in COLUMNS if hasattr(held, name)}
    assert shown == {name: getattr(held, name) for name in shown}


def test_a_run_that_has_changed_nothing_keeps_what_it_was_asked_for():
    run = recorded(run_id="1", started_at=NOW, host="h", job="j", outcome="held", action="boot")
    assert (run.action, altered(run, outcome="failed").action) == ("boot", "boot")
    begun = altered(run, outcome="armed", toplevel=NEW, action="test", previous=OLD)
    assert (begun.action, begun.state) == ("test", Armed(Change(NEW, Action.TEST, OLD)))
    assert altered(begun, exit_code=1).state == begun.state
