"""Nix's internal-json log; the lines are as nix 2.8.0 printed them, shortened."""

from __future__ import annotations

import json

import pytest

from agent.adapters.nix.log import NixLog

RECORDED = """\
@nix {"action":"start","id":1,"level":0,"text":"","type":102}
@nix {"action":"start","id":2,"level":0,"text":"","type":104}
@nix {"action":"start","id":3,"level":0,"text":"","type":103}
@nix {"action":"start","id":4,"level":6,"text":"querying info about missing paths","type":0}
@nix {"action":"stop","id":4}
@nix {"action":"result","fields":[0,0,0,0],"id":2,"type":105}
@nix {"action":"result","fields":[0,2,1,0],"id":3,"type":105}
@nix {"action":"result","fields":[101,2056208],"id":1,"type":106}
@nix {"action":"result","fields":[100,2056300],"id":1,"type":106}
@nix {"action":"start","fields":["/s/1z5a-system-path","file:///cache"],"id":5,"level":0,"text":"","type":108}
@nix {"action":"start","fields":["/s/1z5a-system-path","file:///cache","local"],"id":6,"level":3,"text":"copying path '/s/1z5a-system-path' from 'file:///cache'","type":100}
@nix {"action":"result","fields":[65536,2048872,0,0],"id":6,"type":105}
@nix {"action":"result","fields":[131072,2048872,0,0],"id":6,"type":105}
"""
THE_REST = """\
@nix {"action":"stop","id":6}
@nix {"action":"result","fields":[1,2,1,0],"id":3,"type":105}
@nix {"action":"start","fields":["/s/shcz-nixos-system-h-2","file:///cache","local"],"id":7,"level":3,"text":"copying path '/s/shcz-nixos-system-h-2' from 'file:///cache'","type":100}
@nix {"action":"stop","id":7}
@nix {"action":"result","fields":[2,2,0,0],"id":3,"type":105}
@nix {"action":"stop","id":3}
"""
ERROR = (
    '@nix {"action":"msg","column":null,"file":null,"level":0,"line":null,'
    '"msg":"\\u001b[31;1merror:\\u001b[0m path \'/s/x\' is required","raw_msg":"path"}'
)


def fed(text: str) -> tuple[NixLog, list[str]]:
    log = NixLog()
    said = [log.feed(line) for line in text.splitlines()]
    return log, [line for line in said if line is not None]


def message(level: int, text: str) -> str:
    return "@nix " + json.dumps({"action": "msg", "level": level, "msg": text})


def test_paths_and_bytes_are_counted_while_it_goes_on():
    log, said = fed(RECORDED)

    assert (log.paths, log.paths_expected) == (0, 2)
    assert (log.size, log.size_expected) == (131072, 2056300)
    assert said == []


def test_at_the_end_all_bytes_are_done_though_nix_is_silent_on_small_paths():
    log, _ = fed(RECORDED + THE_REST)

    assert (log.paths, log.paths_expected) == (2, 2)
    assert log.size == log.size_expected == 2056300


def copying(number: int) -> str:
    """A path of 200 bytes, copied in two steps, and the download behind it."""
    return f"""\
@nix {{"action":"start","id":{number}1,"type":101}}
@nix {{"action":"start","id":{number}2,"type":100}}
@nix {{"action":"result","fields":[100,200,0,0],"id":{number}2,"type":105}}
@nix {{"action":"result","fields":[200,200,0,0],"id":{number}2,"type":105}}
@nix {{"action":"stop","id":{number}1}}
@nix {{"action":"stop","id":{number}2}}
"""


def test_the_bytes_of_paths_that_are_done_are_counted_once():
    log, _ = fed("".join(copying(number) for number in range(3, 103)) + RECORDED)

    assert log.size == 100 * 200 + 131072


def test_what_has_ended_is_not_remembered():
    """A system has thousands of paths, and each has many lines: none may cost more than the last."""
    log, _ = fed("".join(copying(number) for number in range(3, 103)))

    remembered = [value for value in vars(log).values() if isinstance(value, dict)]
    assert remembered
    assert not any(remembered)


