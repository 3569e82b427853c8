from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.application import events
from agent.application.facts.take_findings import examine, take_baseline
from agent.domain.check import CheckResult, HttpCheck, IcmpCheck, UnitCheck
from agent.domain.confirmation import Baseline, Verdict, judge
from fakes.prober import RogueProber, SkippingLoop
from fakes.samples import JOB
from fakes.world import CACHE, GATEWAY, SERVICE, WATCHFUL, World

INFO = f"{CACHE}/nix-cache-info"
HYDRA = JOB.instance
UNASKED = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, asks_hydra=False))
NO_GATEWAY = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, asks_gateway=False))


@pytest.fixture
def world():
    return World()


def look(world, policy=WATCHFUL):
    return asyncio.run(examine(world.ports, policy, frozenset({"web.service"})))


def baseline(world, policy=WATCHFUL):
    return asyncio.run(take_baseline(world.ports, policy))


def asked(world):
    return {check.target for check in world.prober.asked}


# Upstream


def test_hydra_every_gateway_and_every_substituter_are_asked_beside_the_checks(world):
    world.host.gateways = (GATEWAY, "fe80::1%eth0")
    world.nix.caches = (
        CACHE,
        "http://other.example.org/?priority=10",
        "https://slash.example.org/",
    )
    look(world)
    assert asked(world) == {
        SERVICE,
        HYDRA,
        INFO,
        "http://other.example.org/nix-cache-info",
        "https://slash.example.org/nix-cache-info",
        GATEWAY,
        "fe80::1%eth0",
    }


def test_any_status_of_http_is_an_answer(world):
    look(world)
    for check in world.prober.asked:
        if isinstance(check, HttpCheck):
            assert all(status in check.status[0] for status in (100, 301, 404, 500, 599))


@pytest.mark.parametrize(
    "caches", [("file:///cache", "daemon", "ssh://x", "s3://bucket"), (), (f"{HYDRA}/",), (HYDRA,)]
)
def test_what_cannot_be_asked_or_is_hydra_itself_is_no_witness(world, caches):
    world.nix.caches = caches
    seen = look(world, NO_GATEWAY)
    assert asked(world) == {SERVICE, HYDRA}
    assert (seen.hydra, seen.outside_world) == (True, False)


def test_a_cache_beside_hydra_is_a_witness(world):
    world.nix.caches = (f"{HYDRA}:5000",)
    assert look(world, NO_GATEWAY).outside_world is True


def test_the_substituters_of_the_settings_come_before_nixs_own(world):
    look(world, replace(WATCHFUL, substituters=("https://ours.example.org",)))
    assert "https://ours.example.org/nix-cache-info" in asked(world)
    assert INFO not in asked(world)


def test_a_laptop_does_not_ask_hydra_nor_anybody_in_its_stead(world):
    seen = look(world, UNASKED)
    assert (seen.hydra, seen.outside_world) == (None, None)
    assert asked(world) == {SERVICE}


ALL = (HYDRA, INFO, GATEWAY)


@pytest.mark.parametrize(
    ("silent", "unproven", "hydra", "control"),
    [
        ((), (), True, True),
        ((HYDRA,), (), False, True),
        ((HYDRA, INFO), (), False, True),
        ((HYDRA, GATEWAY), (), False, True),
        ((INFO, GATEWAY), (), True, False),
        (ALL, (), False, False),
        (ALL, (HYDRA,), False, None),
        (ALL, (GATEWAY,), False, None),
        (ALL, (INFO,), False, None),
        ((HYDRA, GATEWAY), (GATEWAY,), False, True),
    ],
)
def test_a_host_is_cut_off_only_where_everybody_was_asked_and_nobody_answers(
    world, silent, unproven, hydra, control
):
    world.prober.reasons = dict.fromkeys(silent, "no answer")
    world.prober.unproven = set(unproven)
    seen = look(world)
    assert (seen.hydra, seen.outside_world) == (hydra, control)


def test_a_host_without_a_route_has_no_gateway_to_ask(world):
    world.host.gateways = ()
    world.prober.reasons = {HYDRA: "no route", INFO: "no route"}
    assert look(world).outside_world is False


# All of it


def test_what_was_found_is_told_as_it_is(world):
    world.systemd.failed = frozenset({"web.service"})
    world.systemd.is_synchronised = False
    world.service_breaks()
    seen = look(world)
    (service,) = seen.checks
    assert (service.is_well, service.reason) == (False, "no reply")
    assert seen.failed_units == seen.touched_units == {"web.service"}
    assert seen.clock is False


def test_what_is_unknown_stays_unknown(world):
    world.systemd.failed = world.systemd.is_synchronised = None
    seen = look(world)
    assert (seen.failed_units, seen.clock) == (None, None)


JOB_UNIT = UnitCheck("job", "web.service", timedelta(seconds=5))


def naming(check):
    return replace(
        WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=(*WATCHFUL.confirm.checks, check))
    )


