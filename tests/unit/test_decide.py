from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.candidate import Candidate
from agent.domain.decide import (
    AwaitReboot,
    Done,
    History,
    Hold,
    Observation,
    Plan,
    Reboot,
    Upgrade,
    held_by,
    plan,
)
from agent.domain.decide import decide as decide_by
from agent.domain.gate import Judgement, Stage
from agent.domain.gates import asked_at, registered
from agent.domain.path_record import Denial, Standing
from agent.domain.policy import Action, RebootMode
from agent.domain.systems import BootArtifacts, Systems, reboot_need
from fakes.runs import NOW
from fakes.samples import JOB, NEW, OLD, OTHER, POLICY, SPECIAL

BLANK = Standing()
DENIED = Standing(denial=Denial(NEW, "it broke sshd", NOW, "agent"))


def seen(running=OLD, profile=OLD, booted=OLD, need=(), container=False):
    return Observation(
        candidate=Candidate(JOB, 2, NEW, "x86_64-linux", None),
        systems=Systems(running, booted, profile, is_container=container),
        equivalents=frozenset({NEW, SPECIAL}),
        need=need,
    )


def policy(action=Action.SWITCH, mode=RebootMode.NEVER):
    return replace(POLICY, action=action, reboot_mode=mode)


def decide(observation, history, wanted, standing=BLANK):
    return decide_by(observation, history, wanted, standing)


@pytest.mark.parametrize("action", list(Action))
def test_a_host_on_another_system_is_upgraded(action):
    assert decide(seen(), History(), policy(action)) == Upgrade()


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("running", [NEW, SPECIAL])
def test_a_host_that_runs_the_candidate_is_done(action, running):
    assert (
        decide(seen(running=running, profile=NEW, booted=running), History(), policy(action))
        == Done()
    )


@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST])
def test_an_activation_that_failed_is_done_again_although_the_links_look_well(action):
    failed = History(has_failed=True)
    assert decide(seen(running=NEW, profile=NEW), failed, policy(action)) == Upgrade()


def test_a_profile_that_moved_without_activation_is_not_done():
    assert decide(seen(profile=NEW), History(), policy(Action.SWITCH)) == Upgrade()


def test_switch_waits_for_a_reboot_once_the_candidate_is_staged():
    decision = decide(seen(profile=NEW), History(is_staged=True), policy(Action.SWITCH))
    assert isinstance(decision, AwaitReboot)
    assert "running system is not" in decision.reason


def test_boot_is_done_with_the_profile_and_waits_for_a_reboot():
    assert isinstance(decide(seen(profile=NEW), History(), policy(Action.BOOT)), AwaitReboot)


def test_test_needs_no_profile_and_no_reboot():
    mode = RebootMode.NEVER
    decision = decide(seen(running=NEW, need=("kernel",)), History(), policy(Action.TEST, mode))
    assert decision == Done()


def test_dry_activate_is_done_once_a_path():
    tried = History(is_dry_activated=True)
    assert decide(seen(), tried, policy(Action.DRY_ACTIVATE)) == Done()


def test_a_switch_made_before_that_needs_a_reboot_gets_one_when_it_may():
    there = seen(running=NEW, profile=NEW, need=("kernel", "initrd"))
    assert isinstance(decide(there, History(), policy()), AwaitReboot)
    decision = decide(there, History(), policy(mode=RebootMode.WHEN_NEEDED))
    assert isinstance(decision, Reboot)
    assert "kernel, initrd differ" in decision.reason


def test_always_means_after_an_upgrade_and_not_on_every_run():
    there = seen(running=NEW, profile=NEW, booted=NEW)
    assert decide(there, History(), policy(mode=RebootMode.ALWAYS)) == Done()


def test_a_reboot_that_did_not_help_is_not_done_twice():
    there = seen(profile=NEW, need=("kernel",))
    rebooted = History(is_staged=True, reboot_asked_in="an earlier boot")
    decision = decide(there, rebooted, policy(mode=RebootMode.WHEN_NEEDED))
    assert isinstance(decision, Hold)
    assert decision.reasons[0][0] == "reboot-ineffective"


@pytest.mark.parametrize("mode", list(RebootMode))
def test_a_host_that_came_up_with_another_system_is_not_rebooted_into_the_same_again(mode):
    rebooted = History(is_staged=True, reboot_asked_in="an earlier boot")
    decision = decide(seen(), rebooted, policy(mode=mode))
    assert isinstance(decision, Hold)
    assert decision.reasons[0][0] == "reboot-ineffective"
    assert decide(seen(), rebooted, policy(Action.TEST)) == Upgrade()


@pytest.mark.parametrize("profile", [NEW, OTHER])
def test_a_host_that_came_up_with_it_and_was_changed_since_is_upgraded_again(profile):
    rebooted = History(is_staged=True, reboot_asked_in="an earlier boot")
    there = seen(running=OTHER, profile=profile, booted=NEW)
    assert decide(there, rebooted, policy(mode=RebootMode.WHEN_NEEDED)) == Upgrade()


