from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.candidate import NO_LONGER, OF_ONE_BUILD, Candidate, RefusedBuild
from agent.domain.choose import (
    AwaitReboot,
    Done,
    History,
    Hold,
    Observation,
    Option,
    Reboot,
    Upgrade,
    choose,
    held_builds,
)
from agent.domain.errors import ExitCode, HydraError, Kind, NixError
from agent.domain.gate import Judgement, Stage
from agent.domain.gates import asked_at, registered
from agent.domain.good_builds import MOST_KEPT, remember
from agent.domain.path_record import Denial, Standing, TakenBuild
from agent.domain.plan import Plan, plan
from agent.domain.policy import Action, RebootMode
from agent.domain.store_path import StorePath
from agent.domain.systems import BootArtifacts, Systems, reboot_need
from fakes.runs import NOW
from fakes.samples import JOB, NEW, OLD, OTHER, POLICY, SPECIAL

BLANK = Standing()
DENIED = Standing(denial=Denial(NEW, "it broke sshd", NOW, "agent"))
CANDIDATE = Candidate(JOB, 2, NEW, "x86_64-linux", None)


def seen(running=OLD, profile=OLD, booted=OLD, need=(), container=False):
    return Observation(Systems(running, booted, profile, is_container=container), need)


def policy(action=Action.SWITCH, mode=RebootMode.NEVER):
    return replace(POLICY, action=action, reboot_mode=mode)


def option(history=History(), standing=BLANK, judgements=(), candidate=CANDIDATE):  # noqa: B008
    return Option(
        candidate, frozenset({candidate.toplevel, SPECIAL}), history, standing, judgements
    )


def decide(facts, history, wanted, standing=BLANK, gates=()):
    return choose([option(history, standing)], facts, wanted, NOW, gates)


@pytest.mark.parametrize("action", list(Action))
def test_a_host_on_another_system_is_upgraded(action):
    assert decide(seen(), History(), policy(action)).name == "upgrade"


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
    assert decide(seen(running=NEW, profile=NEW), failed, policy(action)).name == "upgrade"


def test_a_profile_that_moved_without_activation_is_not_done():
    assert decide(seen(profile=NEW), History(), policy(Action.SWITCH)).name == "upgrade"


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
    assert decide(seen(), rebooted, policy(Action.TEST)).name == "upgrade"


@pytest.mark.parametrize("profile", [NEW, OTHER])
def test_a_host_that_came_up_with_it_and_was_changed_since_is_upgraded_again(profile):
    rebooted = History(is_staged=True, reboot_asked_in="an earlier boot")
    there = seen(running=OTHER, profile=profile, booted=NEW)
    assert decide(there, rebooted, policy(mode=RebootMode.WHEN_NEEDED)).name == "upgrade"


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
    assert decide(there, history, policy(action)).name == "upgrade"


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
    assert decide(seen(), History(), policy(), DENIED).name == "upgrade"


CLOSED = tuple(Judgement(gate, is_open=False, reason="no") for gate in registered())
OPEN = tuple(Judgement(gate, is_open=True, reason="") for gate in registered())
KERNEL = ("kernel",)
MAY_REBOOT = policy(mode=RebootMode.WHEN_NEEDED)


@pytest.mark.parametrize(
    ("facts", "wanted", "name", "gates"),
    [
        (seen(), policy(), "upgrade", list(registered())),
        (
            seen(NEW, NEW, need=KERNEL),
            MAY_REBOOT,
            "reboot",
            [gate.name for gate in asked_at(Stage.BEFORE_REBOOT) if not gate.postpones],
        ),
        (seen(NEW, NEW), policy(), "done", []),
        (seen(NEW, NEW, need=KERNEL), policy(), "await-reboot", []),
    ],
)
def test_which_gates_bear_on_a_decision(facts, wanted, name, gates):
    assert choose([option()], facts, wanted, NOW).name == name
    assert choose([option(judgements=OPEN)], facts, wanted, NOW).name == name
    for about_host, about_candidate in ((CLOSED, ()), ((), CLOSED)):
        held = choose(
            [option(judgements=about_candidate)],
            replace(facts, judgements=about_host),
            wanted,
            NOW,
        )
        if gates:
            assert [said for said, _ in held.reasons] == gates
        else:
            assert held.name == name


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
        at_candidate = observation.systems.running in {NEW, SPECIAL}
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
    assert decide(there, History(is_staged=True), policy()).name == "upgrade"
    inhibited = replace(there, inhibitors=("dbus (a → b)",))
    assert isinstance(decide(inhibited, History(is_staged=True), policy()), AwaitReboot)
    assert decide(inhibited, History(), policy()).name == "upgrade"


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


