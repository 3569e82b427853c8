"""A boot's deadline reboots a host at most once for each system, and never from a confirmed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.lean import boot_deadline
from agent.lean.boot_deadline import COUNTED, end_boot

# The runner of the tests has threads, and the command has none.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

ROOT = Path(__file__).parents[2]
NAMES = {letter: f"{letter * 32}-nixos" for letter in "abcd"}


class Boot:
    """A host that has come up: its links, its marks, and its settings."""

    def __init__(self, root):
        self.root = root
        self.marks = root / "marks"
        self.config = root / "config.toml"
        self.store = root / "store"
        for made in (self.marks, self.store):
            made.mkdir()
        self.old, self.new, self.special = (self.system(letter) for letter in "abc")
        (self.new / "specialisation").mkdir()
        (self.new / "specialisation" / "debug").symlink_to(self.special)
        (self.root / "profile").symlink_to(self.new)
        self.configure()
        self.acted = root / "acted"

    def system(self, letter):
        path = self.store / NAMES[letter]
        path.mkdir()
        return path

    def configure(self, **more):
        paths = {
            "marks_dir": self.marks,
            "current_system": self.root / "current-system",
            "booted_system": self.root / "booted-system",
            "profile": self.root / "profile",
            "store_dir": self.store,
            "state_dir": self.root / "state",
        }
        lines = ["[paths]", *(f'{name} = "{path}"' for name, path in paths.items())]
        hydra = ["[hydra]", 'instance = "http://127.0.0.1:1"', 'project = "p"', 'jobset = "j"']
        self.config.write_text(
            "\n".join([*lines, *hydra, *(f"{k} = {v}" for k, v in more.items())])
        )

    def up(self, running, booted=None, **marks):
        links = {"current-system": running, "booted-system": booted or running}
        for name, path in links.items():
            (self.root / name).unlink(missing_ok=True)
            (self.root / name).symlink_to(path)
        for mark in ("confirmed", "pending", "staged", "rolling-back"):
            (self.marks / mark).unlink(missing_ok=True)
        for mark, path in marks.items():
            (self.marks / mark.replace("_", "-")).symlink_to(path)

    def end(self, act):
        """Let the deadline end, and return the exit code; `act` is what the agent does."""

        def noted():
            self.acted.touch()
            return act()

        return end_boot(["--booted", "--config", str(self.config)], noted)

    def agent(self, *arguments, **environment):
        """Run the real command as its unit does."""
        return subprocess.run(
            [sys.executable, "-m", "agent", "dead-man", "--booted", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def counted(self):
        file = self.marks / COUNTED
        return file.read_text().splitlines() if file.exists() else None


@pytest.fixture
def boot(tmp_path):
    return Boot(tmp_path)


def failing():
    return 78


def killed():
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def crashing():
    raise RuntimeError("a bug")


FAILURES = [(failing, 78), (killed, 137), (crashing, 70), (lambda: 69, 69)]


@pytest.mark.parametrize(
    "marks",
    [
        {"staged": "new"},
        {"pending": "new"},
        {"rolling_back": "new"},
        {"staged": "old"},
        {"pending": "old"},
        {"staged": "new", "pending": "old"},
        {},
    ],
)
def test_a_host_that_runs_its_confirmed_system_has_nothing_to_end(boot, marks):
    boot.up(
        boot.old, confirmed=boot.old, **{name: getattr(boot, path) for name, path in marks.items()}
    )
    assert boot.end(failing) == 0
    assert not boot.acted.exists()
    assert boot.counted() is None


def test_a_setting_that_leads_nowhere_makes_no_host_an_unconfirmed_one(boot, monkeypatch):
    monkeypatch.setitem(boot_deadline._LINKS, "current_system", str(boot.root / "current-system"))
    boot.up(boot.old, confirmed=boot.old, staged=boot.old)
    boot.config.write_text(boot.config.read_text().replace("current-system", "nowhere"))
    assert boot.end(failing) == 0
    assert not boot.acted.exists()


def test_so_has_one_that_runs_a_specialisation_of_it_or_was_switched_to_it(boot):
    boot.up(boot.special, confirmed=boot.new, staged=boot.old)
    assert boot.end(failing) == 0
    boot.up(boot.old, booted=boot.new, confirmed=boot.old, pending=boot.new)
    assert boot.end(failing) == 0
    assert not boot.acted.exists()


def test_a_system_that_nobody_waits_for_is_left_alone(boot):
    other = boot.system("d")
    boot.up(other, confirmed=boot.old, staged=boot.new)
    assert boot.end(failing) == 0
    assert not boot.acted.exists()


@pytest.mark.parametrize("mark", ["pending", "staged", "rolling_back"])
@pytest.mark.parametrize("code", [0, 1, 75, 130, 143])
def test_what_is_to_be_confirmed_is_seen_to_and_its_end_told(boot, mark, code):
    boot.up(boot.new, confirmed=boot.old, **{mark: boot.new})
    assert boot.end(lambda: code) == code
    assert boot.acted.exists()
    assert boot.counted() is None


@pytest.mark.parametrize(("act", "code"), FAILURES)
@pytest.mark.parametrize("running", ["new", "special"])
def test_a_failure_reboots_the_host_once_and_then_says_so(boot, act, code, running, capfd):
    system = getattr(boot, running)
    boot.up(system, confirmed=boot.old, staged=boot.new)
    assert boot.end(act) == code
    assert boot.counted() == [str(system)]
    for _ in range(2):
        assert boot.end(act) == 0
    assert boot.counted() == [str(system)]
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["event"], line["level"]) for line in told] == [
        ("boot_deadline.in_vain", "error")
    ] * 2
    assert (told[0]["toplevel"], told[0]["exit_code"]) == (str(system), code)


def test_each_system_has_a_reboot_of_its_own(boot):
    for system in (boot.new, boot.old):
        boot.up(system, pending=system)
        assert [boot.end(failing), boot.end(failing)] == [78, 0]
    assert boot.counted() == [str(boot.new), str(boot.old)]


def test_the_list_does_not_grow_without_end(boot):
    (boot.marks / COUNTED).write_text("".join(f"/x/{number}\n" for number in range(200)))
    boot.up(boot.new, pending=boot.new)
    assert boot.end(failing) == 78
    assert len(boot.counted()) == 50
    assert boot.end(failing) == 0


@pytest.mark.parametrize("content", [b"", b"\xff\0\n\n", b"x" * 200_000])
def test_a_list_that_cannot_be_read_is_begun_anew(boot, content):
    (boot.marks / COUNTED).write_bytes(content)
    boot.up(boot.new, pending=boot.new)
    assert [boot.end(failing), boot.end(failing)] == [78, 0]


@pytest.mark.parametrize("obstacle", ["directory", "pipe", "link"])
def test_a_reboot_that_cannot_be_counted_is_not_done(boot, obstacle, tmp_path):
    file = boot.marks / COUNTED
    if obstacle == "directory":
        file.mkdir()
    elif obstacle == "pipe":
        os.mkfifo(f"{file}.new")
    else:
        file.symlink_to(tmp_path / "elsewhere")
    boot.up(boot.new, pending=boot.new)
    assert boot.end(failing) == 0


ASKED_TO_END = """
import os, signal, sys
from agent.lean.boot_deadline import end_boot

