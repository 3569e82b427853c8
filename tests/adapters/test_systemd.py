"""What systemd's commands are asked, and how their answers are read; stubs answer in their place."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.adapters.process import Runner
from agent.adapters.systemd.manager import SystemdCommands
from agent.application import events
from agent.application.ports import UnitStatus
from agent.domain.activation_unit import ActivationSeen, is_ours
from agent.domain.errors import ExitCode, HostError, Kind
from agent.domain.policy import Action
from agent.domain.store_path import StorePath
from fakes.events import RememberedEvents, SteppedClock
from fakes.systemd import FakeSystemd

NEW = StorePath(f"/nix/store/{'b' * 32}-nixos")
DEAD_MAN = ("/old/bin/agent", "dead-man", "--config", "/etc/agent.toml")

NOT_FOUND = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
STUB = """\
import json, os, sys
name = os.path.basename(sys.argv[0])
arguments = sys.argv[1:]
with open(os.environ["STUBS"] + "/asked", "a") as log:
    log.write(json.dumps([name, *arguments]) + "\\n")
with open(os.environ["STUBS"] + "/answers") as file:
    answers = json.load(file)
words = [name, *(word for word in arguments if not word.startswith("-"))]
for answer in answers:
    if all(word in " ".join(words) for word in answer["of"]):
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["err"])
        sys.exit(answer["code"])
"""


class Commands:
    """Stubs of systemd's commands on a PATH of their own; `said` are answers, first come first."""

    def __init__(self, directory, *programs, **environment):
        self.directory = directory
        self.run_dir = directory / "run"
        self.locks = directory / "locks"
        self.sink = RememberedEvents()
        self.clock = SteppedClock()
        self.environment = environment
        self.answers = []
        (directory / "bin").mkdir()
        self.run_dir.mkdir()
        for name in programs or ("systemctl", "systemd-run", "timedatectl", "busctl"):
            stub = directory / "bin" / name
            stub.write_text(f"#!{sys.executable} -SE\n{STUB}")
            stub.chmod(0o755)
        self.answer()

    def answer(self, *of, out="", err="", code=0):
        """Let a command that has the words `of` in its command line give an answer."""
        if of:
            self.answers.append({"of": of, "out": out, "err": err, "code": code})
        unknown = {"of": ["systemctl show"], "out": shown(**NOT_FOUND), "err": "", "code": 0}
        (self.directory / "answers").write_text(json.dumps([*self.answers, unknown]))
        return self

    def state(self, unit, **properties):
        """Let `systemctl show` tell of a unit."""
        loaded = NOT_FOUND | {"LoadState": "loaded"} | properties
        return self.answer("systemctl show", unit, out=shown(**loaded))

    @property
    def systemd(self):
        runner = Runner(
            self.sink,
            self.clock,
            {"PATH": str(self.directory / "bin"), "STUBS": str(self.directory)} | self.environment,
        )
        return SystemdCommands(
            runner,
            dead_man=DEAD_MAN,
            activate_deadline=60.0,
            run_dir=self.run_dir,
            locks=self.locks,
        )

    def asked(self):
        log = self.directory / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def asked_briefly(self):
        """What was asked, without options."""
        return [
            " ".join(word for word in words if not word.startswith("-")) for words in self.asked()
        ]


def shown(**properties):
    return "".join(f"{name}={value}\n" for name, value in properties.items())


@pytest.fixture
def commands(tmp_path):
    return Commands(tmp_path)


@pytest.fixture
def without(tmp_path):
    """A machine that has none of systemd's commands."""
    return Commands(tmp_path, "other")


def play(coroutine):
    return asyncio.run(coroutine)


# --- units


def test_failed_units_are_those_that_have_failed_or_restart_after_it(commands):
    commands.answer(
        "systemctl list-units",
        out="a.service loaded failed failed A thing\n"
        "b@x.service loaded activating auto-restart B\n\n",
    )

    assert play(commands.systemd.failed_units()) == {"a.service", "b@x.service"}

    (asked,) = commands.asked()
    assert {"--all", "--full", "--plain", "--no-legend"} <= set(asked)
    assert "--state=failed,auto-restart" in asked


def test_a_system_without_failed_units_has_none(commands):
    assert play(commands.systemd.failed_units()) == frozenset()


def test_without_an_answer_nobody_knows_what_has_failed(commands):
    commands.answer("systemctl", code=1, err="Failed to connect to bus")

    assert play(commands.systemd.failed_units()) is None


