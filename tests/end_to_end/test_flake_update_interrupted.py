"""`agent flake-update run`, ended wherever it may be: nothing is left, here or on the remote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from fake_forges.forgejo import ForgejoServer
from fake_forges.server import Refusal
from fake_forges.world import World

pytestmark = pytest.mark.long

HANG = 'touch "$HANGS"; exec sleep 60'


class SlowForge(ForgejoServer):
    """Opens a pull request, or does not, and says nothing about it until it may."""

    def __init__(self, world):
        self.is_slow = False
        self.opens_first = False
        self.is_asked = threading.Event()
        self.may_answer = threading.Event()
        super().__init__(world)

    def _create_pull(self, asked):
        is_a_question = asked.content["head"] == asked.content["base"]
        if not self.is_slow or is_a_question:
            return super()._create_pull(asked)
        said = super()._create_pull(asked) if self.opens_first else None
        self.is_asked.set()
        self.may_answer.wait(30)
        if said is None:
            raise Refusal(500, {"message": "it never came to that"})
        return said


@pytest.fixture
def forge(desk):
    token = desk.site.checkout.directory / "token"
    token.write_text("t0ken")
    token.chmod(0o400)
    with SlowForge(World(branches=desk.site.checkout.tips)) as server:
        desk.set(
            "flake_update.forge",
            type="forgejo",
            url=server.url,
            repository=server.repository,
            token_file=str(token),
        )
        yield server
        server.may_answer.set()


@contextmanager
def process(desk):
    """Run the command as a process of its own; yields it and a file that a hook may make."""
    hangs = desk.site.checkout.directory / "hangs"
    argv = (sys.executable, "-m", "agent", "flake-update", "run", "--config", str(desk.write()))
    with subprocess.Popen(
        argv,
        env={**os.environ, "HANGS": str(hangs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            yield child, hangs
        finally:
            child.kill()


def until(condition, child):
    for _ in range(3000):
        if condition():
            return
        assert child.poll() is None, child.stderr.read().decode()
        threading.Event().wait(0.01)
    pytest.fail("it never came to that")


def nothing_left(desk, before):
    return (
        desk.site.checkout.state() == before
        and list(desk.temporary.iterdir()) == []
        and set(desk.site.checkout.tips()) == {"main"}
    )


def end(child):
    child.send_signal(signal.SIGTERM)
    child.wait(30)
    assert child.returncode == 143, child.stderr.read().decode()


HOOKS = [
    pytest.param("pre-commit", False, marks=pytest.mark.long),
    pytest.param("pre-push", False, marks=pytest.mark.long),
    pytest.param("pre-receive", True, marks=pytest.mark.long),
    ("post-receive", True),
]


@pytest.mark.parametrize(("hook", "of_remote"), HOOKS)
def test_while_it_commits_and_pushes_nothing_is_left(desk, hook, of_remote):
    desk.site.release(linux="6.2")
    desk.site.checkout.hook(hook, HANG, of_remote=of_remote)
    before = desk.site.checkout.state()
    with process(desk) as (child, hangs):
        until(hangs.exists, child)
        desk.site.checkout.hook(hook, "exit 0", of_remote=of_remote)
        end(child)
    assert nothing_left(desk, before)


@pytest.mark.parametrize("opens_first", [False, pytest.param(True, marks=pytest.mark.long)])
def test_while_it_proposes_there_is_either_both_or_nothing(desk, forge, opens_first):
    desk.site.release(linux="6.2")
    before = desk.site.checkout.state()
    forge.is_slow, forge.opens_first = True, opens_first
    with process(desk) as (child, _):
        until(forge.is_asked.is_set, child)
        end(child)
    proposed = [pull.head for pull in forge.world.pulls]
    assert [name for name in desk.site.checkout.tips() if name != "main"] == proposed
    assert nothing_left(desk, before) is not opens_first


@pytest.mark.long
@pytest.mark.parametrize("title", ["Fetching", "Updating", "Discovering", "Evaluating", "Building"])
def test_at_every_earlier_step_nothing_is_left(desk, title, monkeypatch):
    monkeypatch.setenv("CI", "1")
    desk.site.release(linux="6.2")
    before = desk.site.checkout.state()
    with process(desk) as (child, _):
        for line in child.stderr:
            if line.decode().startswith(f"::group::{title}"):
                break
        end(child)
    assert nothing_left(desk, before)


def test_after_a_kill_the_next_run_tidies_up_and_finishes(desk, forge):
    desk.site.release(linux="6.2")
    before = desk.site.checkout.state()
    forge.is_slow = True
    with process(desk) as (child, _):
        until(forge.is_asked.is_set, child)
        child.kill()
        child.wait()
    assert set(desk.site.checkout.tips()) != {"main"}
    assert list(desk.temporary.iterdir()) != []
    forge.may_answer.set()
    forge.is_slow = False

    told = desk("run", "--json")

    assert (told.code, told.json["outcome"]) == (0, "proposed"), told.err
    assert desk.site.checkout.state() == before
    today = f"flake-update-{datetime.now(UTC):%Y%m%d}"
    assert [pull.head for pull in forge.world.pulls] == [today]
    assert set(desk.site.checkout.tips()) == {"main", today}