# Several candidates

HOUR = timedelta(hours=1)


def offer(number, *, toplevel=None, finished_at=NOW, **facts):
    path = toplevel or StorePath(f"/nix/store/{number:032d}-nixos")
    candidate = Candidate(JOB, number, path, "x86_64-linux", finished_at)
    return Option(candidate, frozenset({path}), **facts)


def aged(wait):
    """Return a gate that holds each build for a time after it was finished."""

    def gate(option, facts, policy, now):
        del facts, policy
        opens = option.candidate.finished_at + wait
        return Judgement("suspect", now >= opens, "too young", opens_at=opens)

    return gate


def refused(number, until=None):
    path = offer(number).candidate.toplevel
    return offer(number, standing=Standing(denial=Denial(path, "broke", NOW, "eve", until=until)))


def test_the_newest_that_is_not_held_is_taken_and_the_newer_ones_are_named():
    decision = choose([refused(3), offer(2), offer(1)], seen(), policy(), NOW)
    assert (decision.name, decision.candidate.build_id) == ("upgrade", 2)
    assert decision.action is Action.SWITCH
    assert [(one.candidate.build_id, one.reasons[0][0]) for one in decision.newer] == [
        (3, "denied")
    ]


def test_without_any_candidate_nothing_is_done():
    assert choose([], seen(), policy(), NOW) == Hold(())
    assert Hold(()).opens_at is None


def test_a_hold_knows_when_the_first_of_them_may_be_taken():
    until = [NOW + 2 * HOUR, NOW + HOUR]
    held = choose([refused(3, until[0]), refused(2, until[1]), refused(1)], seen(), policy(), NOW)
    assert [one.opens_at for one in held.held] == [*until, None]
    assert held.opens_at == NOW + HOUR
    assert [name for name, _ in held.reasons] == ["denied"]


def test_several_gates_open_with_the_last_of_them():
    window = Judgement("upgrade-window", is_open=False, reason="closed", opens_at=NOW + 3 * HOUR)
    facts = replace(seen(), judgements=(window,))
    held = choose([refused(3, NOW + HOUR)], facts, policy(), NOW)
    assert held.opens_at == NOW + 3 * HOUR
    health = Judgement("health", is_open=False, reason="no reply")
    facts = replace(seen(), judgements=(window, health))
    assert choose([refused(3, NOW + HOUR)], facts, policy(), NOW).opens_at is None


def test_a_gate_that_was_asked_knows_better_than_the_facts():
    passed = Judgement("denied", is_open=True, reason="lifted")
    found = replace(refused(3), judgements=(passed,))
    assert choose([found], seen(), policy(), NOW).name == "upgrade"


def test_a_gate_that_a_person_ignores_does_not_hold():
    facts = replace(seen(), taken=TakenBuild(5, None, None))
    assert choose([offer(3)], facts, policy(), NOW).reasons[0][0] == "downgrade"
    ignoring = replace(facts, ignored=frozenset({"downgrade"}))
    assert choose([offer(3)], ignoring, policy(), NOW).name == "upgrade"


def test_what_hydra_says_against_a_build_holds_it():
    fault = HydraError(Kind.BUILD_MISSING, "deleted")
    held = choose([refused(3), offer(2, fault=fault)], seen(), policy(), NOW)
    assert held.reasons[1] == ("build-missing", "build 2: deleted")
    decision = choose([refused(3), offer(2, fault=fault), offer(1)], seen(), policy(), NOW)
    assert decision.candidate.build_id == 1


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (seen(NEW, NEW), policy()),
        (seen(NEW, NEW, need=KERNEL), policy()),
        (replace(seen(), taken=TakenBuild(2, NEW, NOW)), policy()),
    ],
)
def test_a_host_does_not_go_past_what_it_is_on_or_has_taken(facts, wanted):
    options = [refused(3), offer(2, toplevel=NEW), offer(1)]
    held = choose(options, facts, wanted, NOW)
    assert [one.candidate.build_id for one in held.held] == [3]


def test_a_reboot_that_did_not_help_is_not_passed_over():
    history = History(is_staged=True, reboot_asked_in="an earlier boot")
    options = [refused(3), offer(2, history=history), offer(1)]
    assert [one.candidate.build_id for one in choose(options, seen(), policy(), NOW).held] == [3]