# --- jobs of timers

DETAILS = '{"type":"a(ss)","data":[%s]}\n'
BY_TIMER = DETAILS % '["trigger_unit","job.timer"],["trigger_timer_monotonic_usec","41415380"]'
NO_DETAILS = DETAILS % ""
BEGAN = 41_424_482


def job(**properties):
    told = {
        "Id": "job.service",
        "Type": "oneshot",
        "TriggeredBy": "job.path job.timer",
        "InactiveExitTimestampMonotonic": BEGAN,
    }
    return shown(**(told | properties))


def fired(at):
    return f'{{"type":"t","data":{at}}}\n'


def by_timers(commands, show, details=NO_DETAILS, last=""):
    commands.answer("systemctl show", "job.service", out=show)
    commands.answer("busctl get-property", "/job_2eservice", "ActivationDetails", out=details)
    commands.answer("busctl get-property", "/job_2etimer", "LastTriggerUSecMonotonic", out=last)
    return play(commands.systemd.started_by_timers(frozenset({"job.service"})))


@pytest.mark.parametrize(
    ("show", "details", "last", "is_its"),
    [
        (job(), BY_TIMER, "", True),
        (job(), NO_DETAILS, fired(BEGAN - 9102), True),
        (job(), NO_DETAILS, fired(BEGAN + 1), False),
        (job(), NO_DETAILS, fired(BEGAN - 60_000_000), False),
        (job(), NO_DETAILS, fired(0), False),
        (job(), DETAILS % '["trigger_unit","job.path"]', fired(BEGAN), False),
        (job(Type="exec"), BY_TIMER, "", False),
        (job(TriggeredBy="job.path"), BY_TIMER, "", False),
        (job(TriggeredBy=""), BY_TIMER, "", False),
    ],
)
def test_a_oneshot_is_a_timer_s_job_if_its_timer_has_started_it(
    all_commands, show, details, last, is_its
):
    found = by_timers(all_commands, show, details, last)
    assert found == (frozenset({"job.service"}) if is_its else frozenset())


@pytest.mark.parametrize(
    ("show", "details", "last"),
    [
        ("", BY_TIMER, ""),
        (job(Id="other.service"), BY_TIMER, ""),
        (job(), "", fired(BEGAN)),
        (job(), "[]", fired(BEGAN)),
        (job(), NO_DETAILS, ""),
        (job(), NO_DETAILS, '{"type":"t","data":"soon"}'),
        (job(InactiveExitTimestampMonotonic=""), NO_DETAILS, fired(BEGAN)),
    ],
)
def test_where_systemd_does_not_tell_who_has_started_a_unit_it_is_unknown(
    all_commands, show, details, last
):
    assert by_timers(all_commands, show, details, last) is None


@pytest.mark.parametrize("program", ["systemctl show", "busctl"])
def test_a_question_about_timers_that_fails_proves_nothing(all_commands, program):
    all_commands.answer(program, code=1, out=job(), err="Connection timed out")
    assert by_timers(all_commands, job(), BY_TIMER) is None


def test_nobody_is_asked_about_no_units(commands):
    assert play(commands.systemd.started_by_timers(frozenset())) == frozenset()
    assert commands.asked() == []


@pytest.fixture
def all_commands(tmp_path):
    return Commands(tmp_path, "systemctl", "systemd-run", "timedatectl", "busctl")


def test_what_names_no_units_is_no_list_of_those_that_have_failed(commands):
    commands.answer("systemctl list-units", out="a.service loaded failed failed\nwarning: no\n")

    assert play(commands.systemd.failed_units()) is None


def test_without_systemd_nothing_is_known(without):
    assert play(without.systemd.started_by_timers(frozenset({"a.service"}))) is None
    assert play(without.systemd.failed_units()) is None
    assert play(without.systemd.status("a.service")) is None
    assert play(without.systemd.is_clock_synchronised()) is None
    assert play(without.systemd.is_activating()) is None
    assert play(without.systemd.start("a.service")) is False
    play(without.systemd.disarm())


