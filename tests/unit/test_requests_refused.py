"""What the part that changes the host refuses, and that nothing is changed then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application.act.activate import activate
from agent.application.act.answers import Activated, Failed, Ready
from agent.application.act.fetch import fetch
from agent.application.run import RunSettings, begin
from agent.application.upgrade import upgrade
from agent.application.watch.requests import activate_request, fetch_request
from agent.domain.errors import ExitCode, JournalError, Kind
from agent.domain.outcome import Outcome
from agent.domain.pause import Pause
from agent.domain.policy import Strategy
from agent.domain.request import LARGEST, VALID_FOR
from fakes.samples import OTHER
from fakes.world import STORE, WATCHFUL, World, candidate_of, system

NEW = system(1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def world():
    """A host, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def run_of(world, run_id="run-1", policy=WATCHFUL):
    return begin(world.ports, policy, RunSettings(run_id, STORE))


def a_fetch(world, run_id="run-1"):
    return fetch_request(run_of(world, run_id), candidate_of(world.hydra.builds[1]), "upgrade")


def an_activation(world, run_id="run-1"):
    run, seen = run_of(world, run_id), world.host.systems()
    candidate = candidate_of(world.hydra.builds[1])
    return asyncio.run(activate_request(run, candidate, NEW, seen, ()))


def do_fetch(world, text, policy=WATCHFUL):
    return asyncio.run(fetch(run_of(world, policy=policy), text))


def do_activate(world, text, policy=WATCHFUL):
    return asyncio.run(activate(run_of(world, policy=policy), text))


def later(request, by):
    envelope = request.envelope
    return replace(request, envelope=replace(envelope, issued_at=envelope.issued_at - by))


def for_host(request, host):
    return replace(request, envelope=replace(request.envelope, host=host))


def assert_refused(world, answer, kind):
    assert isinstance(answer, Failed)
    assert answer.error.kind is kind
    assert world.is_untouched()
    assert world.marks.read().pending is None
    assert world.systemd.timer is None


def of_another_job(request):
    candidate = request.candidate
    other = replace(candidate.job, jobset="other")
    return replace(request, candidate=replace(candidate, job=other))


WRONG = {
    Kind.REQUEST_MALFORMED: lambda request: request.serialise()[:-2],
    Kind.REQUEST_TOO_LARGE: lambda request: request.serialise() + " " * LARGEST,
    Kind.REQUEST_EXPIRED: lambda request: later(request, VALID_FOR + SECOND).serialise(),
    Kind.REQUEST_FROM_FUTURE: lambda request: later(request, -VALID_FOR).serialise(),
    Kind.REQUEST_MISDIRECTED: lambda request: for_host(request, "other").serialise(),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_request_to_fetch_fetches_nothing(world, kind):
    assert_refused(world, do_fetch(world, WRONG[kind](a_fetch(world))), kind)
    assert "substitute" not in world.steps
    assert not world.journal.written


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_request_to_activate_activates_nothing(world, kind):
    assert isinstance(do_fetch(world, a_fetch(world).serialise()), Ready)
    rows = list(world.journal.written)
    assert_refused(world, do_activate(world, WRONG[kind](an_activation(world))), kind)
    assert world.journal.written == rows


def test_what_is_out_of_its_time_is_a_hold_that_the_next_run_may_pass(world):
    for by in (VALID_FOR + SECOND, -VALID_FOR):
        answer = do_fetch(world, later(a_fetch(world), by).serialise())
        assert answer.error.exit_code is ExitCode.HELD


def test_a_build_of_another_job_is_refused(world):
    text = of_another_job(a_fetch(world)).serialise()
    assert_refused(world, do_fetch(world, text), Kind.REQUEST_MISDIRECTED)


def test_a_request_without_a_flake_is_refused_where_one_is_evaluated(world):
    request = a_fetch(world)
    request = replace(request, candidate=replace(request.candidate, flake=None))
    assert_refused(world, do_fetch(world, request.serialise()), Kind.REQUEST_MALFORMED)
    by_path = replace(WATCHFUL, strategy=Strategy.STORE_PATH, verify=False)
    assert isinstance(do_fetch(world, request.serialise(), by_path), Ready)


def test_a_fetch_is_done_once(world):
    text = a_fetch(world).serialise()
    assert isinstance(do_fetch(world, text), Ready)
    assert_refused(world, do_fetch(world, text), Kind.REQUEST_REPLAYED)


def test_an_activation_is_done_once(world):
    do_fetch(world, a_fetch(world).serialise())
    text = an_activation(world).serialise()
    done = do_activate(world, text)
    assert isinstance(done, Activated)
    assert done.outcome is Outcome.PENDING
    again = do_activate(world, text)
    assert isinstance(again, Failed)
    assert again.error.kind is Kind.REQUEST_REPLAYED
    assert len(world.nixos_rebuild.activated) == 1


def test_what_was_not_fetched_is_not_activated(world):
    text = an_activation(world).serialise()
    assert_refused(world, do_activate(world, text), Kind.REQUEST_UNFETCHED)


@pytest.mark.parametrize(
    "change",
    [
        lambda request: replace(request, toplevel=OTHER),
        lambda request: replace(request, candidate=replace(request.candidate, build_id=2)),
        lambda request: replace(request, envelope=replace(request.envelope, run_id="run-2")),
        of_another_job,
    ],
)
def test_nothing_but_what_the_run_has_fetched_is_activated(world, change):
    do_fetch(world, a_fetch(world).serialise())
    text = change(an_activation(world)).serialise()
    assert_refused(world, do_activate(world, text), Kind.REQUEST_UNFETCHED)


def test_what_cannot_be_looked_up_is_not_done(world):
    fetching = a_fetch(world).serialise()
    activating = an_activation(world).serialise()
    world.journal.fault = world.journal.read_fault = JournalError(Kind.STATE_FULL, "no room")
    assert_refused(world, do_fetch(world, fetching), Kind.STATE_FULL)
    assert_refused(world, do_activate(world, activating), Kind.STATE_FULL)


def test_another_path_than_hydras_is_activated_where_it_need_not_be_proven(world):
    lenient = replace(WATCHFUL, verify=False)
    world.builds_instead(1, OTHER)
    ready = do_fetch(world, a_fetch(world).serialise(), lenient)
    assert isinstance(ready, Ready)
    assert ready.toplevel == OTHER
    text = replace(an_activation(world), toplevel=OTHER).serialise()
    assert isinstance(do_activate(world, text, lenient), Activated)
    assert world.host.running == OTHER


def test_a_host_with_thousands_of_failed_units_is_upgraded_all_the_same(world):
    peers = (f"sshd@{n}-192.0.2.1:22-198.51.100.7:{n}.service" for n in range(20_000))
    world.systemd.failed = frozenset(peers)
    report = world.run()
    assert (report.outcome, report.error) == (Outcome.CONFIRMED, None)


def test_what_no_text_may_have_is_written_out_and_holds_no_upgrade(world):
    world.journal.set_pause(Pause("a\0b\udc80", "eve", world.clock.now()))
    asked = {"ignored_gates": frozenset({"paused"}), "ignored_because": "c\udc80", "by": "eve"}
    report = world.carry_out(upgrade, **asked)
    assert (report.outcome, report.error) == (Outcome.CONFIRMED, None)
    assert [passed.gate for passed in world.last_row().ignored_gates] == ["paused"]
