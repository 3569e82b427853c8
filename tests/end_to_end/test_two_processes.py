"""The two sides of an upgrade as two processes: only requests and their answers go between them.

The one that acts is in a network namespace in which there is a cache and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.application.act.answers import parse_activated, parse_fetched
from agent.domain.outcome import Outcome
from agent.domain.request import LARGEST

ROOT = Path(__file__).parents[2]
ONE_SIDE = Path(__file__).with_name("one_side.py")


def namespace():
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    up = 'ip link set lo up && exec "$@"'
    return ["unshare", *as_root, "--net", "--", "sh", "-ec", up, "sh"]


def why_no_namespace():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "no unshare or ip on PATH"
    tried = subprocess.run([*namespace(), "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


class Side:
    """One side; a context manager."""

    def __init__(self, machine, side, *arguments, wrapped_in=()):
        self._log = machine.layout.root / f"{side}.log"
        self._argv = [*wrapped_in, sys.executable, str(ONE_SIDE), side, str(machine.config)]
        self._argv += [str(argument) for argument in arguments]
        self._env = {**machine.full_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}

    def __enter__(self):
        with self._log.open("w") as log:
            self._child = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._env,
            )
        return self

    def __exit__(self, *error):
        if error[0] is not None:
            self._child.kill()
        self._child.stdin.close()
        self._child.stdout.close()
        assert self._child.wait(timeout=60) == 0 or error[0] is not None, self.log

    @property
    def log(self):
        return self._log.read_text()

    def hear(self):
        line = self._child.stdout.readline().rstrip("\n")
        assert line, self.log
        return line

    def say(self, line):
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()

    def ask(self, line):
        self.say(line)
        return self.hear()


@pytest.fixture
def sides(offered):
    """Both sides of an upgrade to what is in the cache only, and the machine."""
    if fault := why_no_namespace():
        pytest.skip(f"no network namespace can be had here: {fault}")
    offered.write_settings()
    assert not Path(offered.farm.second).exists()
    with ExitStack() as stack:
        cache = (offered.layout.cache, offered.hydra.port)
        acting = stack.enter_context(Side(offered, "act", *cache, wrapped_in=namespace()))
        assert json.loads(acting.hear()) == ["lo"]
        watching = stack.enter_context(Side(offered, "watch"))
        yield watching, acting, offered


def test_an_upgrade_by_two_processes_with_only_requests_and_answers_between_them(sides):
    watching, acting, machine = sides
    before = machine.look()
    fetching = watching.hear()
    asked = machine.questions()
    fetched = acting.ask(fetching)
    ready = parse_fetched(fetched, store_dir=str(machine.farm.store_dir))
    assert ready.toplevel == machine.farm.second
    assert Path(ready.toplevel).exists()
    assert machine.look() == before
    assert machine.questions() == asked

    activating = watching.ask(fetched)
    asked = machine.questions()
    activated = parse_activated(acting.ask(activating), store_dir=str(machine.farm.store_dir))
    assert (activated.outcome, activated.toplevel) == (Outcome.PENDING, machine.farm.second)
    assert machine.look().running == machine.look().profile == machine.farm.second
    assert machine.questions() == asked

    for replayed in (fetching, activating):
        assert refusal(acting, replayed) == "request-replayed"
    assert machine.activations() == ["switch"]
    acting.say("")
    assert machine.run("confirm").outcome == (0, "confirmed")


def refusal(acting, text):
    """Return the kind of error with which a request is answered."""
    return json.loads(acting.ask(text))["error"]["kind"]


def altered(text, **fields):
    return json.dumps({**json.loads(text), **fields})


def test_what_is_no_request_of_this_run_changes_nothing(sides):
    watching, acting, machine = sides
    before = machine.look()
    fetching = watching.hear()
    past, future = "2020-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"
    candidate = json.loads(fetching)["candidate"]
    for text, kind in (
        (altered(fetching, issued_at=past), "request-expired"),
        (altered(fetching, issued_at=future), "request-from-future"),
        (altered(fetching, host="other"), "request-misdirected"),
        (altered(fetching, candidate={**candidate, "job": "other"}), "request-misdirected"),
        (fetching[:-1], "request-malformed"),
        (fetching + " " * LARGEST, "request-too-large"),
    ):
        assert refusal(acting, text) == kind
    assert not Path(machine.farm.second).exists()

    activating = watching.ask(acting.ask(fetching))
    for text, kind in (
        (altered(activating, issued_at=past), "request-expired"),
        (altered(activating, issued_at=future), "request-from-future"),
        (altered(activating, host="other"), "request-misdirected"),
        (altered(activating, run_id="other"), "request-unfetched"),
        (altered(activating, toplevel=machine.farm.first), "request-unfetched"),
        (activating[:-1], "request-malformed"),
    ):
        assert refusal(acting, text) == kind
    acting.say("")
    assert machine.look() == before
    assert not machine.activations()