@pytest.mark.parametrize(
    ("said", "status", "is_running"),
    [
        (
            shown(
                LoadState="loaded",
                ActiveState="failed",
                SubState="failed",
                Result="exit-code",
                ExecMainStatus="75",
            ),
            UnitStatus("loaded", "failed", "failed", "exit-code", 75),
            False,
        ),
        (
            shown(LoadState="loaded", ActiveState="active", SubState="running"),
            UnitStatus("loaded", "active", "running"),
            True,
        ),
        (
            shown(LoadState="loaded", ActiveState="activating", SubState="auto-restart"),
            UnitStatus("loaded", "activating", "auto-restart"),
            False,
        ),
        (
            shown(LoadState="loaded", ActiveState="activating", SubState="start"),
            UnitStatus("loaded", "activating", "start"),
            True,
        ),
        (
            shown(LoadState="loaded", ActiveState="deactivating", SubState="stop-sigterm"),
            UnitStatus("loaded", "deactivating", "stop-sigterm"),
            True,
        ),
        (shown(**NOT_FOUND), UnitStatus(), False),
    ],
)
def test_the_state_of_a_unit_is_read_from_its_properties(commands, said, status, is_running):
    commands.answer("systemctl show", "a.service", out=said)

    found = play(commands.systemd.status("a.service"))

    assert found == status
    assert found.is_running is is_running
    assert "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus" in commands.asked()[0]


@pytest.mark.parametrize(
    "said",
    [
        {"out": shown(LoadState="loaded", ActiveState="active", SubState="running"), "code": 1},
        {"out": "nonsense\n"},
        {"out": ""},
        {"out": shown(ActiveState="inactive")},
        {"out": shown(LoadState="loaded", ActiveState="", SubState="dead")},
        {"out": shown(**NOT_FOUND, ExecMainStatus="[not set]")},
        {"err": "Failed to connect to bus", "code": 1},
    ],
)
def test_what_is_no_whole_answer_is_unknown(commands, said):
    commands.answer("systemctl show", **said)

    assert play(commands.systemd.status("a.service")) is None
    assert play(commands.systemd.start("a.service")) is False
    assert not any("start" in words for words in commands.asked_briefly())


def test_a_unit_that_has_ended_is_started_anew(commands):
    commands.state("a.service", LoadState="loaded", ActiveState="failed", SubState="failed")

    play(commands.systemd.start("a.service"))

    assert commands.asked_briefly() == [
        "systemctl show a.service",
        "systemctl reset-failed a.service",
        "systemctl restart a.service",
    ]


def test_a_unit_may_be_started_without_waiting_for_it(commands):
    commands.answer("systemctl start", err="Unit nix-gc.service not found.", code=5)

    play(commands.systemd.start_later("nix-gc.service"))

    assert commands.asked() == [["systemctl", "--no-block", "start", "nix-gc.service"]]


def test_a_unit_that_is_at_work_is_left_alone(commands):
    commands.state("a.service", ActiveState="active", SubState="running")

    play(commands.systemd.start("a.service"))

    assert commands.asked_briefly() == ["systemctl show a.service"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            {"err": "Job failed.\nUnit a.service not found.\n\n", "code": 5},
            "Unit a.service not found.",
        ),
        ({"code": 5}, "exit code 5"),
    ],
)
def test_a_unit_that_cannot_be_started_is_told_with_systemds_words(commands, said, told):
    commands.answer("systemctl restart", **said)

    with pytest.raises(HostError) as caught:
        play(commands.systemd.start("a.service"))

    assert caught.value.kind is Kind.CONFIRM_UNIT_FAILED
    assert caught.value.message == f"cannot start a.service: {told}"


@pytest.mark.parametrize(
    ("said", "code", "is_synchronised"),
    [("yes\n", 0, True), ("no\n", 0, False), ("", 0, None), ("yes\n", 1, None), ("?", 0, None)],
)
def test_the_clock_is_as_timedatectl_says(commands, said, code, is_synchronised):
    commands.answer("timedatectl show", out=said, code=code)

    assert play(commands.systemd.is_clock_synchronised()) is is_synchronised


# --- the dead-man's timer


def environment_file_in(options):
    (told,) = (word for word in options if word.startswith("--property=EnvironmentFile=-"))
    return Path(told.removeprefix("--property=EnvironmentFile=-"))


def arm(commands):
    play(commands.systemd.arm(timedelta(minutes=12, seconds=0.5), "run-1", NEW))


