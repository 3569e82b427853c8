"""Progress of long commands on standard error."""

from __future__ import annotations

import io

import pytest

from agent.application import events
from agent.application.flake_update import events as update_events
from agent.cli.render.ci_log import FoldedSink, is_in_ci


def told(*said, folds=False):
    stream = io.StringIO()
    sink = FoldedSink(stream, folds=folds)
    sink.bind(host="x")
    for event, fields in said:
        sink.emit(event, **fields)
    return stream.getvalue()


STEP = [
    (update_events.STEP_STARTED, {"title": "Building"}),
    (events.PROGRAM_STARTED, {"argv": ["nix"]}),
    (events.PROGRAM_SPOKE, {"program": "nix", "stream": "stderr", "line": "building x"}),
    (events.PROGRAM_ENDED, {"program": "nix", "returncode": 0, "seconds": 1}),
    (update_events.STEP_ENDED, {"title": "Building"}),
]


def test_a_person_sees_steps_and_what_programs_say():
    assert told(*STEP) == "\n── Building ──\n  | building x\n"


def test_a_ci_folds_each_step():
    assert told(*STEP, folds=True) == "::group::Building\n  | building x\n::endgroup::\n"


def test_no_program_can_command_the_ci():
    lines = ["::set-env name=X::y", "  ::endgroup::", "##[add-path]/x", "a\x1b[2Jb\r::x"]
    said = [
        (events.PROGRAM_SPOKE, {"program": "nix", "stream": "stderr", "line": line})
        for line in lines
    ]
    for line in told(*said, folds=True).splitlines():
        assert line.startswith("  | ")
        assert "##[" not in line
        assert line.isprintable()


def test_hosts_are_told_by_verdict_with_the_log_of_what_is_broken():
    fields = {"reason": "", "log": "", "packages": None}
    assert told(
        (update_events.HOST_COMPARED, {**fields, "host": "a", "verdict": "unchanged"}),
        (update_events.HOST_COMPARED, {**fields, "host": "b", "verdict": "changed", "packages": 2}),
        (
            update_events.HOST_COMPARED,
            {**fields, "host": "c", "verdict": "breaks", "reason": "linux failed", "log": "x\ny"},
        ),
    ) == (
        "  ✓ a: unchanged\n  ✓ b: changed, 2 package(s)\n  ✗ c: breaks: linux failed\n"
        "      | x\n      | y\n"
    )


def test_other_events_are_one_line_without_what_is_empty():
    assert told(
        (update_events.HOSTS_FOUND, {"hosts": ["a", "b"]}),
        (update_events.LOCK_UNCHANGED, {}),
        (update_events.BRANCH_LEFT, {"branch": "x", "error_kind": "git-failed", "error_hint": ""}),
        (update_events.EVALUATED_SINGLY, {"error_message": "https://u:hunter2@h"}),
    ) == (
        "    hosts found hosts: a, b\n    lock unchanged\n"
        "  ✗ branch left branch: x; error.kind: git-failed\n"
        "  ! evaluated singly error.message: https://***@h\n"
    )


def test_a_reader_that_has_gone_ends_nothing():
    class Gone(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    FoldedSink(Gone(), folds=False).emit(update_events.LOCK_UNCHANGED)


@pytest.mark.parametrize(("value", "is_ci"), [("true", True), ("", False), (None, False)])
def test_a_ci_says_that_it_is_one(monkeypatch, value, is_ci):
    monkeypatch.delenv("CI", raising=False)
    if value is not None:
        monkeypatch.setenv("CI", value)
    assert is_in_ci() is is_ci
