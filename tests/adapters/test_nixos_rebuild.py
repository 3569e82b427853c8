"""nixos-rebuild on a throw-away host: the stand-in keeps the real one's contract."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from agent.application import events
from agent.domain.activation import is_busy
from agent.domain.errors import HostError, Kind, NixError
from agent.domain.policy import Action
from agent.domain.switch_output import has_begun, has_script_failed, last_words
from agent.domain.systems import Systems
from built_systems import DOTTED, HOST
from fakes.nix import RememberedProgress
from nix_on_host import NixOnHost

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit


def build(rebuild, flake, host=HOST):
    return asyncio.run(rebuild.build(flake, host))


def fault_of(rebuild, flake, host=HOST) -> NixError:
    with pytest.raises(NixError) as caught:
        build(rebuild, flake, host)
    return caught.value


def activate(on: NixOnHost, action, host=HOST, **changes) -> ActivationExit:
    rebuild = on.nixos_rebuild(**changes)
    return asyncio.run(rebuild.activate_flake(action, on.flake(), host))


def arguments(on: NixOnHost) -> list[list[str]]:
    started = [fields["argv"] for event, fields in on.sink.said if event is events.PROGRAM_STARTED]
    return [argv for argv in started if argv[0] == "nixos-rebuild"]


@pytest.fixture
def fetched(nix_on_host, farm) -> NixOnHost:
    """The host, with all candidates in its store."""
    for path in (farm.second, farm.dotted, farm.new_init):
        asyncio.run(nix_on_host.nix().substitute(path, RememberedProgress()))
    return nix_on_host


# --- build


@pytest.mark.parametrize(("host", "wanted"), [(HOST, "second"), (DOTTED, "dotted")])
def test_a_build_gives_the_path_that_the_farm_built(fetched, farm, host, wanted):
    assert build(fetched.nixos_rebuild(), fetched.flake(), host) == getattr(farm, wanted)


def test_a_build_moves_nothing_and_leaves_nothing_behind(fetched):
    before = fetched.systems()

    build(fetched.nixos_rebuild(), fetched.flake())

    assert fetched.systems() == before
    assert list(fetched.host.paths.state_dir.iterdir()) == []


def test_what_a_killed_build_has_left_is_swept_and_nothing_else(fetched, tmp_path):
    state = fetched.host.paths.state_dir
    state.mkdir(exist_ok=True)
    (state / "nixos-rebuild-abc").mkdir()
    (state / "nixos-rebuild-abc/result").symlink_to(fetched.farm.second)
    (tmp_path / "kept").write_text("x")
    (state / "nixos-rebuild-link").symlink_to(tmp_path)
    (state / "journal.sqlite").write_text("x")

    fetched.nixos_rebuild().sweep()

    assert {path.name for path in state.iterdir()} == {"journal.sqlite", "nixos-rebuild-link"}
    assert (tmp_path / "kept").exists()
    fetched.nixos_rebuild(scratch=tmp_path / "nonesuch").sweep()


def test_what_is_not_in_the_store_is_fetched_and_not_built(nix_on_host, farm):
    assert build(nix_on_host.nixos_rebuild(), nix_on_host.flake()) == farm.second


def test_what_no_cache_has_is_not_built(nix_on_host, farm):
    before = nix_on_host.store_entries()

    fault = fault_of(nix_on_host.nixos_rebuild(), nix_on_host.flake(), "unpublished")

    assert fault.kind is Kind.BUILD_ERROR
    cached = {info.stem for info in farm.layout.cache.glob("*.narinfo")}
    assert {name[:32] for name in nix_on_host.store_entries() - before} <= cached


def test_what_no_cache_has_is_built_where_that_is_allowed(nix_on_host, farm):
    rebuild = nix_on_host.nixos_rebuild(local_builds=True)

    assert build(rebuild, nix_on_host.flake(), "unpublished") == farm.unpublished


def test_a_failed_build_is_told_with_its_last_words(nix_on_host):
    rebuild = nix_on_host.nixos_rebuild(local_builds=True)

    fault = fault_of(rebuild, nix_on_host.flake(), "fails-to-build")

    assert fault.kind is Kind.BUILD_ERROR
    assert "fails on purpose" in fault.message
    assert any("fails on purpose" in line for line in nix_on_host.lines())


def test_a_configuration_that_does_not_evaluate_fails_the_build(nix_on_host):
    fault = fault_of(nix_on_host.nixos_rebuild(), nix_on_host.flake(), "fails-to-evaluate")

    assert fault.kind is Kind.BUILD_ERROR
    assert "services.nonesuch" in fault.message


def test_a_stale_lock_file_fails_the_build(nix_on_host, farm):
    flake = nix_on_host.flake(farm.stale_revision)

    assert fault_of(nix_on_host.nixos_rebuild(), flake).kind is Kind.BUILD_ERROR


def test_a_nixos_rebuild_that_builds_something_else_is_seen(fetched, farm):
    fetched.host.inject("wrong-path", DOTTED)

    assert build(fetched.nixos_rebuild(), fetched.flake()) == farm.dotted


def test_a_result_outside_the_store_is_nonsense(fetched):
    rebuild = fetched.nixos_rebuild(store_dir="/nix/store")

    assert fault_of(rebuild, fetched.flake()).kind is Kind.NIX_NONSENSE


def test_a_build_without_a_result_is_nonsense(farm, throwaway_host, tmp_path):
    silent = with_program(farm, throwaway_host, tmp_path, "exit 0")

    assert fault_of(silent.nixos_rebuild(), silent.flake()).kind is Kind.NIX_NONSENSE


def test_a_build_past_its_deadline_is_ended(farm, throwaway_host, tmp_path):
    stuck = with_program(farm, throwaway_host, tmp_path, "exec sleep 1000")

    fault = fault_of(stuck.nixos_rebuild(build_deadline=0.2), stuck.flake())

    assert fault.kind is Kind.NIX_TIMEOUT


def test_a_machine_without_nixos_rebuild_says_so(farm, throwaway_host, tmp_path):
    bare = NixOnHost(farm, throwaway_host, {"PATH": str(tmp_path)})

    assert fault_of(bare.nixos_rebuild(), bare.flake()).kind is Kind.NIXOS_REBUILD_MISSING
    with pytest.raises(NixError) as caught:
        activate(bare, Action.SWITCH)
    assert caught.value.kind is Kind.NIXOS_REBUILD_MISSING


def test_a_scratch_directory_that_cannot_be_made_is_a_fault_of_the_state_directory(
    fetched, tmp_path
):
    (tmp_path / "file").touch()
    rebuild = fetched.nixos_rebuild(scratch=tmp_path / "file" / "scratch")

    with pytest.raises(HostError) as caught:
        asyncio.run(rebuild.build(fetched.flake(), HOST))
    assert caught.value.kind is Kind.STATE_UNUSABLE


def with_program(farm, host, directory, script, **environment) -> NixOnHost:
    """The host with another nixos-rebuild: a line of shell."""
    program = directory / "nixos-rebuild"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    path = f"{directory}:{os.environ['PATH']}"
    return NixOnHost(farm, host, {"PATH": path, **environment})


# --- options


def test_nothing_is_reexecuted_relocked_or_built(fetched):
    build(fetched.nixos_rebuild(), fetched.flake())
    activate(fetched, Action.TEST)

    for argv in arguments(fetched):
        assert {"--no-reexec", "--no-update-lock-file"} <= set(argv)
        assert argv[argv.index("--max-jobs") :][:4] == ["--max-jobs", "0", "--builders", ""]


def test_an_older_nixos_rebuild_is_asked_in_its_own_words_and_only_once(fetched, farm):
    fetched.host.inject("old-flags")
    rebuild = fetched.nixos_rebuild()

    assert build(rebuild, fetched.flake()) == farm.second
    ended = asyncio.run(rebuild.activate_flake(Action.SWITCH, fetched.flake(), HOST))

    assert ended.returncode == 0
    used = [
        [flag for flag in argv if flag in {"--no-reexec", "--fast"}] for argv in arguments(fetched)
    ]
    assert used == [["--no-reexec"], ["--fast"], ["--fast"]]


def test_the_shell_script_before_it_is_understood_too(farm, throwaway_host, tmp_path):
    script = """for argument; do case $argument in
        --no-reexec) echo "$0: unknown option \\`--no-reexec'" >&2; exit 1 ;;
        --fast) ln -s "$PATH_TO_LINK" result; exit 0 ;; esac; done"""
    old = with_program(farm, throwaway_host, tmp_path, script, PATH_TO_LINK=farm.second)

    assert build(old.nixos_rebuild(), old.flake()) == farm.second


def test_a_flag_that_nixos_rebuild_does_not_know_is_named(fetched):
    fault = fault_of(fetched.nixos_rebuild(flags=("--nonesuch",)), fetched.flake())

    assert fault.kind is Kind.NIXOS_REBUILD_OPTIONS
    assert "--nonesuch" in fault.message


def test_a_flag_that_nixos_rebuild_does_not_know_changes_nothing(fetched):
    before = fetched.systems()

    ended = activate(fetched, Action.SWITCH, flags=("--nonesuch",))

    assert ended.returncode == 2
    assert "unrecognized arguments: --nonesuch" in ended.tail
    assert fetched.systems() == before


def test_the_users_flags_are_passed_on(fetched, farm):
    flags = ("--option", "cores", "1", "--show-trace")

    assert build(fetched.nixos_rebuild(flags=flags), fetched.flake()) == farm.second
    assert set(flags) <= set(arguments(fetched)[-1])


def test_substituters_and_keys_of_the_settings_reach_nix(farm, throwaway_host, tmp_path):
    script = 'printf "%s\\n" "$NIX_CONFIG" >&2; exit 1'
    on = with_program(farm, throwaway_host, tmp_path, script, NIX_CONFIG="cores = 1")
    rebuild = on.nixos_rebuild(
        substituters=("https://a", "https://b"), trusted_public_keys=("k:1", "l:2")
    )

    fault_of(rebuild, on.flake())

    lines = [line for line in on.lines() if not line.startswith("extra-allowed-uris = ")]
    assert lines == [
        "cores = 1",
        "restrict-eval = true",
        "substitute = true",
        "substituters = https://a https://b",
        "trusted-public-keys = k:1 l:2",
    ]


# --- activation


@pytest.mark.parametrize(
    ("action", "moved"),
    [
        (Action.SWITCH, {"running", "profile"}),
        (Action.BOOT, {"profile"}),
        (Action.TEST, {"running"}),
        (Action.DRY_ACTIVATE, set()),
    ],
)
@pytest.mark.parametrize(
    "by_path",
    [
        pytest.param(False, id="flake"),
        # The contract has each of them each time: see test_nix_contract.py.
        pytest.param(True, id="store-path", marks=pytest.mark.long),
    ],
)
def test_each_action_moves_what_it_should(fetched, farm, action, moved, by_path):
    rebuild = fetched.nixos_rebuild()
    if by_path:
        ended = asyncio.run(rebuild.activate_store_path(action, farm.second))
    else:
        ended = asyncio.run(rebuild.activate_flake(action, fetched.flake(), HOST))

    assert (ended.returncode, ended.timed_out) == (0, False)
    wanted = {"running": farm.first, "booted": farm.first, "profile": farm.first}
    assert fetched.systems() == Systems(**(wanted | dict.fromkeys(moved, farm.second)))
    assert farm.second in fetched.lines()
    assert list(fetched.host.paths.state_dir.iterdir()) == []


def test_a_specialisation_runs_and_the_profile_is_its_system_s(fetched, farm):
    rebuild = fetched.nixos_rebuild()
    ended = asyncio.run(rebuild.activate_flake(Action.SWITCH, fetched.flake(), "special", "debug"))

    assert ended.returncode == 0
    running = os.path.realpath(f"{farm.special}/specialisation/debug")
    assert (fetched.systems().running, fetched.systems().profile) == (running, farm.special)


def test_a_specialisation_that_is_not_there_activates_nothing(fetched, farm):
    ended = asyncio.run(
        fetched.nixos_rebuild().activate_store_path(Action.TEST, farm.second, "debug")
    )

    assert (ended.returncode, fetched.systems().running) == (1, farm.first)
    assert "specialisation not found: debug" in ended.tail


@pytest.mark.parametrize(
    ("code", "is_running"), [(0, True), (1, False), (2, True), (4, True), (100, False)]
)
def test_the_exit_code_of_a_switch_is_passed_through_and_the_profile_has_moved(
    fetched, farm, code, is_running
):
    fetched.host.inject("stc-exit", str(code))

    ended = activate(fetched, Action.SWITCH)

    assert ended.returncode == code
    assert fetched.systems().running == (farm.second if is_running else farm.first)
    assert fetched.systems().profile == farm.second


@pytest.mark.parametrize("action", [Action.SWITCH, Action.TEST, Action.DRY_ACTIVATE])
def test_another_init_interface_ends_with_100(fetched, farm, action):
    ended = activate(fetched, action, "new-init")

    assert ended.returncode == 100
    assert fetched.systems().running == farm.first
    moved = fetched.systems().profile == farm.new_init
    assert moved is (action is Action.SWITCH)


def test_an_activation_script_that_fails_ends_with_2_and_carries_on(fetched, farm):
    fetched.host.inject("fail-activate")

    ended = activate(fetched, Action.SWITCH)

    assert ended.returncode == 2
    assert "Failed to run activate script" in ended.tail
    assert fetched.systems().running == farm.second


def test_failed_units_hide_a_failed_activation_script(fetched):
    fetched.host.inject("fail-activate")
    fetched.host.inject("stc-exit", "4")

    ended = activate(fetched, Action.SWITCH)

    assert ended.returncode == 4
    assert "Failed to run activate script" in ended.tail
    assert "units failed" in ended.tail


def test_a_boot_loader_that_fails_ends_with_1_after_the_profile_moved(fetched, farm):
    fetched.host.inject("fail-bootloader")

    ended = activate(fetched, Action.BOOT)

    assert ended.returncode == 1
    assert fetched.systems().profile == farm.second
    assert str((fetched.host.paths.boot / "default").readlink()) == farm.first


def test_an_activation_that_is_killed_is_seen(fetched, farm):
    fetched.host.inject("kill-self")

    ended = activate(fetched, Action.SWITCH)

    assert ended.returncode == 256 - signal.SIGKILL
    assert fetched.systems().running == farm.first


def test_what_kept_an_activation_from_beginning_is_reported_with_its_code(fetched, farm):
    fetched.host.inject("stc-exit", "1")
    ended = activate(fetched, Action.SWITCH)
    words = ended.tail.splitlines()[-3:-1]
    assert words == ["Pre-switch check 'injected' failed", "Pre-switch checks failed"]
    assert re.fullmatch(
        r"Command '\S+/bin/switch-to-configuration switch' returned non-zero exit status 1\.",
        ended.tail.splitlines()[-1],
    )
    lock = fetched.host.paths.root / "run/nixos/switch-to-configuration.lock"
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = activate(fetched, Action.TEST)
    assert is_busy(ended.returncode, ended.tail)
    assert ended.returncode == errno.EAGAIN
    (fetched.host.paths.root / "etc/NIXOS").unlink()
    ended = activate(fetched, Action.TEST)
    (fetched.host.paths.root / "etc/NIXOS").touch()
    assert (ended.returncode, fetched.systems().running) == (errno.ENOENT, farm.first)
    assert last_words(ended.tail) == "This is not a NixOS installation!"


def test_what_decides_about_an_activation_outlives_any_number_of_lines(
    farm, throwaway_host, tmp_path
):
    long = with_program(
        farm,
        throwaway_host,
        tmp_path,
        """
        echo 'activating the configuration...' >&2
        echo 'Failed to run activate script' >&2
        for i in $(seq 500); do echo "line $i" >&2; done
        exit 2
        """,
    )
    ended = activate(long, Action.SWITCH)
    assert (ended.returncode, has_begun(ended.tail)) == (2, True)
    assert has_script_failed(ended.tail)
    assert len(ended.tail.splitlines()) < 300
    assert long.lines()[-1] == "line 500"


def test_an_activation_past_its_deadline_is_ended(fetched, farm):
    fetched.host.inject("stc-sleep", "1000")

    ended = activate(fetched, Action.SWITCH, activate_deadline=1.0)

    assert ended.timed_out
    assert fetched.systems().running == farm.first


def test_a_flake_that_does_not_evaluate_activates_nothing(fetched):
    before = fetched.systems()

    ended = activate(fetched, Action.SWITCH, "fails-to-evaluate")

    assert ended.returncode == 1
    assert "services.nonesuch" in ended.tail
    assert fetched.systems() == before