def test_the_timer_is_a_transient_unit_that_runs_the_old_agent(tmp_path):
    given = {
        "HOME": "/root",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "https_proxy": "http://proxy:3128",
        "NIX_REMOTE": "daemon",
        "NIXOS_HYDRA_AGENT_HOST": "web-1",
        "SECRET_OF_SOMEBODY": "hunter2",
    }
    commands = Commands(tmp_path, **given)
    commands.state("nixos-hydra-agent-dead-man-run-1.timer", ActiveState="active")

    arm(commands)

    (argv,) = (words for words in commands.asked() if words[0] == "systemd-run")
    options, command = argv[1 : argv.index("--")], argv[argv.index("--") + 1 :]
    assert command == [*DEAD_MAN, "--run-id", "run-1", "--toplevel", NEW]
    assert {"--unit=nixos-hydra-agent-dead-man-run-1", "--on-active=720.5s"} <= set(options)
    assert {"--property=Type=exec", "--collect", "--no-ask-password"} <= set(options)
    assert {"--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no"} <= set(
        options
    )
    assert "-E HOME" in " ".join(options)
    assert "-E SSL_CERT_FILE" in " ".join(options)
    assert not any(value in word for word in options for value in ("proxy", "daemon", "web-1"))
    file = environment_file_in(options)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    told = file.read_text()
    assert 'https_proxy="http://proxy:3128"\n' in told
    assert 'NIXOS_HYDRA_AGENT_HOST="web-1"\n' in told
    assert "hunter2" not in told
    assert not any("SECRET" in word for word in argv)
    assert "--user" not in argv
    assert "--scope" not in argv


def test_no_value_of_the_environment_is_an_argument(tmp_path):
    token = "access-tokens = github.com=ghp_SECRET"
    given = {
        "NIX_CONFIG": token,
        "NIXOS_HYDRA_AGENT_HYDRA__INSTANCE": "http://h",
        "HTTPS_PROXY": "http://u:SECRET@proxy",
    }
    commands = Commands(tmp_path, **given)
    commands.state("nixos-hydra-agent-dead-man-run-1.timer", ActiveState="active")
    (commands.run_dir / "systemd/system").mkdir(parents=True)

    arm(commands)
    play(commands.systemd.activate(NEW, Action.SWITCH))

    assert "SECRET" not in json.dumps(commands.asked())
    armed, activated = (words for words in commands.asked() if words[0] == "systemd-run")
    assert token in environment_file_in(armed).read_text()
    assert not environment_file_in(activated).exists()  # read when the unit began


def test_the_environment_of_a_timer_ends_with_it(tmp_path):
    commands = Commands(tmp_path, NIX_CONFIG="cores = 1")
    commands.state("nixos-hydra-agent-dead-man-run-1.timer", ActiveState="active")
    arm(commands)
    (argv,) = (words for words in commands.asked() if words[0] == "systemd-run")
    assert environment_file_in(argv).exists()

    play(commands.systemd.disarm())

    assert not environment_file_in(argv).exists()


def test_without_a_place_for_its_environment_no_timer_is_set(tmp_path):
    commands = Commands(tmp_path, NIX_CONFIG="cores = 1")
    (commands.run_dir / "nixos-hydra-agent-environment").symlink_to(tmp_path)

    with pytest.raises(HostError, match="cannot be written") as caught:
        arm(commands)

    assert caught.value.kind is Kind.DEAD_MAN_UNARMED
    assert all(words[0] != "systemd-run" for words in commands.asked())


def test_a_roll_back_needs_no_environment(tmp_path):
    commands = Commands(tmp_path, NIX_CONFIG="cores = 1")
    (commands.run_dir / "systemd/system").mkdir(parents=True)
    (commands.run_dir / "nixos-hydra-agent-environment").write_text("in its place")

    assert play(commands.systemd.activate(NEW, Action.SWITCH)).returncode == 0


def test_an_earlier_timer_is_stopped_first_and_its_service_is_not(commands):
    commands.state("run-1.timer", ActiveState="active")

    arm(commands)

    assert commands.asked_briefly()[0] == "systemctl stop nixos-hydra-agent-dead-man-*.timer"
    assert commands.asked()[1][0] == "systemd-run"


def test_a_timer_that_systemd_refuses_is_told(commands):
    commands.answer("systemd-run", err="Failed to start transient timer unit: no\n", code=1)

    with pytest.raises(HostError, match="transient timer unit: no") as caught:
        arm(commands)
    assert caught.value.kind is Kind.DEAD_MAN_UNARMED