def test_a_reboot_that_never_happened_is_asked_for_again():
    there = seen(profile=NEW, need=("kernel",))
    asked = History(is_staged=True, reboot_asked_in=there.systems.boot_id)
    assert isinstance(decide(there, asked, policy(mode=RebootMode.WHEN_NEEDED)), Reboot)


@pytest.mark.parametrize("action", [Action.SWITCH, Action.BOOT, Action.TEST])
def test_without_verification_what_was_built_in_its_place_counts_as_the_candidate(action):
    there = seen(running=OTHER, profile=OTHER, booted=OTHER)
    history = History(activated_as=OTHER)
    unverified = replace(policy(action), verify=False)
    assert decide(there, history, unverified) == Done()
    assert decide(there, history, policy(action)) == Upgrade()


def test_a_container_never_reboots_itself():
    there = seen(running=NEW, profile=NEW, need=("kernel",), container=True)
    assert decide(there, History(), policy(mode=RebootMode.ALWAYS)) == Done()
    staged = seen(profile=NEW, container=True)
    waiting = decide(staged, History(), policy(Action.BOOT, RebootMode.ALWAYS))
    assert isinstance(waiting, AwaitReboot)


@pytest.mark.parametrize(
    ("observation", "action", "mode"),
    [
        (seen(running=NEW, profile=NEW), Action.SWITCH, RebootMode.NEVER),
        (seen(profile=NEW), Action.BOOT, RebootMode.NEVER),
        (seen(profile=NEW), Action.BOOT, RebootMode.WHEN_NEEDED),
    ],
)
def test_what_is_denied_is_never_completed(observation, action, mode):
    allowed = decide(observation, History(), policy(action, mode))
    assert isinstance(allowed, Done | AwaitReboot | Reboot)
    decision = decide(observation, History(), policy(action, mode), DENIED)
    assert isinstance(decision, Hold)
    ((name, reason),) = decision.reasons
    assert name == "denied"
    assert "it broke sshd" in reason


def test_an_upgrade_to_what_is_denied_is_left_to_the_gate():
    assert decide(seen(), History(), policy(), DENIED) == Upgrade()


CLOSED = [Judgement(gate, is_open=False, reason="no") for gate in registered()]


@pytest.mark.parametrize(
    ("decision", "gates"),
    [
        (Upgrade(), list(registered())),
        (
            Reboot("kernel"),
            [gate.name for gate in asked_at(Stage.BEFORE_REBOOT) if not gate.postpones],
        ),
        (Done(), []),
        (AwaitReboot("kernel"), []),
        (Hold(()), []),
    ],
)
def test_which_gates_bear_on_a_decision(decision, gates):
    assert [told.gate for told in held_by(decision, CLOSED)] == gates
    is_open = [Judgement(gate, is_open=True, reason="") for gate in registered()]
    assert held_by(decision, is_open) == ()


everything = st.builds(
    seen,
    running=st.sampled_from([None, OLD, NEW, SPECIAL, OTHER]),
    profile=st.sampled_from([None, OLD, NEW, OTHER]),
    booted=st.sampled_from([None, OLD, NEW, OTHER]),
    need=st.sampled_from([(), ("kernel",)]),
    container=st.booleans(),
)
boots = st.sampled_from([None, "", "an earlier boot"])
histories = st.builds(History, st.booleans(), st.booleans(), boots, st.booleans())
standings = st.sampled_from([BLANK, DENIED])
policies = st.builds(policy, st.sampled_from(Action), st.sampled_from(RebootMode))


@given(everything, histories, policies, standings)
def test_no_decision_reboots_where_it_may_not(observation, history, wanted, standing):
    decision = decide(observation, history, wanted, standing)
    if isinstance(decision, Reboot):
        assert wanted.reboot_mode is not RebootMode.NEVER
        assert wanted.action.moves_profile
        assert not observation.systems.is_container
        assert history.reboot_asked_in in (None, observation.systems.boot_id)
        assert observation.systems.profile == NEW
        assert standing.denial is None


@given(everything, histories, policies, standings)
def test_done_is_never_said_of_a_host_that_runs_something_else(
    observation, history, wanted, standing
):
    if decide(observation, history, wanted, standing) == Done():
        at_candidate = observation.systems.running in observation.equivalents
        assert standing.denial is None
        assert at_candidate or (wanted.action is Action.DRY_ACTIVATE and history.is_dry_activated)


