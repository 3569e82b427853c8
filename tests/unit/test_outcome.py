from __future__ import annotations

from agent.domain.outcome import HARMLESS, UNDER_WAY, Outcome

TOUCHING = UNDER_WAY - HARMLESS


def test_the_phases_come_in_their_order_and_before_the_ends():
    listed = list(Outcome)
    phases = [outcome for outcome in listed if outcome in UNDER_WAY]
    assert listed[: len(phases)] == phases
    assert phases == [
        "selected",
        "verified",
        "fetched",
        "armed",
        "activating",
        "pending",
        "rolling-back",
    ]


def test_the_harmless_phases_are_those_before_the_host_is_touched():
    assert set(list(Outcome)[: len(HARMLESS)]) == HARMLESS
    assert {"armed", "activating", "pending", "rolling-back"} == TOUCHING


def test_a_reboot_that_was_asked_for_is_not_under_way():
    assert Outcome.REBOOTING not in UNDER_WAY
