from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.candidate import Candidate
from agent.domain.errors import Kind, RequestError
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.policy import Action
from agent.domain.request import LARGEST, VALID_FOR, Activate, Envelope, Fetch
from fakes.samples import JOB, NEW, OTHER

FLAKE = parse_locked_flake_reference(f"github:o/r/{'a' * 40}")
NOW = datetime(2026, 11, 21, 4, 40, tzinfo=UTC)
ENVELOPE = Envelope("run-1", "h", NOW)
CANDIDATE = Candidate(JOB, 7, NEW, "x86_64-linux", NOW, 3, FLAKE)
PASSED = IgnoredGate("health", "alice", "known", "canary: no reply")
FETCH = Fetch(ENVELOPE, CANDIDATE, Action.SWITCH, "upgrade", NOW, (PASSED,))
ACTIVATE = Activate(
    ENVELOPE,
    CANDIDATE,
    NEW,
    Action.SWITCH,
    ("health: 2 checks well",),
    running=OTHER,
    profile=None,
    baseline="{}",
    ignored=(PASSED,),
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
instants = st.datetimes(timezones=st.just(UTC))
envelopes = st.builds(Envelope, texts, texts, instants)
candidates = st.builds(
    Candidate,
    st.just(JOB),
    st.integers(0, 2**53),
    st.just(NEW),
    texts,
    st.none() | instants,
    st.none() | st.integers(0, 2**53),
    st.none() | st.just(FLAKE),
)
ignored = st.lists(st.builds(IgnoredGate, texts, texts, texts, texts), max_size=2).map(tuple)


def parse(request, text):
    return type(request).parse(text, store_dir="/nix/store")


@given(st.builds(Fetch, envelopes, candidates, st.sampled_from(Action), texts, instants, ignored))
def test_a_request_to_fetch_arrives_as_it_was_sent(request_):
    assert parse(request_, request_.serialise()) == request_


@given(
    st.builds(
        Activate,
        envelopes,
        candidates,
        st.just(OTHER),
        st.sampled_from(Action),
        st.lists(texts, max_size=4).map(tuple),
        st.none() | st.just(OTHER),
        st.none() | st.just(NEW),
        texts,
        ignored,
        st.booleans(),
    )
)
def test_a_request_to_activate_arrives_as_it_was_sent(request_):
    assert parse(request_, request_.serialise()) == request_


def changed(request, **fields):
    return json.dumps({**json.loads(request.serialise()), **fields})


def of_another_build(request, **fields):
    said = json.loads(request.serialise())
    return json.dumps({**said, "candidate": {**said["candidate"], **fields}})


def without(request, name):
    said = json.loads(request.serialise())
    del said[name]
    return json.dumps(said)


def twice(request, name):
    said = request.serialise()
    return said[:-1] + f', "{name}": {json.dumps(json.loads(said)[name])}}}'


MALFORMED = [
    "",
    "null",
    "[]",
    "{",
    "[" * 100_000,
    '{"version": NaN}',
    '{"version": ' + "9" * 5000 + "}",
    *(
        text
        for request in (FETCH, ACTIVATE)
        for text in (
            changed(request, version=2),
            changed(request, version="1"),
            changed(request, version=True),
            changed(request, version=-1),
            changed(request, kind="reboot"),
            changed(request, run_id=None),
            changed(request, run_id="a\0b"),
            changed(request, run_id="\ud800"),
            changed(request, host=7),
            changed(request, issued_at="yesterday"),
            changed(request, issued_at="2026-11-21T04:40:00"),
            changed(request, action="reboot"),
            changed(request, action=None),
            changed(request, ignored="health"),
            changed(request, ignored=["health"]),
            changed(request, ignored=[["health"]]),
            changed(request, ignored=[["health", "a", "b", 1]]),
            changed(request, candidate=[]),
            changed(request, more=1),
            without(request, "host"),
            twice(request, "host"),
            of_another_build(request, toplevel="/etc/passwd"),
            of_another_build(request, toplevel=None),
            of_another_build(request, build_id="7"),
            of_another_build(request, build_id=True),
            of_another_build(request, build_id=-7),
            of_another_build(request, build_id=2**70),
            of_another_build(request, finished_at="yesterday"),
            of_another_build(request, instance=7),
            of_another_build(request, flake="github:o/r"),
            of_another_build(request, flake="--option"),
            of_another_build(request, more=1),
        )
    ),
    changed(FETCH, started_at=None),
    changed(ACTIVATE, toplevel="/nix/store/../etc"),
    changed(ACTIVATE, reasons="because"),
    changed(ACTIVATE, reasons=[1]),
    changed(ACTIVATE, running=7),
    changed(ACTIVATE, running="/etc"),
    changed(ACTIVATE, profile=["/nix/store"]),
    changed(ACTIVATE, baseline=None),
    changed(ACTIVATE, baseline="a\0b"),
    changed(ACTIVATE, is_switch_refused=1),
    changed(ACTIVATE, is_switch_refused=None),
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_request_that_is_wrong_in_any_part_is_refused(text):
    for request in (FETCH, ACTIVATE):
        with pytest.raises(RequestError) as refused:
            parse(request, text)
        assert refused.value.kind is Kind.REQUEST_MALFORMED


@pytest.mark.parametrize(
    ("request_", "text", "message"),
    [
        (
            FETCH,
            changed(FETCH, version=2),
            "what should be a request to fetch is not one: version 2 is not 1",
        ),
        (
            ACTIVATE,
            changed(ACTIVATE, kind="x" * 41),
            f"what should be a request to activate is not one: its kind is '{'x' * 40}' and not activate",
        ),
        (
            FETCH,
            FETCH.serialise() + " " * LARGEST,
            f"a request to fetch has {len(FETCH.serialise()) + LARGEST} characters; 16777216 are allowed",
        ),
        (
            ACTIVATE,
            changed(ACTIVATE, action="reboot"),
            "what should be a request to activate is not one: 'reboot' is not a valid Action",
        ),
    ],
)
def test_an_error_says_what_is_wrong_in_a_request(request_, text, message):
    with pytest.raises(RequestError) as refused:
        parse(request_, text)
    assert refused.value.message == message


def test_a_request_of_the_largest_size_is_read():
    text = FETCH.serialise()
    assert parse(FETCH, text + " " * (LARGEST - len(text))) == FETCH


@pytest.mark.parametrize("request_", [FETCH, ACTIVATE])
def test_one_kind_of_request_is_not_taken_for_another(request_):
    other = ACTIVATE if request_ is FETCH else FETCH
    with pytest.raises(RequestError, match="kind"):
        parse(other, request_.serialise())


def test_a_request_that_is_too_large_is_not_even_read():
    with pytest.raises(RequestError) as refused:
        parse(FETCH, FETCH.serialise() + " " * LARGEST)
    assert refused.value.kind is Kind.REQUEST_TOO_LARGE


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("age", [timedelta(0), VALID_FOR, -30 * SECOND])
def test_a_request_is_valid_for_minutes(age):
    ENVELOPE.require_valid("h", NOW + age)


@pytest.mark.parametrize(
    ("age", "kind"),
    [
        (VALID_FOR + SECOND, Kind.REQUEST_EXPIRED),
        (timedelta(days=365), Kind.REQUEST_EXPIRED),
        (-31 * SECOND, Kind.REQUEST_FROM_FUTURE),
    ],
)
def test_a_request_of_another_time_is_refused(age, kind):
    with pytest.raises(RequestError) as refused:
        ENVELOPE.require_valid("h", NOW + age)
    assert refused.value.kind is kind


def test_a_request_for_another_host_is_refused():
    with pytest.raises(RequestError) as refused:
        ENVELOPE.require_valid("other", NOW)
    assert refused.value.kind is Kind.REQUEST_MISDIRECTED
