from __future__ import annotations

import json
from datetime import timedelta

from agent.cli.render.check import for_person, for_program
from agent.domain.check import CheckResult, HttpCheck, IcmpCheck

GATEWAY = IcmpCheck("gateway", "192.0.2.1", timedelta(seconds=5))
WIKI = HttpCheck("wiki", "https://wiki.example/health", timedelta(seconds=5))
PRINTER = IcmpCheck("printer", "printer.example", timedelta(seconds=5), is_wanted=True)

WELL = CheckResult(GATEWAY, is_well=True, latency=timedelta(microseconds=400))
FAILED = CheckResult(WIKI, is_well=False, reason="status 503, expected 200-399")
MERELY_WANTED = CheckResult(PRINTER, is_well=False, reason="no reply (0 of 3)")


def lines(*results, is_tty=False, environment=None):
    return for_person(results, is_tty=is_tty, environment=environment or {}).splitlines()


def test_lines_stand_in_columns_and_marks_tell_what_holds():
    assert lines(WELL, FAILED, MERELY_WANTED) == [
        "✓  gateway  icmp  192.0.2.1                    0.4 ms",
        "✗  wiki     http  https://wiki.example/health  status 503, expected 200-399",
        "!  printer  icmp  printer.example              no reply (0 of 3)",
    ]


def test_on_a_terminal_a_long_reason_is_wrapped_in_its_column(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    first, second = lines(FAILED, is_tty=True, environment={"NO_COLOR": "1"})
    assert first == "✗  wiki  http  https://wiki.example/health  status 503,"
    assert second.split() == ["expected", "200-399"]
    assert second.index("expected") == first.index("status")
    assert len(lines(FAILED)) == 1


def test_that_there_are_no_checks_is_told():
    assert lines(is_tty=True) == ["no checks are configured"]


def test_colour_is_for_the_mark_alone():
    coloured = lines(WELL, FAILED, MERELY_WANTED, is_tty=True)
    plain = lines(WELL, FAILED, MERELY_WANTED)
    assert [line.partition("\x1b[0m")[0] for line in coloured] == [
        "\x1b[32m✓",
        "\x1b[31m✗",
        "\x1b[33m!",
    ]
    assert [line.partition("\x1b[0m")[2] for line in coloured] == [line[1:] for line in plain]


def test_a_slow_answer_is_told_in_seconds():
    slow = CheckResult(GATEWAY, is_well=True, latency=timedelta(seconds=1.34))
    assert lines(slow) == ["✓  gateway  icmp  192.0.2.1  1.3 s"]


def test_a_well_check_without_a_latency_has_nothing_to_tell():
    assert lines(CheckResult(GATEWAY, is_well=True)) == ["✓  gateway  icmp  192.0.2.1"]


def test_a_server_cannot_write_to_the_terminal():
    rude = CheckResult(WIKI, is_well=False, reason="answer is not HTTP: \x1b[2J\r\n")
    (line,) = lines(rude)
    assert line.endswith("answer is not HTTP: �[2J")


def test_programs_get_every_check_with_its_reason():
    told = json.loads(for_program([WELL, FAILED, MERELY_WANTED]))
    assert told == {
        "well": False,
        "checks": [
            {
                "name": "gateway",
                "type": "icmp",
                "target": "192.0.2.1",
                "well": True,
                "wanted": False,
                "conclusive": True,
                "reason": "",
                "latency_seconds": 0.0004,
            },
            {
                "name": "wiki",
                "type": "http",
                "target": "https://wiki.example/health",
                "well": False,
                "wanted": False,
                "conclusive": True,
                "reason": "status 503, expected 200-399",
                "latency_seconds": None,
            },
            {
                "name": "printer",
                "type": "icmp",
                "target": "printer.example",
                "well": False,
                "wanted": True,
                "conclusive": True,
                "reason": "no reply (0 of 3)",
                "latency_seconds": None,
            },
        ],
    }


def test_programs_are_told_what_could_not_be_run_at_all():
    impossible = CheckResult(WIKI, is_well=False, reason="no descriptor left", is_conclusive=False)
    ((check,), well) = (json.loads(for_program([impossible]))[key] for key in ("checks", "well"))
    assert (check["conclusive"], check["well"], well) == (False, False, False)


def test_a_merely_wanted_check_does_not_hold_the_host():
    assert json.loads(for_program([WELL, MERELY_WANTED]))["well"]
    assert not json.loads(for_program([WELL, FAILED]))["well"]


def test_no_checks_let_the_host_go_on():
    assert json.loads(for_program([])) == {"well": True, "checks": []}


def test_colour_needs_a_terminal_and_nobody_who_minds():
    def is_coloured(**circumstances):
        return "\x1b" in "".join(lines(WELL, **circumstances))

    assert is_coloured(is_tty=True)
    assert is_coloured(is_tty=True, environment={"NO_COLOR": ""})
    assert not is_coloured(is_tty=True, environment={"NO_COLOR": "1"})
    assert not is_coloured(is_tty=False)
