from __future__ import annotations

from dataclasses import replace

import pytest

from agent.application.ports import Outlook, Pending
from agent.application.status import Status
from agent.cli.render.status import for_person
from agent.domain.build import Build
from agent.domain.candidate import Candidate
from agent.domain.choose import AwaitReboot, Done, HeldCandidate, Hold, Reboot, Upgrade
from agent.domain.errors import HydraError, Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.gate import Judgement
from agent.domain.marks import Marks
from agent.domain.policy import Action
from agent.domain.recovery import Step
from agent.domain.systems import Systems
from agent.domain.target import HOME_MANAGER, NIXOS
from fakes.runs import an_arrival
from fakes.samples import JOB, NEW, OLD, OTHER

CANDIDATE = Candidate(
    job=JOB,
    build_id=7,
    toplevel=NEW,
    system="x86_64-linux",
    finished_at=None,
    eval_id=18,
    flake=LockedFlakeReference("github:o/r/abc"),
)


UPGRADE = Upgrade(CANDIDATE, Action.SWITCH)
NEWER = replace(CANDIDATE, build_id=8, toplevel=OTHER)


def hold(*reasons, candidate=CANDIDATE):
    return Hold((held(*reasons, candidate=candidate),))


def held(*reasons, candidate=CANDIDATE):
    judgements = [Judgement(name, is_open=False, reason=reason) for name, reason in reasons]
    return HeldCandidate(candidate, tuple(judgements))


def rows(status, target=NIXOS):
    """Return {name: text}; of a name that comes twice, both texts."""
    found = {}
    for line in for_person(status, "web-1", target).splitlines():
        name, _, text = line.partition("  ")
        found[name] = f"{found[name]}; {text.strip()}" if name in found else text.strip()
    return found


def test_all_that_is_known_is_told():
    told = rows(
        Status(
            systems=Systems(OLD, None, NEW),
            candidate=CANDIDATE,
            decision=UPGRADE,
            last_run=an_arrival(3, error_message="why", outcome="failed"),
            gates=[Judgement("health", is_open=True, reason="2 checks well")],
        )
    )
    assert told["host"] == "web-1"
    assert (told["running"], told["booted"], told["profile"]) == (OLD, "unknown", NEW)
    assert told["candidate"] == f"{NEW} (build 7 of p:j:h)"
    assert told["flake"] == "github:o/r/abc (eval 18)"
    assert told["gate health"] == "open: 2 checks well"
    assert told["last run"] == f"2026-11-21T07:45:00+00:00 failed {NEW}: why"
    assert told["a run would"] == "upgrade"


def test_of_a_home_nothing_is_told_of_boots():
    status = Status(systems=Systems(OLD, None, NEW), decision=Done())
    told, of_host = rows(status, HOME_MANAGER), rows(status)
    assert told["home"] == of_host["host"] == "web-1"
    assert (told["running"], told["profile"]) == (OLD, NEW)
    assert of_host.keys() - told.keys() == {"host", "booted", "loader fallback"}


def test_the_marks_that_are_set_are_told_and_what_comes_first():
    status = Status(marks=Marks(confirmed=OLD, pending=NEW, staged=OTHER), recovery=Step.CONFIRM)
    told = rows(status)
    assert (told["confirmed"], told["pending"], told["staged"]) == (OLD, NEW, OTHER)
    assert told["recovery"] == "begins with: confirm"


def test_a_mark_that_is_not_set_and_a_recovery_of_nothing_are_not_told():
    told = rows(Status(marks=Marks(confirmed=OLD)))
    assert {"pending", "staged", "recovery"}.isdisjoint(told)


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [
        (Done(), "do nothing"),
        (UPGRADE, "upgrade"),
        (AwaitReboot("kernel differs"), "wait for a reboot: kernel differs"),
        (Reboot(CANDIDATE, "kernel differs"), "reboot: kernel differs"),
        (hold(("a", "one"), ("b", "two")), "hold: one; two"),
    ],
)
def test_the_last_line_is_what_a_run_would_do(decision, verdict):
    status = Status(decision=decision)
    assert for_person(status, "web-1").splitlines()[-1].endswith(f"  {verdict}")


