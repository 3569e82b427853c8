"""Evaluation by the real nix, on a throw-away host."""

from __future__ import annotations

import asyncio

import pytest

from agent.adapters.nix.commands import evaluation_flags
from agent.adapters.nix.source_faults import complaint
from agent.application import events
from agent.domain.errors import Kind, NixError
from built_systems import DOTTED, HOST
from nix_on_host import NixOnHost


def evaluate(nix, flake, host):
    return asyncio.run(nix.evaluate_toplevel(flake, host))


def fault_of(nix, flake, host) -> NixError:
    with pytest.raises(NixError) as caught:
        evaluate(nix, flake, host)
    return caught.value


@pytest.mark.parametrize(("host", "wanted"), [(HOST, "second"), (DOTTED, "dotted")])
def test_a_host_evaluates_to_the_path_that_the_farm_built(nix_on_host, farm, host, wanted):
    assert evaluate(nix_on_host.nix(), nix_on_host.flake(), host) == getattr(farm, wanted)


def test_an_evaluation_neither_builds_nor_fetches_anything(nix_on_host):
    before = nix_on_host.store_entries()

    evaluate(nix_on_host.nix(), nix_on_host.flake(), HOST)

    assert nix_on_host.store_entries() == before


def test_an_error_of_the_configuration_is_told_in_its_own_words(nix_on_host):
    fault = fault_of(nix_on_host.nix(), nix_on_host.flake(), "fails-to-evaluate")

    assert fault.kind is Kind.EVALUATION_FAILED
    assert fault.message.endswith(": The option `services.nonesuch' does not exist.")
    assert any("services.nonesuch" in line for line in nix_on_host.lines())


def test_a_host_that_the_flake_does_not_have_is_an_evaluation_failure(nix_on_host):
    fault = fault_of(nix_on_host.nix(), nix_on_host.flake(), "nonesuch")

    assert fault.kind is Kind.EVALUATION_FAILED
    assert "does not provide attribute" in fault.message


def test_a_stale_lock_file_is_refused_with_advice(nix_on_host, farm):
    fault = fault_of(nix_on_host.nix(), nix_on_host.flake(farm.stale_revision), HOST)

    assert fault.kind is Kind.EVALUATION_FAILED
    assert "flake.lock" in fault.hint


def test_an_input_that_is_gone_is_an_evaluation_failure(nix_on_host, farm):
    fault = fault_of(nix_on_host.nix(), nix_on_host.flake(farm.orphaned_revision), HOST)

    assert fault.kind is Kind.EVALUATION_FAILED
    assert "0000000000000000000000000000000000000000" in fault.message
    assert fault.hint == ""


def test_a_revision_that_is_gone_is_an_evaluation_failure(nix_on_host):
    fault = fault_of(nix_on_host.nix(), nix_on_host.flake("0123456789" * 4), HOST)

    assert fault.kind is Kind.EVALUATION_FAILED


def test_an_evaluation_that_would_have_to_build_fails(nix_on_host):
    before = nix_on_host.store_entries()

    fault = fault_of(nix_on_host.nix(), nix_on_host.flake(), "imports")

    assert fault.kind is Kind.EVALUATION_FAILED
    assert nix_on_host.store_entries() == before


def test_no_flag_of_the_user_lets_an_evaluation_build(nix_on_host):
    nix = nix_on_host.nix(flags=("--option", "max-jobs", "4"))

    assert fault_of(nix, nix_on_host.flake(), "imports").kind is Kind.EVALUATION_FAILED


def test_an_evaluation_may_build_where_local_builds_are_allowed(nix_on_host):
    nix = nix_on_host.nix(local_builds=True)

    assert evaluate(nix, nix_on_host.flake(), "imports").endswith("-nixos-system-imports-1")


def test_a_path_of_another_store_is_nonsense(nix_on_host):
    fault = fault_of(nix_on_host.nix(store_dir="/nix/store"), nix_on_host.flake(), HOST)

    assert fault.kind is Kind.NIX_NONSENSE


def test_a_machine_without_nix_says_so(farm, throwaway_host, tmp_path):
    bare = NixOnHost(farm, throwaway_host, {"PATH": str(tmp_path)})

    assert fault_of(bare.nix(), bare.flake(), HOST).kind is Kind.NIX_MISSING


def test_an_evaluation_past_its_deadline_is_ended(farm, throwaway_host, tmp_path):
    stuck = tmp_path / "nix"
    stuck.write_text("#!/bin/sh\nexec sleep 1000\n")
    stuck.chmod(0o755)
    path = f"{tmp_path}:{throwaway_host.environment()['PATH']}"
    slow = NixOnHost(farm, throwaway_host, {"PATH": path})

    assert fault_of(slow.nix(deadline=0.2), slow.flake(), HOST).kind is Kind.NIX_TIMEOUT


def test_the_users_flags_that_change_an_evaluation_are_passed_on(nix_on_host):
    nix = nix_on_host.nix(flags=("--impure", "--keep-going", "--option", "cores", "1"))

    asyncio.run(nix.evaluate_toplevel(nix_on_host.flake(), HOST))

    argv = nix_on_host.sink.fields_of(events.PROGRAM_STARTED)["argv"]
    assert "--impure" in argv
    assert "--no-update-lock-file" in argv
    assert "--keep-going" not in argv
    assert argv[argv.index("--option") :][:3] == ["--option", "cores", "1"]


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ((), ()),
        (("--impure",), ("--impure",)),
        (("-L", "--show-trace", "--fallback"), ("--show-trace",)),
        (("--option", "cores", "2", "-v"), ("--option", "cores", "2")),
        (("--max-jobs", "4", "--accept-flake-config"), ("--accept-flake-config",)),
    ],
)
def test_flags_that_do_not_change_an_evaluation_are_left_out(flags, chosen):
    assert evaluation_flags(flags) == chosen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it printed nothing"),
        ("warning: Git tree is dirty\nfatal: broken\n", "fatal: broken"),
        ("error: one\n(use '--show-trace' to show detailed location information)", "one"),
        ("error: one\nerror: two", "two"),
        (
            (
                "error:\n       … while calling the 'head' builtin\n         at /x.nix:1:2:\n"
                "            1| x\n\n       error: attribute 'y' missing\n       at /x.nix:3:4:\n"
                "            3| y\n"
            ),
            "attribute 'y' missing",
        ),
        (
            "error:\n       Failed assertions:\n       - swap is too small\n       - no root\n",
            "Failed assertions: - swap is too small - no root",
        ),
    ],
)
def test_of_an_error_its_own_words_are_told_and_not_its_trace(text, told):
    assert complaint(text) == told