def test_of_an_activity_that_ends_nothing_else_is_forgotten():
    ends = (
        '@nix {"action":"stop","id":6}\n@nix {"action":"stop","id":"x"}\n@nix {"action":"stop"}\n'
    )
    log, _ = fed(RECORDED + ends + ends)

    assert (log.paths, log.paths_expected) == (0, 2)
    assert (log.size, log.size_expected) == (131072, 2056300)


def test_a_message_is_said_without_its_colours():
    log, said = fed(ERROR)

    assert said == ["error: path '/s/x' is required"]
    assert log.text == "error: path '/s/x' is required"


@pytest.mark.parametrize(("level", "is_said"), [(0, True), (1, True), (3, True), (4, False)])
def test_messages_for_nixs_developers_are_left_out(level, is_said):
    log, said = fed(message(level, "something"))

    assert said == ["something"] * is_said
    assert log.text == "something" * is_said


def test_the_log_of_a_local_build_is_said():
    _, said = fed('@nix {"action":"result","fields":["cc -c x.c"],"id":9,"type":101}')

    assert said == ["cc -c x.c"]


@pytest.mark.parametrize(
    "line",
    [
        "plain text",
        "fatal: not a git repository",
        "@nix",
        "@nix {broken",
        "@nix [1, 2]",
        "@nix null",
        "@nix " + "[" * 100_000,
    ],
)
def test_what_is_no_entry_is_said_as_it_is(line):
    log, said = fed(line)

    assert said == [line]
    assert log.text == line


@pytest.mark.parametrize(
    "line",
    [
        "@nix {}",
        '@nix {"action":"result"}',
        '@nix {"action":"result","id":"x","fields":[1,2,3,4],"type":105}',
        '@nix {"action":"result","id":3,"fields":"no list","type":105}',
        '@nix {"action":"result","id":3,"fields":["a","b"],"type":105}',
        '@nix {"action":"result","id":3,"fields":[],"type":106}',
        '@nix {"action":"result","id":99,"fields":[5,6,0,0],"type":105}',
        '@nix {"action":"result","id":3,"fields":[105,6],"type":106}',
        '@nix {"action":"start","id":"x","type":103}',
        '@nix {"action":"start","id":4,"type":[]}',
        '@nix {"action":"start"}',
        '@nix {"action":"msg","level":0}',
        '@nix {"action":"msg","level":0,"msg":5}',
        '@nix {"action":"msg","level":0,"msg":""}',
        '@nix {"action":"setPhase","phase":"x"}',
        "",
    ],
)
def test_entries_of_another_shape_change_nothing(line):
    log, said = fed('@nix {"action":"start","id":3,"type":103}\n' + line)

    assert said == []
    assert (log.paths, log.paths_expected, log.size, log.size_expected) == (0, 0, 0, 0)


def test_only_the_last_lines_are_kept():
    log, _ = fed("\n".join(str(number) for number in range(1000)))

    assert log.text.splitlines() == [str(number) for number in range(800, 1000)]


def test_of_a_message_of_many_lines_each_is_kept_and_the_whole_is_said():
    log, said = fed(message(0, "error:\n  one\n  two"))

    assert said == ["error:\n  one\n  two"]
    assert log.text.splitlines() == ["error:", "  one", "  two"]


@pytest.mark.parametrize(
    "line",
    [
        "error: unable to download 'https://bob:hunter2@cache.example.org/x.narinfo'",
        message(0, "unable to download 'https://bob:\x1b[1mhunter2\x1b[0m@cache.example.org/x'"),
        '@nix {"action":"result","fields":["cloning https://hunter2@git.example.org/x"],"id":9,"type":101}',
    ],
)
def test_credentials_are_neither_said_nor_kept(line):
    log, said = fed(line)

    assert "example.org/x" in log.text
    assert "hunter2" not in log.text
    assert "hunter2" not in " ".join(said)
