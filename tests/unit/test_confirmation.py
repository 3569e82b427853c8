from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.checks.tcp import TcpCheck
from agent.domain.check import CheckResult
from agent.domain.confirmation import (
    Assessment,
    Baseline,
    Findings,
    Verdict,
    judge,
    last_known,
    new_failures,
    touched_among,
)
from agent.domain.unit_names import CONFIRM_UNIT

HEALTHY, BROKEN, INCONCLUSIVE = Verdict
WELL_BEFORE = Baseline(
    checks={"web": True, "mail": True},
    failed_units=frozenset({"old.service"}),
    hydra=True,
    outside_world=True,
    clock=True,
)
WELL_NOW = Findings(
    failed_units=frozenset({"old.service"}),
    touched_units=frozenset({"web.service", "worker@.service"}),
    hydra=True,
    outside_world=True,
    clock=True,
)


def told(name="web", *, well=False, wanted=False, conclusive=True):
    check = TcpCheck(name, "192.0.2.1", 80, timedelta(seconds=1), is_wanted=wanted)
    return CheckResult(check, well, "" if well else "refused", is_conclusive=conclusive)


def now(*checks, failed=(), **facts):
    units = WELL_NOW.failed_units | frozenset(failed)
    return replace(WELL_NOW, **({"checks": checks, "failed_units": units} | facts))


def before(**facts):
    return replace(WELL_BEFORE, **facts)


def names(reasons):
    return [name for name, _ in reasons]


@pytest.mark.parametrize(
    ("baseline", "seen", "verdict", "reasons"),
    [
        pytest.param(before(), now(), HEALTHY, [], id="nothing is ill"),
        pytest.param(before(), now(told(well=True)), HEALTHY, [], id="a check is well"),
        pytest.param(before(), now(told()), BROKEN, ["check-failed"], id="a check fell ill"),
        pytest.param(
            before(),
            now(told(), told("mail")),
            BROKEN,
            ["check-failed", "check-failed"],
            id="two checks fell ill",
        ),
        pytest.param(
            before(checks={"web": False}), now(told()), HEALTHY, [], id="it was ill before"
        ),
        pytest.param(before(), now(told(wanted=True)), HEALTHY, [], id="it is merely wanted"),
        pytest.param(
            before(), now(told("new")), INCONCLUSIVE, ["check-new"], id="it was not asked before"
        ),
        pytest.param(
            before(),
            now(told(conclusive=False)),
            INCONCLUSIVE,
            ["check-impossible"],
            id="it could not be run",
        ),
        pytest.param(
            before(checks={}),
            now(told(conclusive=False)),
            INCONCLUSIVE,
            ["check-impossible"],
            id="it could not be run, nor before",
        ),
        pytest.param(
            before(checks={"web": False}),
            now(told(conclusive=False)),
            HEALTHY,
            [],
            id="it could not be run, and was ill before",
        ),
        pytest.param(
            before(),
            now(failed=["web.service"]),
            BROKEN,
            ["unit-failed"],
            id="a unit that was touched failed",
        ),
        pytest.param(
            before(),
            now(failed=["worker@7.service"]),
            BROKEN,
            ["unit-failed"],
            id="an instance of a template that was touched failed",
        ),
        pytest.param(
            before(),
            now(failed=["disk.mount"]),
            HEALTHY,
            [],
            id="a unit that was not touched failed",
        ),
        pytest.param(
            before(failed_units=frozenset({"web.service"})),
            now(failed=["web.service"]),
            HEALTHY,
            [],
            id="a unit that was touched had failed before",
        ),
        pytest.param(
            before(failed_units=None),
            now(failed=["web.service"]),
            INCONCLUSIVE,
            ["units-unknown"],
            id="a unit has failed, perhaps before",
        ),
        pytest.param(
            before(),
            now(failed=["web.service"], timer_jobs=frozenset({"web.service"})),
            HEALTHY,
            [],
            id="a job failed that its timer has started",
        ),
        pytest.param(
            before(),
            now(failed=["web.service", "worker@1.service"], timer_jobs=frozenset({"web.service"})),
            BROKEN,
            ["unit-failed"],
            id="beside a timer's job, another unit failed",
        ),
        pytest.param(
            before(),
            now(failed=["web.service"], unclear_units=frozenset({"web.service"})),
            INCONCLUSIVE,
            ["units-unknown"],
            id="nobody knows what has started a unit that failed",
        ),
        pytest.param(
            before(failed_units=None),
            now(failed=["web.service"], timer_jobs=frozenset({"web.service"})),
            HEALTHY,
            [],
            id="a timer's job has failed, perhaps before",
        ),
        pytest.param(
            before(failed_units=None),
            now(failed=["disk.mount"]),
            HEALTHY,
            [],
            id="a unit that was not touched has failed, perhaps before",
        ),
        pytest.param(
            before(),
            now(failed_units=None),
            INCONCLUSIVE,
            ["units-unknown"],
            id="systemd does not tell",
        ),
        pytest.param(
            before(),
            now(hydra=False, outside_world=False),
            BROKEN,
            ["cut-off"],
            id="the host is cut off",
        ),
        pytest.param(
            before(),
            now(hydra=False),
            INCONCLUSIVE,
            ["hydra-unreachable"],
            id="Hydra alone is silent",
        ),
        pytest.param(before(), now(outside_world=False), HEALTHY, [], id="Hydra alone answers"),
        pytest.param(
            before(outside_world=False),
            now(hydra=False, outside_world=False),
            INCONCLUSIVE,
            ["hydra-unreachable"],
            id="nobody but Hydra ever answered",
        ),
        pytest.param(
            before(outside_world=None),
            now(hydra=False, outside_world=False),
            INCONCLUSIVE,
            ["hydra-unreachable"],
            id="nobody knows whether anybody but Hydra answered",
        ),
        pytest.param(
            before(hydra=False),
            now(hydra=False, outside_world=False),
            INCONCLUSIVE,
            ["hydra-unreachable"],
            id="Hydra was silent before",
        ),
        pytest.param(
            before(),
            now(hydra=None, outside_world=None),
            HEALTHY,
            [],
            id="Hydra is not to be asked",
        ),
        pytest.param(
            before(),
            now(told(), clock=False),
            INCONCLUSIVE,
            ["clock-unsynchronised", "check-failed"],
            id="the clock was lost, and with it a check",
        ),
        pytest.param(
            before(clock=None),
            now(told(), clock=False),
            INCONCLUSIVE,
            ["clock-unsynchronised", "check-failed"],
            id="the clock was perhaps lost, and with it a check",
        ),
        pytest.param(
            before(clock=False),
            now(told(), clock=False),
            BROKEN,
            ["check-failed"],
            id="the clock never was synchronised",
        ),
        pytest.param(
            before(), now(told(), clock=None), BROKEN, ["check-failed"], id="nobody knows the clock"
        ),
        pytest.param(
            before(), now(clock=False), HEALTHY, [], id="the clock was lost, and all else is well"
        ),
        pytest.param(
            Baseline(),
            now(told(), hydra=False, outside_world=False, failed=["web.service"]),
            INCONCLUSIVE,
            ["check-new", "units-unknown", "hydra-unreachable"],
            id="the baseline is lost, and all is ill",
        ),
    ],
)
def test_a_system_is_judged_by_what_the_findings_prove(baseline, seen, verdict, reasons):
    judged = judge(baseline, seen, ())
    assert (judged.verdict, names(judged.reasons)) == (verdict, reasons)


