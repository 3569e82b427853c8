"""A switch that breaks a host undoes itself; an outage elsewhere undoes nothing."""

from __future__ import annotations

import pytest

from nspawn.activation_breakpoint import Gate
from nspawn.host_state import events, history, marks, seconds, summaries, timers
from nspawn.systems import CANNOT_START, CONFIRM, UPGRADE, oneshot, service, system

_WEB = {"type": "http", "name": "web", "url": "http://127.0.0.1:8080/", "timeout": "1s"}
_DEADLINE = 2
_CONFIRM = {"settle": "0.5s", "deadline": f"{_DEADLINE}s"}
_HELD = 75


def with_web(version, port):
    """Describe a system with a service, which is checked at port 8080."""
    script = f"/usr/bin/python3 -m http.server {port} --bind 127.0.0.1 --directory /etc/nix"
    return system(
        version,
        units={"web.service": service(script)},
        wants=["web.service"],
        settings={"confirm": {**_CONFIRM, "checks": [_WEB]}},
    )


def assert_wholly_on(host, target):
    """Assert that a system has all of a host, and nothing is left to be done."""
    host.eventually(lambda: host.state(CONFIRM) in ("inactive", "failed"), "nobody confirms")
    systems = host.systems()
    assert systems.running == systems.profile == systems.boot_default == target.toplevel
    assert marks(host) == {"confirmed": target.toplevel}
    assert timers(host) == []


def run_upgrade(host):
    """Start the upgrade's unit as its timer would, and wait for its end; return its exit code."""
    return host.run("systemctl", "start", UPGRADE).rc


def answers_on(host, port):
    script = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}')"
    return host.run("python3", "-c", script).rc == 0


def test_a_switch_that_breaks_a_checked_service_is_undone_and_never_tried_again(
    site, new_host, upstream
):
    first, broken, mended = (
        site.build(with_web(version, port))
        for version, port in (("26.05.1", 8080), ("26.05.2", 8081), ("26.05.3", 8080))
    )
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    host.eventually(lambda: answers_on(host, 8080), "the service is there")
    assert_wholly_on(host, first)  # as it was found

    build = upstream.offer(broken)
    host.systemctl("start", "--no-block", UPGRADE)
    host.eventually(lambda: timers(host), "the dead-man's timer is set")
    host.eventually(lambda: marks(host).get("pending") == broken.toplevel, "it is pending")
    host.await_state(UPGRADE, "failed")

    assert_wholly_on(host, first)
    assert answers_on(host, 8080)
    told = summaries(host, UPGRADE)[-1]
    assert (told["outcome"], told["error.kind"], told["exit_code"]) == ("rolled-back",) * 2 + (1,)
    assert (told["running"], told["profile"], told["build_id"]) == (
        first.toplevel,
        first.toplevel,
        build,
    )
    assert [reason["name"] for reason in told["reasons"]] == ["check-failed"]
    assert "web" in told["reasons"][0]["reason"]
    past = history(host)
    row = past["runs"][-1]
    assert (row["outcome"], row["fault"], row["toplevel"], row["previous"]) == (
        "rolled-back",
        "broken",
        broken.toplevel,
        first.toplevel,
    )
    denial = past["denials"][0]
    assert (denial["toplevel"], denial["build_id"], denial["by"]) == (
        broken.toplevel,
        build,
        "agent",
    )
    # Not before the deadline, and not long after it.
    taken = seconds(host, "activation.finished", "rollback.finished")
    print(f"from activation to roll-back: {taken:.1f} s")  # noqa: T201 - for whoever asks
    assert _DEADLINE < taken < _DEADLINE + 10, taken

    assert run_upgrade(host) == 0  # held: no failure of the unit
    told = summaries(host, UPGRADE)[-1]
    assert (told["outcome"], told["exit_code"], told["reasons"][0]["name"]) == (
        "held",
        _HELD,
        "denied",
    )
    assert_wholly_on(host, first)

    upstream.offer(mended)
    assert run_upgrade(host) == 0
    assert_wholly_on(host, mended)
    told = summaries(host, UPGRADE)[-1]
    assert (told["outcome"], told["exit_code"], told["running"]) == (
        "confirmed",
        0,
        mended.toplevel,
    )
    assert summaries(host, CONFIRM)[-1]["outcome"] == "confirmed"
    assert history(host)["runs"][-1]["outcome"] == "confirmed"
    assert answers_on(host, 8080)
    taken = seconds(host, "activation.finished", "confirmation.confirmed")
    print(f"from activation to confirmation: {taken:.1f} s")  # noqa: T201
    assert 0 < taken < 10, taken