def act():
    # Blocked, so that it cannot come before it is waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])
    os.kill(os.getppid(), {number})
    return 143 if signal.sigtimedwait([{number}], 60) else 1

sys.exit(end_boot(["--booted", "--config", {config!r}], act))
"""


@pytest.mark.parametrize("number", [int(signal.SIGTERM), int(signal.SIGINT)])
def test_a_signal_to_end_is_passed_on_to_the_child(boot, number):
    boot.up(boot.new, pending=boot.new)
    # In a process with one thread, as the command is: another one could be given the signal.
    script = ASKED_TO_END.format(number=number, config=str(boot.config))
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=120)
    assert ended.returncode == 143
    assert boot.counted() is None


# The whole command


UNKNOWN = {"NIXOS_HYDRA_AGENT_NO_SUCH_SETTING": "1"}


@pytest.mark.parametrize("damage", ["unknown variable", "unknown key", "no TOML", "no file"])
def test_no_mistake_in_the_settings_fails_a_confirmed_host(boot, damage):
    boot.up(boot.old, confirmed=boot.old, staged=boot.new)
    places = {
        f"NIXOS_HYDRA_AGENT_PATHS__{name.upper()}": str(boot.root / name.replace("_", "-"))
        for name in ("current_system", "booted_system")
    } | {"NIXOS_HYDRA_AGENT_PATHS__MARKS_DIR": str(boot.marks)}
    if damage == "unknown key":
        boot.configure(bogus=1)
    elif damage == "no TOML":
        boot.config.write_text("[[[")
    elif damage == "no file":
        boot.config.unlink()
    ended = boot.agent("--config", str(boot.config), **UNKNOWN, **places)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_mistake_in_the_settings_costs_an_unconfirmed_host_one_reboot(boot):
    boot.up(boot.new, confirmed=boot.old, staged=boot.new)
    first, second = (boot.agent("--config", str(boot.config), **UNKNOWN) for _ in range(2))
    assert first.returncode == 78
    assert second.returncode == 0
    assert json.loads(second.stdout.splitlines()[-1])["event"] == "boot_deadline.in_vain"
