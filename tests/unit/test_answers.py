"""What the part that changes the host answers arrives as it was sent, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.application.act.answers import (
    Activated,
    Failed,
    NotBegun,
    Ready,
    parse_activated,
    parse_fetched,
    serialise,
)
from agent.application.ports import Fetched
from agent.domain import states
from agent.domain.errors import AgentError, Kind, RequestError
from agent.domain.gate import Judgement
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.request import LARGEST
from agent.domain.states import Change, RolledBack
from fakes.samples import NEW, OTHER

STORE = "/nix/store"
NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
READY = Ready(NEW, Fetched(3, 1 << 20))
ACTIVATED = Activated(
    NEW,
    Outcome.STAGED,
    Action.BOOT,
    (("reboot", "kernel differ"),),
    "kernel differ",
    AgentError(Kind.ROLLED_BACK, "rolled back from", hint="it is denied"),
    is_recorded_elsewhere=True,
)
NOT_BEGUN = NotBegun(
    (("health", "canary: no reply"),),
    Action.SWITCH,
    (
        Judgement(
            "health",
            is_open=False,
            reason="canary: no reply",
            fault=AgentError(Kind.NIX_TIMEOUT, "no reply", hint="wait"),
            opens_at=NOW,
            overdue=AgentError(Kind.CLOCK_UNSYNCHRONISED, "for 3 days"),
        ),
    ),
)
FAILED = Failed(
    AgentError(Kind.UNITS_FAILED, "units failed", hint="look at them"),
    Outcome.ROLLED_BACK,
    (("units-failed", "units failed"),),
    RolledBack(Change(NEW, Action.TEST, OTHER, "boot", invocation="0"), OTHER, Fault.SUSPECT),
    Fetched(0, 0),
    Action.SWITCH,
    is_recorded_elsewhere=True,
    is_switch_refused=True,
)
SAMPLES = [READY, ACTIVATED, NOT_BEGUN, FAILED]

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
instants = st.datetimes(timezones=st.just(UTC))
reasons = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
paths = st.sampled_from([NEW, OTHER])
actions = st.none() | st.sampled_from(Action)
fetches = st.none() | st.builds(Fetched, st.integers(0, 2**53), st.integers(0, 2**53))
errors = st.builds(
    lambda kind, message, hint, after: AgentError(kind, message, hint=hint, retry_after=after),
    st.sampled_from(list(Kind)),
    texts,
    texts,
    st.none() | st.integers(0, 2**31),
)
changes = st.builds(Change, paths, st.sampled_from(Action), st.none() | paths, texts)
judgements = st.builds(
    Judgement,
    texts,
    is_open=st.sampled_from([False]),
    reason=texts,
    fault=st.none() | errors,
    opens_at=st.none() | instants,
    overdue=st.none() | errors,
)
lefts = st.one_of(
    st.builds(states.Failed, st.none() | paths | changes, st.none() | st.sampled_from(Fault)),
    st.builds(states.Pending, changes, st.none() | st.sampled_from(Fault)),
)
failures = st.builds(
    Failed,
    errors,
    st.sampled_from(Outcome),
    reasons,
    st.none() | lefts,
    fetches,
    actions,
    is_recorded_elsewhere=st.booleans(),
    is_switch_refused=st.booleans(),
)
activations = st.builds(
    Activated,
    paths,
    st.sampled_from(Outcome),
    st.sampled_from(Action),
    reasons,
    texts,
    st.none() | errors,
    is_recorded_elsewhere=st.booleans(),
)
holds = st.builds(NotBegun, reasons, actions, st.lists(judgements, max_size=2).map(tuple))


def plain(answer):
    """Return an answer as what can be compared: errors are not equal to each other."""

    def shown(value):
        if isinstance(value, AgentError):
            return (value.kind, value.message, value.hint, value.retry_after)
        if isinstance(value, Judgement):
            return (
                value.gate,
                value.is_open,
                value.reason,
                shown(value.fault),
                value.opens_at,
                value.plan,
                shown(value.overdue),
            )
        if isinstance(value, tuple):
            return tuple(shown(item) for item in value)
        return value

    names = type(answer).__dataclass_fields__
    return type(answer), {name: shown(getattr(answer, name)) for name in names}


def parse(answer, text):
    read = parse_fetched if isinstance(answer, Ready) else parse_activated
    return read(text, store_dir=STORE)


@given(st.builds(Ready, paths, fetches) | failures)
def test_an_answer_to_a_request_to_fetch_arrives_as_it_was_sent(answer):
    assert plain(parse_fetched(serialise(answer), store_dir=STORE)) == plain(answer)


@given(activations | holds | failures)
def test_an_answer_to_a_request_to_activate_arrives_as_it_was_sent(answer):
    assert plain(parse_activated(serialise(answer), store_dir=STORE)) == plain(answer)


@given(st.text(max_size=40))
def test_whatever_is_said_in_an_error_an_answer_can_be_sent(message):
    for text in (
        serialise(Failed(AgentError(Kind.BUG, message))),
        serialise(NotBegun(((message, ""),))),
    ):
        parse_activated(text, store_dir=STORE)


def changed(answer, **fields):
    return json.dumps({**json.loads(serialise(answer)), **fields})


def changed_in(answer, name, **fields):
    inner = json.loads(serialise(answer))[name]
    return changed(answer, **{name: {**inner, **fields}})


def with_held(**fields):
    held = json.loads(serialise(NOT_BEGUN))["held"][0]
    return changed(NOT_BEGUN, held=[{**held, **fields}])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        *((answer, text) for answer in SAMPLES for text in ("", "null", "[]", "{", "[" * 100_000)),
        *((answer, changed(answer, version=2)) for answer in SAMPLES),
        *((answer, changed(answer, kind="done")) for answer in SAMPLES),
        *((answer, changed(answer, more=1)) for answer in SAMPLES),
        (READY, serialise(ACTIVATED)),
        (ACTIVATED, serialise(READY)),
        (READY, changed(READY, toplevel="/etc/passwd")),
        (READY, changed(READY, toplevel=None)),
        (READY, changed(READY, fetched=3)),
        (READY, changed_in(READY, "fetched", paths=-1)),
        (READY, changed_in(READY, "fetched", bytes="1")),
        (READY, changed_in(READY, "fetched", more=1)),
        (ACTIVATED, changed(ACTIVATED, toplevel="/nix/store/../etc")),
        (ACTIVATED, changed(ACTIVATED, outcome="won")),
        (ACTIVATED, changed(ACTIVATED, action=None)),
        (ACTIVATED, changed(ACTIVATED, reboot=None)),
        (ACTIVATED, changed(ACTIVATED, is_recorded_elsewhere="no")),
        (ACTIVATED, changed_in(ACTIVATED, "error", kind="none")),
        (ACTIVATED, changed_in(ACTIVATED, "error", message=None)),
        (ACTIVATED, changed_in(ACTIVATED, "error", more=1)),
        (NOT_BEGUN, changed(NOT_BEGUN, reasons=[["health"]])),
        (NOT_BEGUN, changed(NOT_BEGUN, action="reboot")),
        (NOT_BEGUN, changed(NOT_BEGUN, held={})),
        (NOT_BEGUN, changed(NOT_BEGUN, held=["health"])),
        (NOT_BEGUN, with_held(fault="none")),
        (NOT_BEGUN, with_held(opens_at="tomorrow")),
        (NOT_BEGUN, with_held(more=1)),
        (FAILED, changed(FAILED, error=None)),
        (FAILED, changed(FAILED, left="failed")),
        (FAILED, changed_in(FAILED, "left", outcome=None)),
        (FAILED, changed_in(FAILED, "left", boot_id=1)),
        (FAILED, changed_in(FAILED, "left", more=1)),
        (FAILED, changed(FAILED, is_switch_refused=1)),
    ],
)
def test_an_answer_that_is_wrong_in_any_part_is_refused(answer, text):
    with pytest.raises(RequestError) as refused:
        parse(answer, text)
    assert refused.value.kind is Kind.REQUEST_MALFORMED


@pytest.mark.parametrize("answer", SAMPLES)
def test_an_answer_that_is_too_large_is_not_even_read(answer):
    with pytest.raises(RequestError) as refused:
        parse(answer, serialise(answer) + " " * LARGEST)
    assert refused.value.kind is Kind.REQUEST_TOO_LARGE