_CUTS = {
    "route": ("/usr/sbin/ip route delete default", "/usr/sbin/ip route add default via 10.77.0.1"),
    "cable": (
        "/usr/sbin/ip link set host0 down",
        "/bin/sh -c 'ip link set host0 up && ip route add default via 10.77.0.1'",
    ),
}


@pytest.mark.parametrize("what", [pytest.param("route", marks=pytest.mark.long), "cable"])
def test_a_switch_that_cuts_the_host_off_is_undone(site, new_host, upstream, what):
    cuts, mends = _CUTS[what]
    settings = {"confirm": _CONFIRM, "strategy": "store-path"}
    units = {"cut.service": oneshot(cuts, f"ExecStop={mends}")}
    first = site.build(system("26.05.1", settings=settings))
    cut_off = site.build(system("26.05.2", settings=settings, units=units, wants=[*units]))
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    upstream.offer(cut_off)

    assert run_upgrade(host) == 1

    assert_wholly_on(host, first)
    told = summaries(host, UPGRADE)[-1]
    assert (told["outcome"], told["reasons"][0]["name"]) == ("rolled-back", "cut-off"), told
    assert run_upgrade(host) == 0
    told = summaries(host, UPGRADE)[-1]
    assert told["reasons"][0]["name"] == "denied", "Hydra is reached again"


@pytest.mark.long
def test_an_outage_of_hydra_undoes_nothing(site, new_host, upstream):
    settings = {"confirm": _CONFIRM, "strategy": "store-path"}
    first, newer = (
        site.build(system(version, settings=settings)) for version in ("26.05.1", "26.05.2")
    )
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    upstream.offer(newer)
    gate = Gate(host)
    host.systemctl("start", "--no-block", UPGRADE)
    gate.await_activation()
    upstream.hydra.down()
    gate.open()
    host.eventually(lambda: host.state(UPGRADE) in ("inactive", "failed"), "the run has ended")

    told = summaries(host, UPGRADE)[-1]
    assert (told["outcome"], told["exit_code"]) == ("pending", _HELD), told
    assert told["reasons"][0]["name"] == "hydra-unreachable"
    runs = len(summaries(host, CONFIRM))
    host.eventually(lambda: len(summaries(host, CONFIRM)) > runs, "it is judged again")
    assert summaries(host, CONFIRM)[-1]["outcome"] == "pending"
    assert marks(host) == {"confirmed": first.toplevel, "pending": newer.toplevel}
    assert host.systems().running == host.systems().profile == newer.toplevel
    assert len(timers(host)) == 1

    upstream.hydra.up()
    host.eventually(lambda: "pending" not in marks(host), "it is decided")
    host.await_state(CONFIRM, "inactive")

    assert_wholly_on(host, newer)
    row = history(host)["runs"][-1]
    assert (row["outcome"], row["toplevel"]) == ("confirmed", newer.toplevel)
    assert not [told for told in events(host) if told["event"] == "rollback.started"]


_NAMES_THE_JOB = {"type": "unit", "unit": "backup.service", "timeout": "1s"}
_EVERY_SECOND = """\
[Timer]
OnActiveSec=200ms
OnUnitInactiveSec=500ms
AccuracySec=1ms
"""


