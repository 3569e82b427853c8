from __future__ import annotations

from datetime import timedelta

from agent.application.history import History
from agent.cli.render.history import for_person
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.path_record import Denial
from fakes.runs import NOW, a_run, an_arrival
from fakes.samples import NEW, OLD, OTHER


def lines(*runs, denials=()):
    return for_person(History(runs, denials)).splitlines()


def test_a_host_without_a_history_says_so():
    assert lines() == ["nothing has happened here yet"]


def test_an_upgrade_is_told_with_its_build_its_systems_and_its_end():
    assert lines(an_arrival(7, outcome="confirmed")) == [
        "2026-11-21 11:45:00 UTC  confirmed build 7",
        f"  switch                 {NEW}",
        f"  from                   {OLD}",
    ]


def test_a_run_that_touched_nothing_is_told_with_its_reasons_and_how_often_it_came_again():
    held = a_run(1, reasons=(("health", "a: no reply"), ("denied", "by eve")), repeats=3)
    assert lines(held) == [
        "2026-11-21 05:45:00 UTC  held (and 3 times again)",
        "  health                 a: no reply",
        "  denied                 by eve",
    ]


def test_a_run_that_has_not_ended_is_told_by_when_it_began():
    assert lines(a_run(1, finished_at=None, outcome="fetched", toplevel=NEW)) == [
        "2026-11-21 05:40:00 UTC  fetched",
        f"  system                 {NEW}",
    ]


def test_a_fault_is_told_once_even_where_it_is_the_reason_too():
    fault = {"outcome": "failed", "error_kind": "units-failed", "error_message": "a.service"}
    assert lines(a_run(1, **fault))[1:] == ["  units-failed           a.service"]
    both = a_run(1, reasons=(("units-failed", "a.service"),), **fault)
    assert lines(both)[1:] == ["  units-failed           a.service"]


def test_a_roll_back_is_told_with_where_it_went():
    assert lines(an_arrival(7, outcome="rolled-back", target=OTHER))[-2:] == [
        f"  from                   {OLD}",
        f"  back to                {OTHER}",
    ]


def test_a_gate_that_a_person_has_passed_is_told_with_who_and_why():
    run = an_arrival(7, ignored_gates=(IgnoredGate("health", "eve", "a fix", "canary: no reply"),))
    assert lines(run)[-1] == "  health                 ignored by eve (a fix): canary: no reply"


def test_denials_come_last_with_who_why_and_until_when():
    denials = (
        Denial(NEW, "it broke sshd", NOW, "agent"),
        Denial(OLD, "not on a Friday", NOW, "eve", until=NOW + timedelta(days=1)),
    )
    assert lines(a_run(1), denials=denials)[1:] == [
        f"denied                   {NEW} by agent: it broke sshd",
        f"denied                   {OLD} by eve: not on a Friday (until 2026-11-22 04:40 UTC)",
    ]


def test_foreign_text_neither_breaks_a_line_nor_moves_the_cursor():
    assert lines(a_run(1, reasons=(("health", "a\x1b[2J\nb"),)))[1:] == [
        "  health                 a�[2J b"
    ]
