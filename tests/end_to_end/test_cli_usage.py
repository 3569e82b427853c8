from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import __version__
from agent.cli.main import run
from end_to_end.command_line import ROOT, agent, environment

COMMANDS = (
    *("allow", "check", "config", "confirm", "demo", "deny", "history", "rollback", "status"),
    "upgrade",
)
HEAVY = {"httpx", "pydantic", "pydantic_settings", "structlog", "rich", "tenacity", "icmplib"}


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_command(capsys, option):
    assert run([option]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in shown


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"nixos-hydra-agent {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["upgraded"], "Error: No such command 'upgraded'"),
        (["--bogus"], "--bogus"),
        (["upgrade", "--bogus"], "Try 'agent upgrade --help'."),
        (["upgrade", "extra"], "extra"),
        (["upgrade", "--action", "reboot"], "'reboot'"),
        (["check", "--canary"], "--canary"),
        (["config", "checks"], "Try 'agent config --help'."),
        (["upgrade", "--conf", "x"], "--conf"),
        (["upgrade", "--ignore-gate", "health"], "--ignore-gate needs a --reason."),
        (["upgrade", "--ignore-gate", "health", "--reason", " "], "needs a --reason."),
        (["upgrade", "--ignore-gate", "x", "--reason", "y"], "There is no gate 'x'; there are: "),
        (["upgrade", "--ignore-gate", "denied", "--reason", "y"], "see `agent allow`"),
        (["deny", "1"], "Missing option '--reason'"),
        (["deny", "1", "--reason", ""], "give a reason"),
        (["pause", "--reason", " "], "give a reason"),
        (["rollback", "--reason", "\n"], "give a reason"),
        (["deny", "--reason", "x"], "Missing argument 'PATH|BUILD'"),
        (["deny", "1", "--reason", "x", "--for", "soon"], "--for"),
        (["allow"], "Missing argument 'PATH|BUILD|downgrade'"),
        (["rollback"], "Missing option '--reason'"),
        (["confirm", "now"], "now"),
        (["history", "--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(capsys, arguments, told):
    assert run(arguments) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")
    assert told in said.err
    assert said.err.count("\n") == 1


def test_without_a_command_the_help_is_shown(capsys):
    code = run([])
    said = capsys.readouterr()
    assert "upgrade" in said.out + said.err
    assert code in (0, 64)  # as click has it, old and new


@pytest.fixture(scope="module")
def loaded_by_help():
    """What each command's help loads."""

    def modules(command):
        code = (
            "import sys\nfrom agent.cli.main import run\n"
            f"code = run([{command!r}, '--help'])\n"
            "print('MODULES', *sys.modules)\nsys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return set(done.stdout.rpartition("MODULES ")[2].split())

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(modules, COMMANDS), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick_because_it_loads_nothing_heavy(loaded_by_help, command):
    module = "manual" if command in {"allow", "deny", "rollback"} else command
    assert f"agent.cli.{module}" in loaded_by_help[command]
    assert not HEAVY & loaded_by_help[command]


def test_a_reader_that_wants_one_line_ends_nothing_badly():
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m agent config schema | head -n 1"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_reader_that_has_gone_is_a_failure_without_a_traceback():
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "config", "schema"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 1


LOOKS_UP = """
import signal, socket, sys, threading

def silent(*_arguments, **_options):
    print("asked", flush=True)
    threading.Event().wait()

socket.getaddrinfo = silent
from agent.cli.main import run
sys.exit(run(["check", "--canary", "http://name.example/", "--config", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)],
)
def test_a_signal_ends_a_command_at_once_though_a_name_server_is_silent(tmp_path, number, code):
    """A thread that waits for a name can neither be interrupted nor may it be waited for."""
    config = tmp_path / "config.toml"
    config.write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", LOOKS_UP, str(config)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "asked\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert out == ""
    assert err.count("\n") == 1
    assert "was interrupted" in err


def test_a_silent_name_server_does_not_delay_an_end_of_its_own(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[health]\ndeadline = "300ms"\n')
    with subprocess.Popen(
        [sys.executable, "-c", LOOKS_UP, str(config)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "✗" in out


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.long)])
def test_a_mark_that_the_locale_lacks_is_no_fault(tmp_path, encoding):
    config = tmp_path / "config.toml"
    config.write_text("")
    done = agent(
        "check", "--config", str(config), "--canary", "http://127.0.0.1:1/",
        PYTHONIOENCODING=encoding,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout[0] in "?✗"  # click writes UTF-8 where it finds ASCII


def test_a_full_disk_behind_standard_output_is_told_in_one_line():
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "agent", "config", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == "agent: cannot write the output: No space left on device\n"


def test_a_demo_that_cannot_be_set_up_is_told_in_one_line(tmp_path):
    (tmp_path / "git").symlink_to("/bin/false")
    ended = subprocess.run(
        [sys.executable, "-m", "agent", "demo"],
        env={**os.environ, "PATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.rstrip().endswith("[demo-impossible]")
    assert [file.name for file in tmp_path.iterdir()] == ["git"]


@pytest.mark.parametrize(
    "module", ["agent.lean.idle_poll", "click", "agent.cli.upgrade", "agent.config.load"]
)
def test_an_interruption_while_it_loads_is_told_by_the_exit_code_alone(module, tmp_path):
    script = f"""if True:
        import sys
        class Interrupting:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Interrupting())
        from agent.__main__ import main
        main()
    """
    config = tmp_path / "config.toml"
    config.touch()
    ended = subprocess.run(
        [sys.executable, "-c", script, "upgrade", "--config", str(config)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "")


def test_a_process_ends_without_a_look_at_all_of_its_memory():
    script = """if True:
        import atexit, gc
        atexit.register(lambda: print(gc.get_freeze_count() > 0))
        from agent.__main__ import main
        main()
    """
    ended = subprocess.run(
        [sys.executable, "-c", script, "--version"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[1:] == ["True"]
