"""The dead-man and the confirmation at the same instant: exactly one of them wins."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nspawn.systems import CONFIRM, SETTINGS, confirm_unit, merged, system, to_toml

_ROUNDS = 100
_FEW = 5
"""The share of the rounds in which one may have ended before the other was there."""
_SETTINGS = {
    "strategy": "store-path",
    "confirm": {"settle": "0.01s", "deadline": "0.5s", "hydra": False},
}
_SCRIPT = "/usr/local/lib/rivals.py"


def described(version):
    """Describe a system with an agent that cannot start, so that the dead-man has to roll back."""
    return system(
        version,
        agent=False,
        units={CONFIRM: confirm_unit("/nonexistent")},
        agentConfig=to_toml(merged(SETTINGS, _SETTINGS)),
    )


# Of the mark alone, the test of its adapter has a hundred rounds each time.
@pytest.mark.long
def test_dead_man_and_confirmation_at_the_same_instant_never_both_win(
    site,
    new_host,
    upstream,  # noqa: ARG001 - the cache is there
):
    first, pending = (site.build(described(version)) for version in ("26.05.1", "26.05.2"))
    host = new_host(first)
    host.power_on()
    host.write(_SCRIPT, Path(__file__).with_name("dead_man_race_inside.py").read_text())
    host.ok("nix-store", "--realise", pending.toplevel)

    arguments = (str(_ROUNDS), first.toplevel, pending.toplevel)
    told = host.run("/opt/agent/bin/python", "-I", _SCRIPT, *arguments, timeout=300)

    rounds = [json.loads(line) for line in told.stdout.splitlines()]
    log = host.read("/var/log/rivals")
    assert (told.rc, len(rounds)) == (0, _ROUNDS), told
    ends = Counter(end_of(played, first.toplevel, pending.toplevel) for played in rounds)
    said = Counter(json.loads(line)["event"] for line in log.splitlines() if line[:1] == "{")
    print(ends, said["confirmation.decided_elsewhere"])  # noqa: T201 - shown if it fails
    # Each round has one winner, by its effects and by what was said.
    assert ends["confirmed"] == said["confirmation.confirmed"]
    assert ends["rolled-back"] == said["rollback.started"] == said["rollback.finished"]
    # And it was a race.
    met = sum(played["met"] for played in rounds)
    assert met >= _ROUNDS - _ROUNDS // _FEW, met
    assert ends["confirmed"] and ends["rolled-back"], ends  # noqa: PT018


def end_of(played, first, pending):
    """Return how a round has ended: one way, and wholly."""
    found = (played["marks"], played["running"], played["profile"])
    dead_man, confirm = played["codes"]
    if found == ({"confirmed": pending}, pending, pending):
        assert (dead_man, confirm) == (0, 0), played
        return "confirmed"
    assert found == ({"confirmed": first}, first, first), played
    assert dead_man == 1, played
    assert confirm in (0, 1, 75), played  # it came too late, has lost, or found the lock taken
    return "rolled-back"