@pytest.mark.parametrize(
    ("baseline", "seen", "notes"),
    [
        (before(), now(told(wanted=True)), [("check-excused", "web: refused")]),
        (before(checks={"web": False}), now(told()), [("check-excused", "web: refused")]),
        (
            before(),
            now(failed=["disk.mount"]),
            [("unit-excused", "disk.mount has failed, and this switch has not changed it")],
        ),
        (before(), now(told(well=True, wanted=True)), []),
    ],
)
def test_what_is_ill_and_excused_is_told(baseline, seen, notes):
    assert judge(baseline, seen, ()) == Assessment(HEALTHY, (), tuple(notes))


def test_a_broken_system_s_doubts_are_told_beside_the_proof():
    judged = judge(before(), now(told(), told("new"), hydra=False), ())
    assert names(judged.reasons) == ["check-failed"]
    assert names(judged.notes) == ["check-new", "hydra-unreachable"]


def test_a_reason_names_the_check_and_what_it_said():
    assert judge(before(), now(told()), ()).reasons == (("check-failed", "web: refused"),)


@pytest.mark.parametrize(
    ("baseline", "seen", "doubt"),
    [
        (before(), now(told(conclusive=False)), ("check-impossible", "web: refused")),
        (
            before(checks={}),
            now(told()),
            ("check-new", "web: refused; it was not checked before the switch"),
        ),
        (
            before(),
            now(failed_units=None),
            ("units-unknown", "systemd did not say which units have failed"),
        ),
        (
            before(failed_units=None),
            now(failed=["web.service"]),
            ("units-unknown", "web.service has failed, perhaps already before the switch"),
        ),
        (
            before(),
            now(failed=["web.service"], unclear_units=frozenset({"web.service"})),
            (
                "units-unknown",
                "web.service has failed; it is unknown whether its timer or the switch has started it",
            ),
        ),
        (
            before(),
            now(hydra=False),
            (
                "hydra-unreachable",
                "Hydra does not answer, which proves nothing about this host",
            ),
        ),
    ],
)
def test_a_doubt_says_what_is_not_known(baseline, seen, doubt):
    assert judge(baseline, seen, ()) == Assessment(INCONCLUSIVE, (doubt,))


@pytest.mark.parametrize("baseline", [before(), before(failed_units=None)])
@pytest.mark.parametrize("pattern", ["web.service", "web.*", "*"])
def test_a_unit_to_be_ignored_neither_breaks_nor_raises_a_doubt(baseline, pattern):
    assert judge(baseline, now(failed=["web.service"]), (pattern,)) == Assessment(HEALTHY)


