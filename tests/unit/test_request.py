from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.candidate import Candidate
from agent.domain.errors import HydraError
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.policy import Action
from agent.domain.request import Request
from fakes.samples import JOB, NEW, OTHER

FLAKE = parse_locked_flake_reference(f"github:o/r/{'a' * 40}")
REQUEST = Request(
    Candidate(JOB, 7, NEW, "x86_64-linux", datetime(2026, 11, 21, tzinfo=UTC), 3, FLAKE),
    Action.SWITCH,
    ("health: 2 checks well",),
    running=OTHER,
    profile=None,
)


def parse(text):
    return Request.parse(text, store_dir="/nix/store")


@given(
    st.builds(
        Request,
        st.builds(
            Candidate,
            st.just(JOB),
            st.integers(1, 2**53),
            st.just(NEW),
            st.text(max_size=20),
            st.none() | st.datetimes(timezones=st.just(UTC)),
            st.none() | st.integers(1, 2**53),
            st.none() | st.just(FLAKE),
        ),
        st.sampled_from(Action),
        st.lists(st.text(max_size=20), max_size=4).map(tuple),
        st.none() | st.just(OTHER),
        st.none() | st.just(NEW),
    )
)
def test_a_request_arrives_as_it_was_sent(request_):
    assert parse(request_.serialise()) == request_


def changed(**fields):
    return json.dumps({**json.loads(REQUEST.serialise()), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        changed(toplevel="/etc/passwd"),
        changed(toplevel=None),
        changed(action="reboot"),
        changed(action=None),
        changed(build_id="7"),
        changed(build_id=True),
        changed(build_id=None),
        changed(reasons="because"),
        changed(reasons=[1]),
        changed(finished_at="yesterday"),
        changed(instance=7),
        changed(running=7),
        changed(profile=["/nix/store"]),
    ],
)
def test_a_request_that_is_wrong_in_any_part_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_a_request_with_an_unlocked_flake_is_refused():
    with pytest.raises(HydraError):
        parse(changed(flake="github:o/r"))