@pytest.mark.parametrize(
    ("policy", "by_timers", "jobs", "unclear"),
    [
        (WATCHFUL, {"web.service", "other.service"}, {"web.service"}, set()),
        (WATCHFUL, {"other.service"}, set(), set()),
        (WATCHFUL, None, set(), {"web.service"}),
        (naming(JOB_UNIT), {"web.service"}, set(), set()),
        (naming(JOB_UNIT), None, set(), set()),
        (naming(replace(JOB_UNIT, is_wanted=True)), {"web.service"}, {"web.service"}, set()),
    ],
)
def test_jobs_of_timers_are_known_among_what_failed_unless_a_check_names_them(
    world, policy, by_timers, jobs, unclear
):
    world.systemd.failed = frozenset({"web.service", "other.service"})
    world.systemd.by_timers = None if by_timers is None else frozenset(by_timers)
    seen = look(world, policy)
    assert (seen.timer_jobs, seen.unclear_units) == (jobs, unclear)


def test_everything_is_asked_at_once():
    started: list[str] = []
    all_asked = asyncio.Event()
    world = World()
    checks = tuple(IcmpCheck(name, name, timedelta(seconds=5)) for name in ("one", "two", "three"))
    policy = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=checks))
    wanted = {"one", "two", "three", "hydra", CACHE, f"gateway {GATEWAY}"}

    def waits(name):
        async def act():
            started.append(name)
            if set(started) == wanted:
                all_asked.set()
            await all_asked.wait()
            raise ZeroDivisionError  # a probe's own fault is its check's alone

        return act

    world.prober = RogueProber({name: waits(name) for name in wanted})
    seen = look(world, policy)
    assert set(started) == wanted
    assert [told.is_conclusive for told in seen.checks] == [False, False, False]


CROWD = tuple(IcmpCheck(f"c{number}", f"c{number}", timedelta(seconds=5)) for number in range(9))
CROWDED = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=CROWD, asks_hydra=False))


def crowd(room, seconds):
    """Return a prober that has room for `room` checks, each of which takes `seconds`."""

    def act(name, check):
        async def takes_time():
            asyncio.get_running_loop().skipped += seconds / room
            for _ in range(5):  # whatever is due has its turn
                await asyncio.sleep(0)
            return CheckResult(check, is_well=True)

        return name, takes_time

    return RogueProber(dict(act(check.name, check) for check in CROWD), room=room)


def look_at_a_crowd(world, within):
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(examine(world.ports, CROWDED, frozenset(), within))


def test_more_checks_than_there_is_room_for_have_their_turn_one_after_another(world):
    world.prober = crowd(room=1, seconds=4)
    seen = look_at_a_crowd(world, timedelta(minutes=10))
    assert [told.is_well for told in seen.checks] == [True] * 9


def test_checks_that_do_not_fit_the_deadline_are_inconclusive_by_name(world):
    world.prober = crowd(room=1, seconds=4)
    seen = look_at_a_crowd(world, timedelta(seconds=18))
    late = [told for told in seen.checks if not told.is_well]
    assert late
    assert len(late) < len(CROWD)
    assert all(told.is_cut_short and not told.is_conclusive for told in late)
    judged = judge(Baseline(dict.fromkeys((c.name for c in CROWD), True), frozenset()), seen, ())
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert [reason.split(":")[0] for _, reason in judged.reasons] == [
        told.check.name for told in late
    ]


# The baseline


def test_a_baseline_asks_more_checks_than_there_is_room_for(world):
    world.prober = crowd(room=1, seconds=4)
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        taken = runner.run(take_baseline(world.ports, CROWDED))
    assert taken.checks == dict.fromkeys((check.name for check in CROWD), True)


def test_a_baseline_tells_how_all_was_before(world):
    world.systemd.failed = frozenset({"b.service", "a.service"})
    assert baseline(world) == Baseline(
        {"service": True},
        frozenset({"a.service", "b.service"}),
        hydra=True,
        outside_world=True,
        clock=True,
    )
    assert world.told.fields_of(events.BASELINE_TAKEN) == {
        "checks": {"service": True},
        "failed_units": ["a.service", "b.service"],
        "hydra": True,
        "control": True,
    }


@pytest.mark.parametrize(("is_proven", "known"), [(True, {"service": False}), (False, {})])
def test_a_check_that_could_not_be_run_is_unknown_to_the_baseline(world, is_proven, known):
    world.service_breaks()
    world.prober.unproven = set() if is_proven else {SERVICE}
    assert baseline(world).checks == known


def test_a_host_without_a_service_manager_has_a_baseline_too(world):
    world.systemd.failed = None
    assert baseline(world, UNASKED).failed_units is None
    assert world.told.fields_of(events.BASELINE_TAKEN)["failed_units"] is None


@pytest.mark.parametrize(("is_well", "known"), [(True, {"new": True}), (False, {})])
def test_a_check_that_comes_with_the_system_is_known_before_only_if_it_is_well(
    world, is_well, known
):
    new = IcmpCheck("new", "new.example", timedelta(seconds=5))
    if not is_well:
        world.prober.reasons["new.example"] = "no reply"
    policy = replace(WATCHFUL, confirm=replace(WATCHFUL.confirm, checks=(new,)))
    taken = asyncio.run(take_baseline(world.ports, policy, WATCHFUL.confirm))
    assert taken.checks == {"service": True} | known