def test_a_timer_that_does_not_run_is_not_trusted(commands):
    commands.state("run-1.timer", ActiveState="inactive")

    with pytest.raises(HostError, match="is inactive after it was set") as caught:
        arm(commands)
    assert caught.value.kind is Kind.DEAD_MAN_UNARMED


def test_a_timer_of_which_systemd_says_nothing_is_a_reason_to_wait(commands):
    commands.answer("systemctl show", "run-1.timer", code=1)

    with pytest.raises(HostError, match="does not say") as caught:
        arm(commands)
    assert caught.value.kind is Kind.SYSTEMD_SILENT
    assert caught.value.exit_code is ExitCode.HELD


def test_without_systemd_there_is_no_timer(without):
    with pytest.raises(HostError, match="systemd's commands are missing") as caught:
        arm(without)
    assert caught.value.kind is Kind.DEAD_MAN_UNARMED


def test_disarming_never_fails(commands):
    commands.answer("systemctl stop", code=5, err="not loaded")

    play(commands.systemd.disarm())


# --- an activation that is at work

TRANSIENT = "nixos-rebuild-switch-to-configuration.service"


def test_a_transient_unit_at_work_is_an_activation(commands):
    commands.state(TRANSIENT, ActiveState="active", SubState="running")

    assert play(commands.systemd.is_activating())


@contextmanager
def locked(commands):
    """Hold the lock of switch-to-configuration, as someone without a transient unit does."""
    lock = commands.run_dir / "nixos/switch-to-configuration.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield lock.stat()


def kernels(commands):
    """Let the adapter look where the kernel tells of locks."""
    commands.locks.unlink(missing_ok=True)
    commands.locks.symlink_to("/proc/locks")


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")  # noqa: PTH110
def test_the_lock_of_a_switch_to_configuration_is_seen_and_not_taken(commands):
    kernels(commands)
    assert not play(commands.systemd.is_activating())
    with locked(commands):
        assert play(commands.systemd.is_activating())
    assert not play(commands.systemd.is_activating())


@pytest.mark.parametrize(
    ("line", "is_held"),
    [
        ("1: FLOCK  ADVISORY  WRITE 4711 {device}:{inode} 0 EOF", True),
        ("1: POSIX  ADVISORY  WRITE 4711 {device}:{inode} 0 EOF", True),
        ("1: FLOCK  ADVISORY  WRITE 4711 ff:ff:{inode} 0 EOF", False),  # of another file system
        ("1: -> FLOCK  ADVISORY  WRITE 4711 {device}:{inode} 0 EOF", False),
        ("1: FLOCK  ADVISORY  WRITE 4711 {device}:9{inode} 0 EOF", False),
        ("1: FLOCK", False),
        ("", False),
    ],
)
def test_who_waits_for_the_lock_does_not_hold_it(commands, line, is_held):
    with locked(commands) as found:
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        commands.locks.write_text(line.format(device=device, inode=found.st_ino) + "\n")
        assert play(commands.systemd.is_activating()) is is_held


def test_a_list_of_locks_that_cannot_be_read_is_no_answer(commands):
    with locked(commands):
        assert play(commands.systemd.is_activating()) is None
    commands.state(TRANSIENT, ActiveState="active", SubState="running")
    assert play(commands.systemd.is_activating()) is True


def test_a_lock_that_is_held_is_an_activation_whatever_systemd_says(commands):
    kernels(commands)
    commands.answer("systemctl show", code=1)
    assert play(commands.systemd.is_activating()) is None
    with locked(commands):
        assert play(commands.systemd.is_activating()) is True


def at_work(commands, invocation, path=NEW, *, until="never", then=None):
    """Let the unit run a program of `path` until a verb of systemctl comes; then run another."""
    words = f"{path}/bin/switch-to-configuration"
    state = shown(
        LoadState="loaded",
        ActiveState="active",
        SubState="running",
        ExecStart=f"{{ path={words} ; argv[]={words} switch ; ignore_errors=no ; start_time=[x] }}",
        InvocationID=invocation,
    )
    later = shown(**NOT_FOUND) if then is None else state.replace(invocation, then)
    log = commands.directory / "asked-for"
    log.write_text("")
    (commands.directory / "now").write_text(state)
    (commands.directory / "later").write_text(later)
    stub = commands.directory / "bin/systemctl"
    stub.write_text(
        "#!/bin/sh\n"
        f'case "$1" in show) ;; *) echo "$@" >> {log} ;; esac\n'
        f"cd {commands.directory}\n"
        f'case "$1" in show) if grep -q "^{until}" {log}; then cat later; else cat now; fi ;; esac\n'
    )
    commands.environment["PATH"] = f"{commands.directory}/bin:{os.environ['PATH']}"
    return lambda: [line.split()[0] for line in log.read_text().splitlines()]


