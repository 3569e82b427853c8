from __future__ import annotations

import pytest

from agent.domain.activation import ActivationResult, fault_of_activation, is_busy, judge_activation
from agent.domain.errors import ActivationError, Kind
from agent.domain.outcome import Outcome
from agent.domain.path_record import Fault
from agent.domain.policy import Action
from agent.domain.systems import Systems
from fakes.samples import NEW, OLD, OTHER, SPECIAL

FAILED = frozenset({"b.service", "a.service"})
LOADED = "Unit nixos-rebuild-switch-to-configuration.service was already loaded"
LOCKED = "error: Could not acquire lock"
SCRIPT = "activating the configuration...\nFailed to run activate script"
NOT_NIXOS = "This is not a NixOS installation!"
CHECK = "Pre-switch check 'blog is up' failed"
INHIBITED = "Pre-switch check 'switchInhibitors' failed"
INCOMPATIBLE = (
    "incompatible with the current configuration.  The new configuration\n"
    "won't take effect until you reboot the system.\n"
)
UNITS = "warning: the following units failed: a.service"
STATUS_4 = (
    "Command '['systemd-run', '/nix/store/x/bin/switch-to-configuration', 'switch']'"
    " returned non-zero exit status 4."
)
SHELL = "warning: error(s) occurred while switching to the new configuration"


def ended(action=Action.SWITCH, code=0, *, running=NEW, profile=NEW, tail="", **facts):
    return ActivationResult(
        action=action,
        toplevel=NEW,
        equivalents=frozenset({NEW, SPECIAL}),
        before=Systems(OLD, OLD, OLD),
        after=Systems(running, OLD, profile),
        returncode=code,
        tail=tail,
        **facts,
    )


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        (ended(), Outcome.PENDING),
        (ended(running=SPECIAL), Outcome.PENDING),
        (ended(Action.BOOT, running=OLD), Outcome.STAGED),
        (ended(Action.TEST, profile=OLD), Outcome.PENDING),
        (ended(Action.DRY_ACTIVATE, running=OLD, profile=OLD), Outcome.DRY_ACTIVATED),
        (ended(code=100, running=OLD), Outcome.STAGED),
        (ended(code=-15, timed_out=True), Outcome.PENDING),
        (ended(Action.BOOT, code=-15, running=OLD, timed_out=True), Outcome.STAGED),
        (ended(code=4, new_failures=frozenset()), Outcome.PENDING),
    ],
)
def test_what_was_reached_is_told(how, outcome):
    assert judge_activation(how) is outcome


