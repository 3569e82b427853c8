from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.nix.log import NixLog

DERIVATION = "/nix/store/7riksv2whx6mhpvhbw2dl05fps937a09-linux.drv"


def line(**entry):
    return "@nix " + json.dumps(entry)


def begun(number=1, derivation=DERIVATION):
    return line(action="start", id=number, type=105, fields=[derivation, "", 1, 1])


def printed(text, number=1):
    return line(action="result", id=number, type=101, fields=[text])


def told(text, level=0):
    return line(action="msg", level=level, msg=text)


def test_each_derivation_has_the_end_of_its_own_log():
    log = NixLog()
    assert log.feed(begun()) == f"building {DERIVATION}"
    log.feed(begun(2, "/nix/store/other.drv"))
    for number in range(40):
        assert log.feed(printed(f"\x1b[1mline {number}\x1b[0m")) == f"line {number}"
        log.feed(printed("other", 2))
    assert log.tail(DERIVATION).splitlines() == [f"line {number}" for number in range(15, 40)]
    assert log.tail("/nix/store/never.drv") == ""


def test_what_is_printed_after_the_end_belongs_to_nobody():
    log = NixLog()
    log.feed(begun())
    assert log.feed(line(action="stop", id=1)) is None
    assert log.feed(printed("late")) == "late"
    assert log.tail(DERIVATION) == ""


@pytest.mark.parametrize(
    "text",
    [
        f"\x1b[31;1merror:\x1b[0m builder for '\x1b[35;1m{DERIVATION}\x1b[0m' failed with exit code 1",
        f"error: Cannot build '{DERIVATION}'.\n       Reason: builder failed with exit code 1.",
        f"error: building of '{DERIVATION}' timed out after 3 seconds",
        f"error: build of '{DERIVATION}' on 'ssh://builder' failed",
    ],
)
def test_a_builder_that_failed_is_known_in_the_words_of_every_nix(text):
    log = NixLog()
    log.feed(told(text))
    log.feed(told(text))
    assert log.failed == [DERIVATION]
    assert DERIVATION in log.text


@pytest.mark.parametrize(
    "text",
    [
        f"error: 1 dependencies of derivation '{DERIVATION}' failed to build",
        f"error: Cannot build '{DERIVATION}': 1 dependency failed.",
        f"building '{DERIVATION}'...",
    ],
)
def test_one_whose_dependency_failed_is_not_to_blame(text):
    log = NixLog()
    log.feed(told(text, level=0 if text.startswith("error") else 3))
    assert log.failed == []


def test_secrets_and_what_only_nixs_developers_want_are_not_shown():
    log = NixLog()
    assert log.feed(told("debugging", level=6)) is None
    assert "hunter2" not in log.feed(told("fetching https://u:hunter2@cache", level=3))
    assert log.feed("plain text") == "plain text"
    assert log.feed(told("")) is None
    assert log.feed("@nix [1]") == "@nix [1]"
    assert log.feed("@nix {") == "@nix {"


@given(st.lists(st.text(max_size=40) | st.text(max_size=40).map("@nix {}".format), max_size=5))
def test_no_line_is_too_odd(lines):
    log = NixLog()
    for one in lines:
        log.feed(one)


VALUES = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2)
ACTIONS = st.sampled_from(["start", "stop", "result", "msg", "odd", None])
TYPES = st.sampled_from([101, 105, None, "x"])


@given(ACTIONS, TYPES, VALUES, VALUES, VALUES)
def test_no_entry_is_too_odd(action, kind, number, fields, text):
    log = NixLog()
    log.feed(line(action=action, type=kind, id=number, fields=fields, level=number, msg=text))