class Either:
    """One systemd of the two, in which an activation may be at work, or that says nothing."""

    def __init__(self, commands):
        self.commands = commands
        self.fake = FakeSystemd(lambda _action, _path: None) if commands is None else None

    @property
    def systemd(self):
        return self.fake or self.commands.systemd

    def works_on(self, path, invocation):
        if self.fake:
            self.fake.works_on(path, invocation)
        else:
            at_work(self.commands, invocation, path, until="stop")

    def says_nothing(self):
        if self.fake:
            self.fake.is_silent = True
        else:
            self.commands.answer("systemctl", code=1)


@pytest.fixture(params=["systemctl", "fake"])
def either(request, tmp_path):
    return Either(None if request.param == "fake" else Commands(tmp_path))


def test_a_systemd_at_rest_says_so(either):
    assert play(either.systemd.is_activating()) is False
    assert play(either.systemd.activation()) == ActivationSeen(is_running=False)
    assert play(either.systemd.status("a.service")) == UnitStatus()


def test_a_systemd_that_says_nothing_is_unknown_everywhere(either):
    either.says_nothing()
    assert play(either.systemd.is_activating()) is None
    assert play(either.systemd.activation()) == ActivationSeen(is_running=None)
    assert play(either.systemd.status("a.service")) is None
    assert play(either.systemd.failed_units()) is None
    assert play(either.systemd.start("a.service")) is False


def test_whose_an_activation_is_shows_in_its_path_and_its_id(either):
    either.works_on(NEW, "11")
    seen = play(either.systemd.activation())
    assert (seen.is_running, seen.invocation) == (True, "11")
    assert is_ours(seen, {NEW}, "11")
    assert is_ours(seen, {NEW}, None)
    assert not is_ours(seen, {NEW}, "22")
    assert not is_ours(seen, {StorePath(f"{NEW}-other")}, None)
    assert play(either.systemd.begun(frozenset({NEW}))) == "11"


def test_only_the_one_with_the_id_is_stopped(either):
    either.works_on(NEW, "11")
    play(either.systemd.stop_activation("22"))
    assert play(either.systemd.is_activating()) is True
    play(either.systemd.stop_activation("11"))
    assert play(either.systemd.is_activating()) is False


def test_an_activation_is_seen_with_its_command_and_its_id(commands):
    at_work(commands, "11")
    program = f"{NEW}/bin/switch-to-configuration"
    seen = ActivationSeen(is_running=True, command=(program, "switch"), invocation="11")
    assert play(commands.systemd.activation()) == seen
    assert play(commands.systemd.begun(frozenset({NEW}))) == "11"


def test_an_activation_of_another_system_is_not_the_one_that_is_waited_for(commands):
    at_work(commands, "11", StorePath(f"{NEW}-other"))

    async def wait():
        async with asyncio.timeout(0.3):
            await commands.systemd.begun(frozenset({NEW}))

    with pytest.raises(TimeoutError):
        play(wait())


def test_an_activation_is_stopped_by_its_unit(commands):
    verbs = at_work(commands, "11", until="stop")
    play(commands.systemd.stop_activation("11"))
    assert verbs() == ["stop"]


def test_an_activation_that_does_not_stop_is_killed(commands):
    verbs = at_work(commands, "11", until="kill")
    play(commands.systemd.stop_activation("11"))
    assert verbs() == ["stop", "kill"]


def test_an_activation_with_another_id_is_left_alone(commands):
    verbs = at_work(commands, "22")
    play(commands.systemd.stop_activation("11"))
    assert verbs() == []


def test_the_next_one_in_the_unit_is_not_killed_in_the_place_of_the_one_that_was_stopped(commands):
    verbs = at_work(commands, "11", until="stop", then="22")
    play(commands.systemd.stop_activation("11"))
    assert verbs() == ["stop"]


