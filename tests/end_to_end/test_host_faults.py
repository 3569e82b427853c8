"""Faults of nix, the caches and the host itself, through the whole command line."""

from __future__ import annotations

import json

import pytest

from agent.adapters.process import run_now
from built_systems import DOTTED
from demo.hydra_changes import restart
from end_to_end.machine import assert_fault, assert_unchanged

# nix and nixos-rebuild


def test_no_nix_on_the_path(offered):
    told = assert_fault(offered.upgrade(PATH=str(offered.layout.root / "bin")), "nix-missing", 1)
    assert "nix" in told["error.message"]
    assert told["error.hint"]


def test_no_nixos_rebuild_on_the_path(offered):
    run = offered.upgrade(PATH=offered.only_tools("nix", "git", "sh"))
    told = assert_fault(run, "nixos-rebuild-missing", 1)
    assert "nixos-rebuild" in told["error.message"]


def test_a_configuration_that_does_not_evaluate(offered):
    offered.configure(host="fails-to-evaluate", hydra={"job": "web-1"})
    told = assert_fault(offered.upgrade(), "evaluation-failed", 1)
    assert "The option `services.nonesuch' does not exist" in told["error.message"]


def test_a_system_that_does_not_build_here(machine):
    host = "fails-to-build"
    machine.offer(toplevel_of(machine, host), job=host)
    machine.configure(host=host, fetch={"local_builds": True})
    told = assert_fault(machine.upgrade(), "build-error", 1)
    assert "nixos-rebuild build" in told["error.message"]


def toplevel_of(machine, host):
    """Evaluate a toplevel that the farm could not build."""
    attribute = f'nixosConfigurations."{host}".config.system.build.toplevel.outPath'
    flake = machine.farm.farm.reference(machine.farm.revision)
    nix = ("nix", "--extra-experimental-features", "nix-command flakes")
    return run_now((*nix, "eval", "--raw", f"{flake}#{attribute}"), env=machine.full_environment())


def test_a_flake_that_evaluates_to_another_path_than_hydra_built(offered):
    offered.configure(host=DOTTED, hydra={"job": "web-1"})
    run = offered.upgrade()
    told = assert_fault(run, "path-mismatch", 1)
    assert offered.farm.second in told["error.message"]
    assert offered.farm.dotted in told["error.message"]
    assert run.named("fetch.started") == []


def test_a_nixos_rebuild_that_builds_another_path_than_hydra(offered):
    offered.host.inject("wrong-path", DOTTED)
    run = offered.upgrade()
    told = assert_fault(run, "path-mismatch", 1)
    assert "is built as" in told["error.message"]
    assert run.named("verify.passed") != []
    assert run.named("activation.started") == []


def test_a_nixos_rebuild_that_does_not_know_an_option(offered):
    offered.configure(flags=["--nonesuch"])
    told = assert_fault(offered.upgrade(), "nixos-rebuild-options", 1)
    assert "--nonesuch" in told["error.message"]


def test_a_system_of_another_host_is_refused_without_an_evaluation(machine):
    machine.offer(machine.farm.dotted)
    machine.configure(strategy="store-path")
    told = assert_fault(machine.upgrade(), "host-mismatch", 1)
    assert DOTTED in told["error.message"]


# The caches


def test_a_path_that_is_not_in_the_cache_yet(machine):
    machine.offer(machine.farm.unpublished, job="unpublished")
    machine.configure(host="unpublished")
    told = assert_fault(machine.upgrade(), "path-not-cached", 75)
    assert machine.farm.unpublished in told["error.message"]


@pytest.mark.long
def test_a_part_of_the_closure_that_is_not_in_the_cache_yet(offered):
    part = next(entry for entry in closure(offered) if "-system-path" in entry)
    cache = offered.hydra.serve_cache(offered.layout.cache)
    cache.missing.add(part[:32])
    assert_fault(offered.upgrade(), "path-not-cached", 75)
    cache.missing.clear()
    assert offered.upgrade().outcome == (0, "confirmed")