def test_a_staged_build_is_rebooted_into_while_a_newer_one_waits():
    facts = replace(seen(NEW, NEW, need=KERNEL), taken=TakenBuild(2, NEW, NOW))
    options = [refused(3), offer(2, toplevel=NEW), offer(1)]
    decision = choose(options, facts, MAY_REBOOT, NOW)
    assert (decision.name, decision.candidate.build_id) == ("reboot", 2)
    assert [one.candidate.build_id for one in decision.newer] == [3]
    closed = replace(facts, judgements=(Judgement("health", is_open=False, reason="no"),))
    assert [one.candidate.build_id for one in choose(options, closed, MAY_REBOOT, NOW).held] == [
        3, 2
    ]  # fmt: skip


numbers = st.lists(st.integers(1, 6), unique=True, max_size=5).map(
    lambda found: sorted(found, reverse=True)
)
paths = st.sampled_from([OLD, NEW, SPECIAL, OTHER])
closed = st.lists(
    st.sampled_from(list(registered())).map(
        lambda gate: Judgement(gate, is_open=False, reason="no")
    ),
    max_size=2,
).map(tuple)


LATE = HydraError(Kind.HYDRA_TIMEOUT, "late")
GONE = HydraError(Kind.BUILD_MISSING, "deleted")


@st.composite
def situations(draw):
    options = [
        offer(
            number,
            toplevel=draw(paths),
            history=draw(histories),
            standing=draw(standings),
            judgements=draw(closed),
            fault=draw(st.sampled_from([None, None, LATE, GONE])),
        )
        for number in draw(numbers)
    ]
    taken = draw(st.none() | st.integers(0, 6))
    facts = replace(
        draw(everything),
        taken=None if taken is None else TakenBuild(taken, None, None),
        judgements=draw(closed),
        is_known=draw(st.booleans()),
    )
    return options, facts, draw(policies)


@given(situations())
def test_what_is_chosen_is_the_newest_that_would_be_chosen_alone(situation):
    options, facts, wanted = situation
    decision = choose(options, facts, wanted, NOW)
    alone = [choose([one], facts, wanted, NOW) for one in options]
    if isinstance(decision, Upgrade | Reboot):
        at = [one.candidate for one in options].index(decision.candidate)
        assert alone[at].name == decision.name
        assert all(isinstance(one, Hold) for one in alone[:at])
        assert [one.candidate for one in decision.newer] == [one.candidate for one in options[:at]]
        is_new = facts.taken is None or decision.candidate.build_id > facts.taken.build_id
        assert at == 0 or (facts.is_known and is_new) or isinstance(decision, Reboot)
        assert not any(one.fault is LATE for one in options[:at])
        assert options[at].standing.denial is None
    elif isinstance(decision, Done | AwaitReboot):
        assert alone[0] == decision
    else:
        assert [one.candidate for one in decision.held] == [
            one.candidate for one in options[: len(decision.held)]
        ]
        assert all(one.reasons for one in decision.held)


HELD = [
    {"standing": DENIED},
    {"fault": GONE},
    {"judgements": (Judgement("store-space", is_open=False, reason="full"),)},
    {
        "judgements": (
            Judgement("store-space", False, "no", NixError(Kind.PATH_NOT_CACHED, "no")),  # noqa: FBT003
        )
    },
]