@pytest.mark.parametrize(
    ("how", "kind", "told"),
    [
        (ended(code=1, running=OLD), Kind.ACTIVATION_FAILED, "running system is unchanged"),
        (ended(code=1, running=OLD), Kind.ACTIVATION_FAILED, "profile is the candidate"),
        (
            ended(
                code=1, running=OLD, is_home=True, tail="Existing file '/h/.a' would be clobbered"
            ),
            Kind.ACTIVATION_FAILED,
            "Existing file '/h/.a' would be clobbered); the current home is unchanged",
        ),
        (ended(code=2, tail=SCRIPT), Kind.ACTIVATION_SCRIPT_FAILED, "running system is the cand"),
        (ended(code=2), Kind.ACTIVATION_FAILED, "it aborted"),
        (ended(code=2, script_failed=True), Kind.ACTIVATION_SCRIPT_FAILED, "script failed"),
        (ended(code=4), Kind.UNITS_FAILED, "units failed"),
        (
            ended(code=4, tail="Failed to run activate script\nwarning: units failed: a.service"),
            Kind.UNITS_FAILED,
            "units and the activation script failed",
        ),
        (ended(code=4, tail="x\nwarning: a.service\n\n"), Kind.UNITS_FAILED, "warning: a.service"),
        (
            ended(code=2, running=OLD, profile=OLD, refused="--foo"),
            Kind.NIXOS_REBUILD_OPTIONS,
            "does not know --foo",
        ),
        (
            ended(code=4, tail="sshd[1]: unknown option -z"),
            Kind.UNITS_FAILED,
            "running system is the candidate",
        ),
        (ended(code=255, running=OLD), Kind.ACTIVATION_KILLED, "killed by a signal"),
        (ended(code=77, running=OLD), Kind.ACTIVATION_FAILED, "ended with 77"),
        (ended(code=-9, running=OTHER), Kind.ACTIVATION_KILLED, f"now {OTHER}"),
        (ended(code=137, running=None), Kind.ACTIVATION_KILLED, "running system is unknown"),
        (ended(code=137), Kind.ACTIVATION_KILLED, "signal 9"),
        (ended(code=247), Kind.ACTIVATION_KILLED, "signal 9"),
        (
            ended(code=-15, running=OLD, timed_out=True),
            Kind.ACTIVATION_TIMEOUT,
            "not finish in time",
        ),
        (ended(code=1, tail=LOADED, running=OLD), Kind.ACTIVATION_BUSY, "profile is the candidate"),
        (ended(code=1, tail=LOCKED, running=OLD), Kind.ACTIVATION_BUSY, "another activation was"),
        (ended(code=11, tail=LOCKED, running=OLD), Kind.ACTIVATION_BUSY, "another activation was"),
        (ended(code=11, tail=LOCKED), Kind.ACTIVATION_BUSY, "running system is the candidate"),
        (ended(code=11, running=OLD), Kind.ACTIVATION_FAILED, "ended with 11"),
        (ended(code=2, tail=LOCKED), Kind.ACTIVATION_FAILED, "ended with 2"),
        (
            ended(code=2, tail=NOT_NIXOS, running=OLD),
            Kind.HOST_NOT_NIXOS,
            "not recognise this host",
        ),
        (ended(code=1, tail=NOT_NIXOS, running=OLD), Kind.HOST_NOT_NIXOS, "profile is the cand"),
        (
            ended(code=1, tail=f"{CHECK}\nPre-switch checks failed", running=OLD),
            Kind.PRE_SWITCH_CHECK_FAILED,
            "the pre-switch check 'blog is up' refused it before anything was changed (last words: ",
        ),
        (
            ended(code=1, tail="Pre-switch checks failed", running=OLD),
            Kind.PRE_SWITCH_CHECK_FAILED,
            "a pre-switch check refused it",
        ),
        (ended(code=4, running=OLD, tail=CHECK), Kind.PRE_SWITCH_CHECK_FAILED, CHECK),
        (ended(code=100, running=OLD, tail=CHECK), Kind.PRE_SWITCH_CHECK_FAILED, CHECK),
        (
            ended(Action.BOOT, 4, running=OLD, tail=CHECK, new_failures=frozenset()),
            Kind.PRE_SWITCH_CHECK_FAILED,
            CHECK,
        ),
        (ended(code=1, running=OLD, tail=INHIBITED), Kind.SWITCH_INHIBITED, INHIBITED),
        (ended(code=1, tail=CHECK), Kind.ACTIVATION_FAILED, "running system is the candidate"),
        (
            ended(code=13, tail="Could not open lock", running=OLD),
            Kind.ACTIVATION_REFUSED,
            "could not even be started (last words: Could not open lock)",
        ),
        (
            ended(code=4, tail="Unable to list users with logind: x", new_failures=frozenset()),
            Kind.UNITS_FAILED,
            "units failed (last words: Unable to list users with logind: x)",
        ),
        (
            ended(code=1, tail=f"warning: the following units failed: a.service\n{SHELL}"),
            Kind.UNITS_FAILED,
            "ended with 4: units failed (last words: warning: the following units failed: a.",
        ),
        (ended(code=1, tail=f"{SCRIPT}\n{SHELL}"), Kind.ACTIVATION_SCRIPT_FAILED, "ended with 2"),
        (ended(code=4, new_failures=FAILED), Kind.UNITS_FAILED, "units failed: a.service, b.servi"),
        (ended(code=4, new_failures=None), Kind.UNITS_FAILED, "units failed;"),
        (ended(code=4, running=OLD, new_failures=frozenset()), Kind.UNITS_FAILED, "is unchanged"),
        (
            ended(code=2, tail=SCRIPT, new_failures=frozenset()),
            Kind.ACTIVATION_SCRIPT_FAILED,
            "script failed",
        ),
        (
            ended(code=4, new_failures=frozenset(), tail="Failed to run activate script"),
            Kind.UNITS_FAILED,
            "units and the activation script failed",
        ),
        (ended(code=100, profile=OLD), Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot"),
        (ended(Action.TEST, code=100), Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot"),
        (ended(Action.DRY_ACTIVATE, code=100), Kind.ACTIVATION_NEEDS_REBOOT, "only a reboot"),
        (ended(running=OLD), Kind.ACTIVATION_INEFFECTIVE, "reported success"),
        (ended(profile=OLD), Kind.ACTIVATION_INEFFECTIVE, "profile is unchanged"),
        (ended(Action.BOOT, profile=OLD), Kind.ACTIVATION_INEFFECTIVE, "profile is unchanged"),
        (ended(Action.TEST, running=OLD), Kind.ACTIVATION_INEFFECTIVE, "running system is unch"),
    ],
)
def test_what_was_not_reached_is_told_from_what_the_host_shows(how, kind, told):
    with pytest.raises(ActivationError) as caught:
        judge_activation(how)
    assert caught.value.kind is kind
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("how", "what"),
    [
        (ended(running=OLD, timed_out=True), "it did not finish in time"),
        (ended(running=OTHER), "another activation has taken its place"),
        (ended(is_half_done=True), "it was stopped half-way"),
        (ended(profile=OLD), "it reported success"),
        (ended(code=100, profile=OLD), "only a reboot can start this system"),
    ],
)
def test_the_error_says_what_has_happened(how, what):
    with pytest.raises(ActivationError) as caught:
        judge_activation(how)
    said = caught.value.message.partition(f"{how.action} to {NEW} ended with {how.code}: ")[2]
    assert said.partition("; the running system is ")[0] == what


@pytest.mark.parametrize(
    ("facts", "hint"),
    [
        ({"code": 2, "refused": "--store-path /nix/store/x"}, "NixOS 26.05 or newer"),
        ({"code": 1, "refused": "--foo"}, "is it in `flags`?"),
        ({"code": 2, "tail": NOT_NIXOS}, "touch /etc/NIXOS"),
        ({"code": 1}, ""),
    ],
)
def test_the_error_says_what_to_do_where_that_is_known(facts, hint):
    with pytest.raises(ActivationError) as caught:
        judge_activation(ended(running=OLD, profile=OLD, **facts))
    assert hint in caught.value.hint
    assert bool(caught.value.hint) is bool(hint)


@pytest.mark.parametrize("tail", [LOADED, LOCKED])
def test_an_activation_is_busy_only_if_it_was_refused_for_that(tail):
    assert is_busy(1, tail)
    assert not is_busy(4, tail)
    assert not is_busy(0, tail)
    assert not is_busy(1, "Failed to start a.service")
    assert not is_busy(1, f"activating the configuration...\n{tail}")


def test_a_lock_that_is_held_is_known_by_code_and_sentence_together():
    assert is_busy(11, "Could not acquire lock")
    assert not is_busy(11, "")
    assert not is_busy(11, "Nov 30 10:00:00 h apt[7]: Could not acquire lock")
    assert not is_busy(11, "Could not acquire lock on the database")
    assert not is_busy(11, LOADED)


def test_what_another_activation_has_brought_is_no_fault_of_the_candidate():
    assert judge_activation(ended(profile=OTHER)) is Outcome.PENDING
    assert judge_activation(ended(code=4, profile=OTHER, new_failures=frozenset())) is (
        Outcome.PENDING
    )
    for how in (
        ended(running=OTHER, profile=OTHER),
        ended(running=OTHER),
        ended(Action.TEST, running=OTHER, profile=OLD),
        ended(Action.BOOT, running=OLD, profile=OTHER),
        ended(code=-15, running=OTHER, profile=OTHER, timed_out=True),
    ):
        with pytest.raises(ActivationError, match="another activation has taken") as caught:
            judge_activation(how)
        assert caught.value.kind is Kind.ACTIVATION_BUSY


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        (ended(code=1, running=OLD, tail=f"{INCOMPATIBLE}\n{SHELL}"), Outcome.STAGED),
        (ended(code=1, tail=f"{UNITS}\n{SHELL}", new_failures=frozenset()), Outcome.PENDING),
        (ended(code=1, tail=f"{UNITS}\n{STATUS_4}", new_failures=frozenset()), Outcome.PENDING),
    ],
)
def test_an_older_nixos_rebuild_that_ends_with_1_is_read_for_what_it_means(how, outcome):
    assert judge_activation(how) is outcome


@pytest.mark.parametrize(
    "kind", [*(kind for kind in Kind if kind.startswith("activation-")), Kind.HOST_NOT_NIXOS]
)
def test_of_what_an_activation_can_suffer_only_a_failed_script_proves_the_system_broken(kind):
    is_broken = kind is Kind.ACTIVATION_SCRIPT_FAILED
    assert fault_of_activation(kind, ended()) is (Fault.BROKEN if is_broken else Fault.SUSPECT)


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (ended(code=4, new_failures=FAILED), Fault.BROKEN),
        (ended(code=4, tail="Failed to run activate script"), Fault.BROKEN),
        (ended(code=4, new_failures=None), Fault.SUSPECT),
        (ended(code=4, running=OLD, new_failures=frozenset()), Fault.SUSPECT),
    ],
)
def test_units_that_failed_prove_a_system_broken_only_where_it_is_known_which(how, fault):
    assert fault_of_activation(Kind.UNITS_FAILED, how) is fault


def test_a_file_in_the_way_of_a_home_has_advice():
    with pytest.raises(ActivationError) as caught:
        judge_activation(ended(code=1, running=OLD, is_home=True, tail="x would be clobbered by y"))
    assert "HOME_MANAGER_BACKUP_EXT" in caught.value.hint