@pytest.mark.parametrize("name", ["start-list", "restart-list", "reload-list"])
def test_a_switch_that_was_stopped_half_way_leaves_a_list(commands, name):
    lists = commands.run_dir / "nixos"
    assert not commands.systemd.has_work_left()
    lists.mkdir()
    (lists / name).touch()
    assert not commands.systemd.has_work_left()
    (lists / name).write_text("a.service\n")
    assert commands.systemd.has_work_left()


OF_ITS_OWN = "nixos-rebuild-switch-to-configuration-9767bc07.service"


def other_name(commands, invocation="11", *, units=1):
    """Let a nixos-rebuild be at work in a unit whose name is a new one each time."""
    program = f"{NEW}/bin/switch-to-configuration"
    block = shown(
        Id=OF_ITS_OWN,
        LoadState="loaded",
        ActiveState="active",
        SubState="running",
        ExecStart=f"{{ path={program} ; argv[]={program} switch ; ignore_errors=no ; pid=1 }}",
        InvocationID=invocation,
    )
    ended = block.replace("=active", "=inactive").replace("=running", "=dead")
    commands.answer(
        "systemctl show",
        "nixos-rebuild-switch-to-configuration-*.service",
        out="\n".join([ended, *[block] * units]),
    )


def test_an_activation_in_a_unit_of_another_name_is_seen_by_its_lock(commands):
    kernels(commands)
    other_name(commands)
    assert play(commands.systemd.is_activating()) is False
    with locked(commands):
        seen = play(commands.systemd.activation())
        assert (seen.unit, seen.invocation) == (OF_ITS_OWN, "11")
        assert is_ours(seen, {NEW}, "11")
        assert play(commands.systemd.begun(frozenset({NEW}))) == "11"


def test_it_is_stopped_by_that_name(commands, monkeypatch):
    kernels(commands)
    other_name(commands)
    monkeypatch.setattr("agent.adapters.systemd.manager._TIMEOUT", 0.1)
    with locked(commands):
        play(commands.systemd.stop_activation("11"))
    done = [words for words in commands.asked_briefly() if words.split()[1] in ("stop", "kill")]
    assert done == [f"systemctl stop {OF_ITS_OWN}", f"systemctl kill {OF_ITS_OWN}"]


@pytest.mark.parametrize("doubt", ["two of them", "no answer", "none"])
def test_of_what_holds_the_lock_without_a_name_nobody_knows_whose_it_is(commands, doubt):
    kernels(commands)
    if doubt == "two of them":
        other_name(commands, units=2)
    elif doubt == "no answer":
        commands.answer("systemctl show", "-*.service", code=1)
    with locked(commands):
        seen = play(commands.systemd.activation())
    assert seen == ActivationSeen(is_running=True)
    assert not is_ours(seen, {NEW}, None)


# --- switch-to-configuration


def activate(commands, action=Action.SWITCH, toplevel=NEW):
    return play(commands.systemd.activate(toplevel, action))


def test_it_runs_in_the_transient_unit_that_nixos_rebuild_uses(tmp_path):
    by_unit = {"LOCALE_ARCHIVE": "/l", "NIXOS_INSTALL_BOOTLOADER": "1", "NIXOS_NO_CHECK": "1"}
    commands = Commands(tmp_path, NIX_STORE_DIR="/elsewhere", HOME="/root", **by_unit)
    (commands.run_dir / "systemd/system").mkdir(parents=True)
    commands.answer("systemd-run", code=4, out="on stdout\n", err="on stderr\n")

    ended = activate(commands, Action.TEST)

    assert (ended.returncode, ended.tail, ended.timed_out) == (4, "on stderr", False)
    (argv,) = commands.asked()
    assert argv[-2:] == [f"{NEW}/bin/switch-to-configuration", "test"]
    assert f"--unit={TRANSIENT.removesuffix('.service')}" in argv
    assert {"--collect", "--pipe", "--service-type=exec", "--no-ask-password"} <= set(argv)
    assert "--property=RuntimeMaxSec=60s" in argv  # of what hangs nobody may know whose it is
    passed = {argv[at + 1] for at, word in enumerate(argv) if word == "-E"}
    assert set(by_unit) <= passed
    assert "HOME" not in passed
    assert environment_file_in(argv).name == TRANSIENT.replace(".service", ".env")
    lines = [fields["line"] for event, fields in commands.sink.said if "line" in fields]
    assert lines == ["on stderr", "on stdout"]
    spoken = [fields for event, fields in commands.sink.said if event is events.PROGRAM_SPOKE]
    assert spoken[-1]["program"] == "switch-to-configuration"