@given(
    st.dictionaries(st.integers(1, 9), st.none() | st.sampled_from(HELD), min_size=1),
    st.none() | st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
def test_the_newest_that_may_be_taken_and_is_newer_than_what_is_here_is_always_taken(
    builds, taken, is_known, is_refused
):
    numbers = sorted(builds, reverse=True)
    options = [offer(number, **(builds[number] or {})) for number in numbers]
    if is_refused:
        options[0] = RefusedBuild(JOB, numbers[0], GONE)
    facts = replace(
        seen(), taken=None if taken is None else TakenBuild(taken, None, None), is_known=is_known
    )
    decision = choose(options, facts, policy(), NOW)
    measure = -1 if taken is None else taken
    may_be_taken = [
        number
        for at, number in enumerate(numbers)
        if builds[number] is None
        and ((at == 0 and number >= measure and not is_refused) or (at and number > measure))
        and (at == 0 or is_known)
    ]
    if may_be_taken:
        assert (decision.name, decision.candidate.build_id) == ("upgrade", may_be_taken[0])
    else:
        assert isinstance(decision, Hold)
        assert decision.held[0].candidate.build_id == numbers[0]


def test_what_is_in_doubt_ends_the_search():
    doubt = Judgement("store-space", False, "no", NixError(Kind.CACHE_UNREACHABLE, "no"))  # noqa: FBT003
    for unsure in (offer(2, fault=LATE), offer(2, judgements=(doubt,))):
        held = choose([refused(3), unsure, offer(1)], seen(), policy(), NOW)
        assert [one.candidate.build_id for one in held.held] == [3, 2]
        assert held.fault is None


def test_a_newest_build_that_can_be_no_candidate_is_named_with_why():
    nothing = RefusedBuild(JOB, 3, GONE, NEW)
    held = choose([nothing], seen(), policy(), NOW)
    assert (held.fault, held.reasons) == (GONE, (("build-missing", "deleted"),))
    assert held.held[0].candidate.toplevel == NEW
    decision = choose([nothing, offer(2)], seen(), policy(), NOW)
    assert (decision.candidate.build_id, held_builds(decision)) == (2, held.held)
    assert held_builds(Done()) == held_builds(None) == ()


def test_a_fault_of_an_older_build_is_not_that_of_the_newest():
    held = choose([refused(3), offer(2, fault=GONE)], seen(), policy(), NOW)
    assert (held.fault, Hold(()).fault) == (None, None)


def test_what_is_said_of_one_build_is_no_outage():
    assert not any(kind.exit_code is ExitCode.UNREACHABLE for kind in OF_ONE_BUILD)
    assert OF_ONE_BUILD > NO_LONGER
    assert not OF_ONE_BUILD & {Kind.NIX_MISSING, Kind.NIX_TIMEOUT, Kind.STORE_FULL, Kind.BUG}


# What is remembered


def test_what_the_host_is_on_is_remembered_although_hydra_has_gone_back():
    assert kept([9, 7, 5, 4], 6, taken=7) == [7, 6]
    refused_build = RefusedBuild(JOB, 6, GONE)
    found = remember(candidates(9, 6, 5, 4), refused_build, TakenBuild(4, None, None))
    assert [one.build_id for one in found] == [5, 4]


def candidates(*numbers):
    return [offer(number).candidate for number in numbers]


def kept(known, newest, taken=None):
    measure = None if taken is None else TakenBuild(taken, None, None)
    return [one.build_id for one in remember(candidates(*known), offer(newest).candidate, measure)]


def test_what_was_seen_before_is_remembered_the_newest_first():
    assert kept([], 3) == [3]
    assert kept([2, 1, 3], 5) == [5, 3, 2, 1]


def test_what_was_taken_or_is_good_no_longer_is_forgotten():
    assert kept([9, 7, 4, 3, 2], 7, taken=3) == [7, 4, 3]
    assert kept([3], 2, taken=5) == [2]


def test_builds_of_another_job_are_forgotten():
    other = replace(offer(1).candidate, job=replace(JOB, name="other"))
    assert remember([other], offer(2).candidate, None) == (offer(2).candidate,)


def test_of_too_many_the_one_whose_neighbours_are_closest_is_forgotten():
    far_apart = [1000 - 10 * place for place in range(MOST_KEPT)]
    assert kept(far_apart[1:], far_apart[0]) == far_apart
    crowded = sorted([*far_apart, far_apart[6] + 1], reverse=True)
    assert kept(crowded[1:], crowded[0]) == [one for one in crowded if one != far_apart[6] + 1]


@given(st.sets(st.integers(1, 500), min_size=2, max_size=80))
def test_few_are_remembered_the_newest_and_the_oldest_among_them(seen_good):
    numbers = sorted(seen_good, reverse=True)
    found = kept(numbers[1:], numbers[0])
    assert len(found) == min(len(numbers), MOST_KEPT)
    assert (found[0], found[-1]) == (numbers[0], numbers[-1])
    assert found == sorted(found, reverse=True)


@given(between=st.integers(1, 60), wait=st.integers(0, 600), poll=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_a_stream_of_new_builds_starves_no_host_that_waits_longer_than_they_take(
    between, wait, poll
):
    minute = timedelta(minutes=1)
    known, taken, age = (), None, timedelta(0)
    for at in range(0, 3 * wait + 10 * between + 10 * poll, poll):
        newest = offer(at // between + 1, finished_at=NOW + at // between * between * minute)
        known = remember(known, newest.candidate, taken)
        options = [
            offer(one.build_id, toplevel=one.toplevel, finished_at=one.finished_at) for one in known
        ]
        running = None if taken is None else taken.toplevel
        facts = replace(seen(running=running, profile=running), taken=taken)
        now = NOW + at * minute
        decision = choose(options, facts, policy(), now, [aged(wait * minute)])
        if isinstance(decision, Upgrade):
            found = decision.candidate
            assert taken is None or found.build_id > taken.build_id
            assert now >= found.finished_at + wait * minute
            taken = TakenBuild(found.build_id, found.toplevel, now)
            age = found.finished_at - NOW
        assert at * minute - age <= (2 * wait + 2 * between + 2 * poll) * minute
    assert taken is not None