def closure(machine):
    """The base names of the second system's references, as the cache has them."""
    hash_part = machine.farm.second.rpartition("/")[2][:32]
    narinfo = (machine.layout.cache / f"{hash_part}.narinfo").read_text()
    line = next(line for line in narinfo.splitlines() if line.startswith("References:"))
    return line.split()[1:]


def test_a_path_that_no_trusted_key_has_signed(offered):
    other = "other-1:" + offered.farm.farm.public_key.partition(":")[2]
    offered.configure(fetch={"trusted_public_keys": [other]})
    told = assert_fault(offered.upgrade(), "signature-untrusted", 1)
    assert "trusted_public_keys" in told["error.hint"]


def test_a_cache_that_cannot_be_reached(offered):
    offered.configure(fetch={"substituters": ["http://127.0.0.1:9"]})
    told = assert_fault(offered.upgrade(), "cache-unreachable", 69)
    assert "127.0.0.1:9" in told["error.message"]


def test_a_nar_that_the_cache_has_lost(offered):
    narinfo = (
        offered.layout.cache / f"{offered.farm.second.rpartition('/')[2][:32]}.narinfo"
    ).read_text()
    nar = next(line for line in narinfo.splitlines() if line.startswith("URL:")).split()[1]
    offered.hydra.serve_cache(offered.layout.cache).missing.add(nar.removeprefix("nar/"))
    assert_fault(offered.upgrade(), "fetch-failed", 1)


# Gates


def held_by(run, gate):
    """Assert that exactly one gate held a run, which told so and changed nothing."""
    assert_unchanged(run)
    assert run.outcome == (75, "held")
    assert run.summary["decision"] == "hold"
    (told,) = run.named("gate.held")
    assert told["gate"] == gate
    assert run.summary["reasons"] == [{"name": gate, "reason": told["reason"]}]
    assert [event for event in run.events if event["level"] == "error"] == []
    return told["reason"]


def test_too_little_room_in_the_store_holds(offered):
    offered.configure(disk={"store_reserve": "1000TiB"})
    reason = held_by(offered.upgrade(), "store-space")
    assert "disk.store_reserve" in reason


def test_too_little_room_on_the_boot_partition_holds(offered):
    offered.configure(disk={"boot_reserve": "1000TiB"})
    reason = held_by(offered.upgrade(), "boot-space")
    assert "disk.boot_reserve" in reason


def test_a_failed_check_holds(offered):
    check = {"type": "http", "name": "neighbour", "url": "http://127.0.0.1:9/"}
    offered.configure(health={"checks": [check]})
    assert "neighbour" in held_by(offered.upgrade(), "health")


@pytest.mark.long
def test_an_older_build_than_the_one_here_is_held_as_a_downgrade(offered):
    assert offered.upgrade().outcome == (0, "confirmed")
    restart(offered.world, 2)
    reason = held_by(offered.upgrade(), "downgrade")
    assert "build 1 is older than build 2" in reason
    assert offered.look().running == offered.farm.second
    offered.world.finish(2)
    assert offered.upgrade().outcome == (0, "nothing-to-do")


def test_gates_that_hold_again_and_again_make_one_row(offered):
    offered.configure(disk={"boot_reserve": "1000TiB"})
    for _ in range(3):
        held_by(offered.upgrade(), "boot-space")
    (row,) = offered.rows()
    assert (row["outcome"], row["repeats"]) == ("held", 2)
    assert [name for name, _ in json.loads(row["reasons"])] == ["boot-space"]


# The host's own files


@pytest.mark.parametrize(
    "link", ["current_system", pytest.param("profile", marks=pytest.mark.long)]
)
def test_a_link_that_leads_in_a_circle(offered, link):
    path = getattr(offered.layout, link)
    path.unlink()
    path.symlink_to(path)
    told = assert_fault(offered.upgrade(), "host-unreadable", 1)
    assert str(path) in told["error.message"]
