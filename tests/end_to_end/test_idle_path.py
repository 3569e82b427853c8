"""The idle path: one request and nothing else, and at the least doubt a full run."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys

import pytest

from agent.demo.hydra import EmbeddedHydra
from end_to_end.machine import LATEST, ONCE, Machine, assert_unchanged, settle

HEAVY = ("asyncio", "httpx", "pydantic", "structlog", "click", "sqlite3", "agent.cli")


def idle(run):
    """Return the one line of an idle run."""
    assert (run.exit_code, run.stderr) == (0, "")
    (event,) = run.events
    assert event["event"] == "run.idle"
    return event


@pytest.fixture(name="calm", scope="module")
def _calm(farm, preloaded_agent):
    with EmbeddedHydra() as hydra:
        machine = Machine(farm, hydra, preloaded_agent)
        settle(machine)
        yield machine, {file: file.read_bytes() for file in machine.layout.state_dir.iterdir()}


@pytest.fixture(name="settled")
def _settled(calm):
    """A machine whose next run is an idle one, and whose host must be left as it is."""
    machine, state = calm
    settings, builds, evals = (
        dict(machine.settings),
        dict(machine.world.builds),
        dict(machine.world.evals),
    )
    before = machine.look()
    machine.hydra.requests.clear()
    yield machine
    assert machine.look() == before
    machine.settings = settings
    machine.environment.clear()
    machine.world.builds, machine.world.evals = builds, evals
    machine.world.is_database_down = False
    for file, content in state.items():
        file.write_bytes(content)


def test_the_third_run_asks_one_question(settled):
    run = settled.upgrade()
    event = idle(run)
    assert_unchanged(run)
    assert settled.questions() == [("HEAD", LATEST)]
    assert (event["build_id"], event["host"]) == (2, "web-1")
    assert (event["job"], event["level"]) == ("nix-config:main:web-1", "info")
    assert event["durations"]["total"] >= 0
    assert len(settled.rows()) == 1


def test_it_goes_on_for_as_long_as_nothing_changes(settled):
    for _ in range(3):
        idle(settled.upgrade())
    assert settled.questions() == [("HEAD", LATEST)] * 3
    cookies = [request.headers.get("cookie") for request in settled.hydra.requests]
    assert len(set(cookies[1:])) == 1
    assert cookies[1] is not None


@pytest.mark.parametrize(("command", "event"), [("upgrade", "run.idle"), ("confirm", None)])
def test_it_loads_no_heavy_library(settled, command, event):
    script = """if True:
        import atexit, json, sys
        atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
        from agent.__main__ import main
        main()
    """
    argv = settled.argv(command)
    assert argv[1:3] == ["-m", "agent"]
    settled.write_settings()
    ended = subprocess.run(
        [sys.executable, "-c", script, *argv[3:]],
        capture_output=True,
        text=True,
        env=settled.full_environment(),
        timeout=60,
        check=False,
    )
    # What the interpreter's own site loads for an editable installation is not the agent's doing.
    assert (json.loads(ended.stdout)["event"] if ended.stdout else None) == event
    assert set(json.loads(ended.stderr)).isdisjoint(HEAVY)


def test_it_leaves_the_time_of_its_contact(settled):
    contact = settled.layout.state_dir / "last-contact"
    contact.unlink()
    idle(settled.upgrade())
    assert contact.read_text().endswith("Z\n")


def test_a_quiet_log_has_no_line_of_it(settled):
    settled.configure(log={"level": "warning"})
    assert settled.upgrade().stdout == ""
    settled.hydra.requests.clear()
    assert settled.upgrade().stdout == ""
    assert settled.questions() == [("HEAD", LATEST)]


# Doubts


def change_settings(machine):
    machine.configure(hydra={"timeout": "9s"})


def lose_the_note(machine):
    (machine.layout.state_dir / "idle.json").unlink()


def damage_the_note(machine):
    (machine.layout.state_dir / "idle.json").write_text('{"version": ')


def change_note(**facts):
    def change(machine):
        file = machine.layout.state_dir / "idle.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))

    return change


def offer_the_same_again(machine):
    machine.offer(machine.farm.second)


def set_a_proxy(machine):
    machine.environment["http_proxy"] = machine.hydra.url


HARMLESS = {
    "other settings": change_settings,
    "no note": lose_the_note,
    "a damaged note": damage_the_note,
    "a note of another shape": change_note(links=7),
    "a note that is too old": change_note(until=1.0),
    "a note from a clock that was wrong": change_note(until=4e9),
    "a newer build of the same system": offer_the_same_again,
}


@pytest.mark.parametrize("case", HARMLESS)
def test_at_a_doubt_that_proves_groundless_a_full_run_finds_nothing_to_do(settled, case):
    HARMLESS[case](settled)
    run = settled.upgrade()
    assert run.outcome == (0, "nothing-to-do")
    assert_unchanged(run)
    assert len(settled.questions()) > 1
    idle(settled.upgrade())


def test_with_a_proxy_every_run_is_a_full_one(settled):
    settled.configure(hydra=ONCE)
    settled.environment["http_proxy"] = "http://127.0.0.1:9"
    run = settled.upgrade()
    assert (run.exit_code, run.summary["error.kind"]) == (69, "hydra-refused")
    settled.environment.clear()
    settled.environment.update(http_proxy="http://127.0.0.1:9", no_proxy="127.0.0.1")
    for _ in range(2):
        assert settled.upgrade().outcome == (0, "nothing-to-do")


def test_hydra_is_down(settled):
    settled.world.is_database_down = True
    settled.configure(hydra=ONCE)
    run = settled.upgrade()
    assert (run.exit_code, run.summary["error.kind"]) == (69, "hydra-server-error")
    assert_unchanged(run)


def test_the_lock_is_held(settled):
    with (settled.layout.state_dir / "agent.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = settled.upgrade()
    assert (run.exit_code, run.summary["error.kind"]) == (75, "locked")