def with_backup(version, start, **parameters):
    """Describe a system with a job, which its timer starts again and again."""
    units = {
        "backup.service": service(start, "Type=oneshot", unit=["StartLimitIntervalSec=0"]),
        "backup.timer": _EVERY_SECOND,
    }
    checks = parameters.pop("checks", [])
    return system(
        version,
        units=units,
        wants=["backup.timer", *parameters.pop("wants", [])],
        settings={"confirm": {**_CONFIRM, "checks": checks}},
        **parameters,
    )


@pytest.mark.long
def test_a_job_that_fails_when_its_timer_starts_it_is_not_the_upgrade_unless_it_is_named(
    site, new_host, upstream
):
    first = site.build(with_backup("26.05.1", "/bin/true"))
    fails = site.build(with_backup("26.05.2", "/bin/false"))
    named = site.build(with_backup("26.05.3", "/bin/sh -c 'exit 3'", checks=[_NAMES_THE_JOB]))
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own

    upstream.offer(fails)
    assert run_upgrade(host) == 0
    assert_wholly_on(host, fails)
    judged = [told for told in events(host) if told["event"] == "confirmation.judged"][-1]
    assert (judged["verdict"], [note["name"] for note in judged["notes"]]) == (
        "healthy",
        ["unit-excused"],
    )

    host.ok("systemctl", "stop", "backup.timer")  # it would have failed before the switch already
    host.ok("systemctl", "reset-failed", "backup.service")
    upstream.offer(named)
    assert run_upgrade(host) == 1
    assert_wholly_on(host, fails)
    reasons = summaries(host, UPGRADE)[-1]["reasons"]
    # Which of them depends on which agent has seen it first, and on whether the timer starts it just then.
    assert {reason["name"] for reason in reasons} & {"unit-failed", "units-failed", "check-failed"}
    assert all("backup.service" in reason["reason"] for reason in reasons), reasons


@pytest.mark.long
def test_a_build_brings_the_setting_that_its_own_confirmation_needs(site, new_host, upstream):
    breaks = {"units": {"wait-online.service": CANNOT_START}, "wants": ["wait-online.service"]}
    ignores = {**_CONFIRM, "ignore_units": ["wait-*.service"]}
    first = site.build(system("26.05.1", settings={"confirm": _CONFIRM}))
    broken = site.build(system("26.05.2", settings={"confirm": _CONFIRM}, **breaks))
    excused = site.build(system("26.05.3", settings={"confirm": ignores}, **breaks))
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own

    upstream.offer(broken)
    assert run_upgrade(host) == 1
    assert_wholly_on(host, first)

    upstream.offer(excused)
    assert run_upgrade(host) == 0
    assert_wholly_on(host, excused)
    assert host.state("wait-online.service") == "failed"


@pytest.mark.long
def test_a_host_keeps_its_specialisation_and_comes_back_to_it(site, new_host, upstream):
    quiet = {"specialisations": {"quiet": {"version": "26.05-quiet"}}}
    check = {"type": "command", "command": ["test", "-e", "/run/works"], "timeout": "1s"}
    settings = {"confirm": {**_CONFIRM, "checks": [check]}}
    breaks = {
        "units": {"breaks.service": oneshot("/bin/rm /run/works")},
        "wants": ["breaks.service"],
    }
    first, good = (
        site.build(system(version, settings=settings, **quiet))
        for version in ("26.05.1", "26.05.2")
    )
    broken = site.build(system("26.05.3", settings=settings, **quiet, **breaks))
    host = new_host(first)
    host.power_on()
    host.await_state(CONFIRM, "inactive")  # the boot's own
    host.ok("touch", "/run/works")
    host.ok(f"{first.toplevel}/specialisation/quiet/bin/switch-to-configuration", "test")

    def runs_quiet_of(target):
        special = host.ok("readlink", "-f", f"{target.toplevel}/specialisation/quiet").strip()
        systems = host.systems()
        return (systems.running, systems.profile) == (special, target.toplevel)

    upstream.offer(good)
    assert run_upgrade(host) == 0
    assert runs_quiet_of(good)
    upstream.offer(broken)
    assert run_upgrade(host) == 1
    assert runs_quiet_of(good)
