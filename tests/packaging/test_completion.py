from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from end_to_end.command_line import environment

HEAVY = {"asyncio", "httpx", "icmplib", "pydantic", "rich", "sqlite3", "structlog", "tenacity"}
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with `agent` on PATH, and each shell's completion as the package has it."""
    root = tmp_path_factory.mktemp("installed")
    program = root / "agent"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent "$@"\n')
    program.chmod(0o755)
    variables = environment(
        PATH=f"{root}:{os.environ['PATH']}", HOME=str(root), TERM="dumb", HISTFILE="/dev/null"
    )
    for shell in SHELLS:
        asked = {**variables, "_AGENT_COMPLETE": f"{shell}_source"}
        made = subprocess.run([program], env=asked, capture_output=True, check=True, timeout=60)
        (root / shell).write_bytes(made.stdout)
    return root, variables


def completed(variables, words, *, argv=(sys.executable, "-m", "agent"), shell="bash"):
    """Ask the agent itself how the last of the words may go on."""
    asked = {
        **variables,
        "_AGENT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return subprocess.run(argv, env=asked, capture_output=True, text=True, check=True, timeout=60)


def typed(argv, variables, *lines, until):
    """Type lines into an interactive shell on a terminal; return what it shows up to `until`."""
    master, slave = pty.openpty()
    shell = subprocess.Popen(
        argv, env=variables, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    shown = b""
    try:
        os.write(master, "".join(lines).encode())
        end = time.monotonic() + 30
        while until not in shown and select.select([master], [], [], end - time.monotonic())[0]:
            shown += os.read(master, 4096)
    finally:
        shell.kill()
        shell.wait()
        os.close(master)
    return shown


def test_bash_completes_a_command_when_tab_is_pressed(installed):
    root, variables = installed
    shown = typed(
        ["bash", "--noprofile", "--norc", "-i"],
        variables,
        f". {root}/bash\n",
        "agent upg\t--dry\t",
        until=b"agent upgrade --dry-run ",
    )
    assert b"agent upgrade --dry-run " in shown


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes_a_command_when_tab_is_pressed(installed):
    root, variables = installed
    shown = typed(
        ["zsh", "-f", "-i"],
        variables,
        f"autoload -Uz compinit && compinit -D && . {root}/zsh\n",
        "agent upg\t",
        until=b"upgrade ",
    )
    assert b"upgrade " in shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_offers_commands_with_what_they_are_for(installed):
    root, variables = installed
    script = f'source {root}/fish; complete --do-complete "agent up"'
    offered = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert offered.split("\t")[0] == "upgrade"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("agent up", {"plain,upgrade"}),
        ("agent config s", {"plain,schema", "plain,show"}),
        ("agent upgrade --action dry", {"plain,dry-activate"}),
        ("agent pause --for 2d --rea", {"plain,--reason"}),
        ("agent upgrade --config ", {"file,"}),
        ("agent dead", set()),
        ("agent nonsense --x", set()),
    ],
)
def test_what_can_be_typed_is_offered(installed, words, offered):
    ended = completed(installed[1], words)
    assert set(ended.stdout.split()) == offered
    assert ended.stderr == ""


def test_every_command_is_offered_without_the_libraries_of_a_run(installed):
    argv = (sys.executable, "-X", "importtime", "-m", "agent")
    ended = completed(installed[1], "agent ", argv=argv)
    assert {"plain,allow", "plain,status", "plain,upgrade"} < set(ended.stdout.splitlines())
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in ended.stderr.splitlines()}
    assert loaded >= {"agent", "click"}
    assert loaded & HEAVY == set()