def test_a_check_that_refuses_on_standard_output_is_heard(commands, tmp_path):
    system = system_with(tmp_path, "echo \"Pre-switch check 'a b' failed\"; echo why >&2; exit 1")

    ended = activate(commands, Action.TEST, system)

    assert (ended.returncode, ended.tail) == (1, "Pre-switch check 'a b' failed\nwhy")


def system_with(directory, script):
    program = directory / "system/bin/switch-to-configuration"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return StorePath(str(directory / "system"))


def test_without_systemd_it_runs_by_itself(commands, tmp_path):
    system = system_with(tmp_path, 'echo "$1"; exit 2')

    ended = activate(commands, Action.BOOT, system)

    assert ended.returncode == 2
    assert [fields["line"] for _, fields in commands.sink.said if "line" in fields] == ["boot"]
    assert commands.asked() == []


def managed(commands, *, listens=True):
    """Let there be a manager, and its own socket."""
    (commands.run_dir / "systemd/system").mkdir(parents=True)
    if listens:
        with socket.socket(socket.AF_UNIX) as private:
            private.bind(str(commands.run_dir / "systemd/private"))


def programs_run(commands):
    return [words[0] for words in commands.asked()]


@pytest.mark.parametrize("code", [1, 4])
@pytest.mark.parametrize(
    "said",
    [
        "postgres-migrate: Failed to connect to localhost:5432",
        "Failed to connect to bus: No such file or directory",
    ],
)
def test_an_activation_that_failed_is_not_begun_again_outside_of_its_unit(
    tmp_path, commands, said, code
):
    managed(commands)
    commands.answer("systemd-run", code=code, err=f"{said}\n")
    assert activate(commands, toplevel=system_with(tmp_path, "exit 0")).returncode == code
    assert programs_run(commands) == ["busctl", "systemd-run"]


def test_without_a_bus_it_runs_by_itself(tmp_path, commands):
    managed(commands)
    commands.answer("busctl", "org.freedesktop.systemd1", code=1, err="Failed to connect to bus")
    assert activate(commands, toplevel=system_with(tmp_path, "exit 2")).returncode == 2
    assert programs_run(commands) == ["busctl"]


@pytest.mark.parametrize("why", ["the socket is missing", "busctl is missing", "it is slow"])
def test_a_bus_of_which_nothing_is_known_is_taken_for_one(tmp_path, commands, why):
    managed(commands, listens=why != "the socket is missing")
    if why == "busctl is missing":
        (commands.directory / "bin/busctl").unlink()
    commands.answer("busctl", code=1, err="Call failed: Connection timed out\n")
    commands.answer("systemd-run", code=1)
    assert activate(commands, toplevel=system_with(tmp_path, "exit 0")).returncode == 1
    assert programs_run(commands)[-1] == "systemd-run"


def test_what_has_no_switch_to_configuration_is_a_failed_roll_back(commands, tmp_path):
    with pytest.raises(HostError, match="switch-to-configuration") as caught:
        activate(commands, toplevel=StorePath(str(tmp_path / "nothing")))
    assert caught.value.kind is Kind.ROLL_BACK_FAILED


# --- the next run


@pytest.mark.parametrize(
    ("at", "calendar"),
    [
        (datetime(2026, 11, 21, 4, 0, tzinfo=UTC), "2026-11-21 04:00:00 UTC"),
        (datetime(2026, 11, 21, 4, 13, 22, 830_000, tzinfo=UTC), "2026-11-21 04:13:23 UTC"),
        (
            datetime(2026, 11, 21, 4, 59, 59, 1, tzinfo=timezone(timedelta(hours=2))),
            "2026-11-21 03:00:00 UTC",
        ),
    ],
)
def test_the_next_run_is_set_for_a_whole_second_and_never_too_early(commands, at, calendar):
    play(commands.systemd.wake(at))
    stopped, started = commands.asked()
    assert stopped == ["systemctl", "stop", "nixos-hydra-agent-wake.timer"]
    assert f"--on-calendar={calendar}" in started
    assert started[-4:] == ["systemctl", "--no-block", "start", "nixos-hydra-agent.service"]


def test_without_systemd_no_next_run_can_be_set_and_that_is_no_fault(without):
    play(without.systemd.wake(datetime(2026, 11, 21, tzinfo=UTC)))