def test_a_gate_that_holds_is_named_in_the_verdict():
    gates = [
        Judgement("health", is_open=False, reason="a: refused"),
        Judgement("store-space", is_open=True, reason="room"),
    ]
    told = rows(Status(decision=hold(("health", "a: refused")), gates=gates))
    assert told["gate health"] == "HELD: a: refused"
    assert told["a run would"] == "hold: health"


def test_a_fault_is_the_verdict_and_the_rest_is_left_out():
    told = rows(Status(error=HydraError(Kind.HYDRA_REFUSED, "nobody answers")))
    assert set(told) == {"host", "a run would"}
    assert told["a run would"].startswith("fail: nobody answers")
    assert told["a run would"].endswith("[hydra-refused]")


def test_a_fault_that_passes_by_itself_is_a_hold():
    told = rows(Status(error=HydraError(Kind.BUILD_UNFINISHED, "being built again")))
    assert told["a run would"] == "hold: being built again [build-unfinished]"


def test_what_hydra_says_of_builds_to_come_is_told():
    told = rows(
        Status(
            decision=Done(),
            outlook=Outlook(
                newer_build_failed=True,
                gone_since_eval=21,
                is_jobset_disabled=True,
                evaluation_error="syntax error",
            ),
        )
    )
    for words in ("newest build failed", "gone since eval 21", "disabled", "fails: syntax error"):
        assert words in told["Hydra"]


def a_build(status, *, is_finished=True):
    return Build(12, "p", "j", "web-1", "x86_64-linux", is_finished, status, {}, (3,), None)


@pytest.mark.parametrize(
    ("newest", "words"),
    [
        (a_build(None, is_finished=False), "build 12 is newer: it is queued or being built"),
        (a_build(0, is_finished=False), "build 12 is newer: it is being built again"),
        (a_build(4), "build 12 is newer: it was cancelled"),
        (a_build(1), "build 12 is newer: it failed"),
    ],
)
def test_a_newer_build_is_told_with_how_it_stands(newest, words):
    status = Status(
        decision=Done(), outlook=Outlook(newer_build_failed=True), pending=Pending(newest=newest)
    )
    assert rows(status)["Hydra"] == words


def test_a_newer_good_build_is_told_with_what_it_waits_for():
    told = rows(Status(decision=Done(), pending=Pending(newest=a_build(0), waiting=12)))["Hydra"]
    assert told.startswith("build 12 is newer and good, and is taken once its eval is finished")
    assert "that is never" in told


def test_a_disabled_project_is_told():
    told = rows(Status(decision=Done(), pending=Pending(is_project_disabled=True)))["Hydra"]
    assert told == "the project is disabled: no new build will come"


def test_a_fault_that_keeps_a_gate_from_being_asked_is_named_instead_of_it():
    fault = NixError(Kind.PATH_NOT_CACHED, "not in a cache")
    judged = Judgement("store-space", is_open=False, reason=fault.message, fault=fault)
    told = rows(Status(decision=Hold((HeldCandidate(CANDIDATE, (judged,)),)), gates=[judged]))
    assert told["path-not-cached"] == "HELD: not in a cache"
    assert told["a run would"] == "hold: path-not-cached"


def test_a_newer_build_that_is_held_is_named_with_why():
    newer = held(("denied", "it broke sshd"), ("suspect", "failed here"), candidate=NEWER)
    told = rows(
        Status(candidate=CANDIDATE, decision=Upgrade(CANDIDATE, Action.SWITCH, newer=(newer,)))
    )
    assert told["held"] == "build 8: it broke sshd; failed here"
    assert told["candidate"] == f"{NEW} (build 7 of p:j:h)"
    assert told["a run would"] == "upgrade"


def test_of_several_builds_that_are_held_the_older_ones_are_named_too():
    both = (held(("denied", "no"), candidate=NEWER), held(("upgrade-window", "closed")))
    told = rows(Status(candidate=NEWER, decision=Hold(both)))
    assert told["held"] == "build 7: closed"
    assert told["a run would"] == "hold: no; build 7: closed"


def test_an_unknown_outlook_says_nothing():
    assert "Hydra" not in rows(Status(decision=Done(), outlook=Outlook()))


def test_foreign_text_neither_breaks_a_line_nor_moves_the_cursor():
    outlook = Outlook(evaluation_error="a\x1b[2J\nb")
    text = for_person(Status(decision=Done(), outlook=outlook), "web-1")
    assert text.splitlines()[2].endswith("evaluation fails: a�[2J b")