def test_the_confirm_unit_s_own_failure_is_not_held_against_the_system():
    seen = now(failed=[CONFIRM_UNIT], touched_units=frozenset({CONFIRM_UNIT}))
    assert judge(before(), seen, ()) == Assessment(HEALTHY)


def test_a_pattern_that_does_not_match_ignores_nothing():
    assert judge(before(), now(failed=["web.service"]), ("Web.service",)).verdict is BROKEN


@pytest.mark.parametrize(
    ("baseline", "failed", "newly"),
    [
        (before(), frozenset({"old.service", "web.service"}), {"web.service"}),
        (before(), frozenset({"kept.service"}), set()),
        (before(), None, set()),
        (before(failed_units=None), frozenset({"web.service"}), set()),
    ],
)
def test_a_failure_is_new_where_both_sides_are_known(baseline, failed, newly):
    assert new_failures(baseline, failed, ("kept*",)) == newly


@pytest.mark.parametrize(
    ("unit", "is_touched"),
    [
        ("web.service", True),
        ("worker@.service", True),
        ("worker@a.service", True),
        ("worker@a-b@c.service", True),
        ("worker@dev-sda.1.service", True),
        ("other@web.service", False),
        ("web.socket", False),
    ],
)
def test_an_instance_is_touched_with_its_template(unit, is_touched):
    found = touched_among(frozenset({unit}), WELL_NOW.touched_units)
    assert found == (frozenset({unit}) if is_touched else frozenset())


TRUTHS = st.sampled_from([True, False, None])
UNITS = st.one_of(st.none(), st.frozensets(st.text()))
BASELINES = st.builds(
    Baseline, st.dictionaries(st.text(), st.booleans()), UNITS, TRUTHS, TRUTHS, TRUTHS
)


@given(BASELINES)
def test_a_baseline_arrives_as_it_was_sent(baseline):
    text = baseline.serialise()
    assert "\n" not in text
    assert Baseline.parse(text) == baseline


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = ("checks", "failed_units", "hydra", "control", "clock")
CLAIMS = st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANYTHING).map(json.dumps)


@given(CLAIMS | ANYTHING.map(json.dumps) | st.text() | st.none())
@example("[" * 100_000)
@example("9" * 5000)
@example('{"checks": {"web": 1, "mail": "true", "dns": true}}')
@example('{"failed_units": ["web.service", 7]}')
def test_what_a_baseline_cannot_have_said_is_unknown(text):
    found = Baseline.parse(text)
    truths = {True, False}
    assert {*found.checks.values()} <= truths
    assert {found.hydra, found.outside_world, found.clock} <= {None, *truths}
    assert found.failed_units is None or all(isinstance(unit, str) for unit in found.failed_units)
    assert Baseline.parse(found.serialise()) == found


@pytest.mark.parametrize(
    ("text", "baseline"),
    [
        ('{"checks": {"web": 1, "dns": true}}', Baseline(checks={"dns": True})),
        ('{"failed_units": ["web.service", 7]}', Baseline()),
        ('{"failed_units": "web.service"}', Baseline()),
        ('{"failed_units": []}', Baseline(failed_units=frozenset())),
        ('{"hydra": 1, "control": "true", "clock": []}', Baseline()),
        ('{"hydra": true', Baseline()),
        ("[]", Baseline()),
        ("", Baseline()),
        (None, Baseline()),
    ],
)
def test_only_what_can_be_read_in_a_baseline_is_believed(text, baseline):
    assert Baseline.parse(text) == baseline


FINDINGS = st.builds(
    Findings,
    st.lists(
        st.builds(
            lambda name, wanted, well, conclusive: told(
                name, well=well, wanted=wanted, conclusive=conclusive
            ),
            st.sampled_from(["web", "mail", "new"]),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        )
    ).map(tuple),
    st.one_of(st.none(), st.frozensets(st.sampled_from(["web.service", "old.service"]))),
    st.frozensets(st.sampled_from(["web.service", "old.service"])),
    TRUTHS,
    TRUTHS,
    TRUTHS,
)


@given(FINDINGS)
def test_nothing_is_proven_broken_without_a_baseline(seen):
    assert judge(Baseline(), seen, ()).verdict is not BROKEN


@given(BASELINES, FINDINGS)
def test_every_verdict_but_healthy_has_its_reasons(baseline, seen):
    judged = judge(baseline, seen, ())
    assert bool(judged.reasons) is (judged.verdict is not HEALTHY)


def test_a_timer_s_job_that_failed_is_noted():
    seen = now(failed=["web.service"], timer_jobs=frozenset({"web.service"}))
    assert judge(before(), seen, ()).notes == (
        (
            "unit-excused",
            "web.service has failed, but its timer has started it, not the switch",
        ),
    )


def test_what_was_cut_short_counts_as_it_did_before():
    def cut(name):
        return replace(told(name), is_conclusive=False, is_cut_short=True)

    impossible = told("dns", conclusive=False)
    earlier = (told("web"), told("mail", well=True), told("dns", well=True))
    assert last_known(earlier, (cut("web"), cut("mail"), impossible, cut("new"))) == (
        told("web"),
        told("mail", well=True),
        impossible,
        cut("new"),
    )