@pytest.mark.parametrize(
    ("action", "mode", "need", "expected"),
    [
        (Action.SWITCH, RebootMode.NEVER, (), (Action.SWITCH, False)),
        (Action.SWITCH, RebootMode.NEVER, ("kernel",), (Action.SWITCH, False)),
        (Action.SWITCH, RebootMode.WHEN_NEEDED, (), (Action.SWITCH, False)),
        (Action.SWITCH, RebootMode.WHEN_NEEDED, ("kernel",), (Action.BOOT, True)),
        (Action.SWITCH, RebootMode.ALWAYS, (), (Action.BOOT, True)),
        (Action.BOOT, RebootMode.NEVER, ("kernel",), (Action.BOOT, False)),
        (Action.BOOT, RebootMode.WHEN_NEEDED, (), (Action.BOOT, True)),
        (Action.BOOT, RebootMode.ALWAYS, ("kernel",), (Action.BOOT, True)),
        (Action.TEST, RebootMode.ALWAYS, ("kernel",), (Action.TEST, False)),
        (Action.DRY_ACTIVATE, RebootMode.WHEN_NEEDED, ("kernel",), (Action.DRY_ACTIVATE, False)),
    ],
)
def test_how_an_upgrade_is_activated(action, mode, need, expected):
    chosen = plan(policy(action, mode), need, is_container=False)
    assert (chosen.action, chosen.reboots) == expected


@pytest.mark.parametrize(
    ("action", "mode", "need", "reason"),
    [
        (Action.SWITCH, RebootMode.WHEN_NEEDED, ("kernel", "initrd"), "kernel, initrd differ"),
        (Action.SWITCH, RebootMode.ALWAYS, ("kernel",), "kernel differ"),
        (Action.SWITCH, RebootMode.ALWAYS, (), "reboot.mode is 'always'"),
        (Action.BOOT, RebootMode.WHEN_NEEDED, (), "the running system changes only with a reboot"),
    ],
)
def test_why_an_upgrade_reboots_is_told(action, mode, need, reason):
    assert plan(policy(action, mode), need, is_container=False).reason == reason


@pytest.mark.parametrize(
    ("action", "mode", "is_container", "expected"),
    [
        (Action.SWITCH, RebootMode.NEVER, False, (Action.BOOT, False)),
        (Action.SWITCH, RebootMode.WHEN_NEEDED, False, (Action.BOOT, True)),
        (Action.SWITCH, RebootMode.ALWAYS, False, (Action.BOOT, True)),
        (Action.SWITCH, RebootMode.ALWAYS, True, (Action.BOOT, False)),
        (Action.BOOT, RebootMode.NEVER, False, (Action.BOOT, False)),
        (Action.BOOT, RebootMode.ALWAYS, True, (Action.BOOT, False)),
        (Action.TEST, RebootMode.ALWAYS, False, (Action.TEST, False)),
        (Action.DRY_ACTIVATE, RebootMode.NEVER, False, (Action.DRY_ACTIVATE, False)),
    ],
)
def test_a_switch_that_inhibitors_would_refuse_becomes_boot(action, mode, is_container, expected):
    chosen = plan(policy(action, mode), (), ("dbus (a → b)",), is_container=is_container)
    assert (chosen.action, chosen.reboots) == expected
    if action is Action.SWITCH:
        assert chosen.reason == "switch inhibitors differ: dbus (a → b)"


def test_what_was_staged_for_its_inhibitors_says_so_and_is_not_activated_again():
    there = replace(seen(profile=NEW), inhibitors=("dbus (a → b)",))
    decision = decide(there, History(is_staged=True), policy())
    assert isinstance(decision, AwaitReboot)
    assert decision.reason.startswith("switch inhibitors differ: dbus (a → b), between the running")
    in_container = replace(seen(profile=NEW, container=True), inhibitors=("dbus (a → b)",))
    decision = decide(in_container, History(is_staged=True), policy(mode=RebootMode.ALWAYS))
    assert isinstance(decision, AwaitReboot)


def test_what_was_booted_and_left_is_waited_for_where_only_a_boot_can_start_it():
    there = seen(profile=NEW, booted=NEW)
    assert decide(there, History(is_staged=True), policy()) == Upgrade()
    inhibited = replace(there, inhibitors=("dbus (a → b)",))
    assert isinstance(decide(inhibited, History(is_staged=True), policy()), AwaitReboot)
    assert decide(inhibited, History(), policy()) == Upgrade()


def test_a_reboot_that_is_needed_but_not_allowed_is_told():
    assert plan(policy(), ("kernel",), is_container=False).reason == "kernel differ"


@pytest.mark.parametrize(("action", "mode"), list(product(Action, RebootMode)))
def test_a_container_is_activated_as_asked_and_never_rebooted(action, mode):
    assert plan(policy(action, mode), ("kernel",), is_container=True) == Plan(
        action, reboots=False, reason=""
    )


BOOTED = BootArtifacts("/k1", "/i1", "/m1", "loglevel=4")


def test_the_reboot_need_names_what_differs():
    wanted = replace(BOOTED, kernel="/k2", kernel_params="loglevel=7")
    assert reboot_need(BOOTED, wanted) == ("kernel", "kernel-params")
    assert reboot_need(BOOTED, BOOTED) == ()


def test_no_need_is_shown_where_a_side_is_unknown():
    assert reboot_need(None, BOOTED) == ()
    assert reboot_need(BOOTED, None) == ()
