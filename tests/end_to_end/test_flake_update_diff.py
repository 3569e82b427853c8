"""`agent flake-update diff` with real nix and real git; its exit codes are those of the script that
it takes the place of."""

from __future__ import annotations

import shutil

import pytest

from end_to_end.flake_update_command import FlakeUpdateCommand
from fleet_checkout import FleetCheckout


def test_a_host_that_changes_is_reported_and_the_exit_code_is_0(fresh_site, monkeypatch, capsys):
    site, desk = fresh_site, FlakeUpdateCommand(fresh_site, monkeypatch, capsys)
    site.release(linux="6.2")
    told = desk("diff")
    assert told.code == 0
    assert "### web\n```\nlinux: 6.1 → 6.2\n```\n" in told.out
    assert "### db" not in told.out
    assert "minimal" not in told.out
    assert told.out.endswith("1 host is not changed.\n")
    assert "── Discovering hosts ──" in told.err
    assert "✓ web: changed, 1 package(s)" in told.err
    assert site.upstream() in (site.path / "flake.lock").read_text()
    assert site.checkout.git("status", "--porcelain") == "M flake.lock"

    # It is updated now: what is looked at is the same, and nothing is built again.
    builds = site.builds()
    assert desk("diff", "--skip-update").out == told.out
    assert site.builds() == builds
    assert builds.count("nixos-system-db") == 1


def test_a_lock_file_that_stays_is_2(desk, site):
    told = desk("diff")
    assert (told.code, told.out) == (2, "")
    assert site.checkout.git("status", "--porcelain") == ""
    assert desk("diff", "--json").json == {"inputs": [], "hosts": []}


def test_a_lock_file_that_changes_no_host_is_3(update_store, tmp_path, monkeypatch, capsys):
    site = FleetCheckout(update_store, tmp_path, names_revision=True)
    site.release(spare="2")
    told = FlakeUpdateCommand(site, monkeypatch, capsys)("diff")
    assert told.code == 3
    assert "2 hosts are not changed." in told.out


def test_a_host_that_fails_is_named_with_the_tail_of_its_log(desk, site):
    site.release(nginx="broken-3")
    told = desk("diff")
    assert told.code == 1
    assert "### web\n```\ndoes not build: " in told.out
    assert "cc: nginx-broken-3 is broken\n```" in told.out
    assert "✗ web: breaks" in told.err
    assert "      | cc: nginx-broken-3 is broken" in told.err


def test_a_host_that_fails_beside_one_that_changes_is_told_with_0(desk, site):
    site.release(nginx=None, postgres="18")
    told = desk("diff", "--json")
    assert told.code == 0
    db, web = told.json["hosts"]
    assert (db["verdict"], web["verdict"]) == ("changed", "breaks")
    assert web["after"]["error"]["stage"] == "evaluation"
    assert "nginx" in web["after"]["error"]["reason"]


def test_only_the_inputs_that_are_named_are_updated(desk, site):
    site.release(linux="6.2")
    assert desk("diff", "--input", "base").code == 0
    told = desk("diff", "--input", "nonesuch")
    assert told.code == 1
    assert told.err.endswith("(it has: base) [input-unknown]\n")
    told = desk("diff", "--input", "--x")
    assert told.code == 1
    assert "Try 'agent flake-update diff --help'" in told.err
    assert desk("diff", "--bogus").code == 1


def test_in_ci_the_output_folds_into_groups(desk, site, monkeypatch):
    monkeypatch.setenv("CI", "true")
    site.release(linux="6.2")
    told = desk("diff")
    assert told.err.startswith("::group::Discovering hosts\n")
    assert told.err.count("::group::") == told.err.count("::endgroup::") >= 4
    assert "::" not in told.out


def test_uncommitted_changes_are_part_of_both_sides(desk, site):
    fleet = site.path / "fleet.json"
    fleet.write_text(fleet.read_text().replace('"linux", "nginx"', '"linux"'))
    site.release(nginx="1.29")
    told = desk("diff")
    assert told.code == 3
    assert fleet.read_text().count("nginx") == 0


# Bad input


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda site: shutil.rmtree(site.path / ".git"), "repository-missing"),
        (lambda site: (site.path / "flake.nix").unlink(), "flake-missing"),
        (lambda site: site.checkout.git("rm", "-q", "flake.nix"), "flake-missing"),
        (
            lambda site: (site.path / "flake.nix").write_text("{ outputs = _: { }; }"),
            "hosts-missing",
        ),
        (lambda site: (site.path / "fleet.json").write_text("{}"), "hosts-missing"),
        (lambda site: (site.path / "flake.nix").write_text("{ nonsense"), "evaluation-failed"),
        (lambda site: site.base.rename(site.base.with_name("moved")), "input-unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_updated_has_a_name_and_the_exit_code_is_1(desk, site, spoil, kind):
    lock = (site.path / "flake.lock").read_text()
    site.release(linux="6.2")
    spoil(site)
    told = desk("diff")
    assert (told.code, told.out) == (1, "")
    assert told.err.rstrip().endswith(f"[{kind}]")
    assert (site.path / "flake.lock").read_text() == lock


def test_a_program_gets_the_fault_as_json(desk, site):
    (site.path / "flake.nix").unlink()
    told = desk("diff", "--json")
    assert (told.code, told.json["error.kind"]) == (1, "flake-missing")
    assert told.json["error.message"] == "there is no flake.nix"


def test_a_flake_without_a_committed_lock_file_is_1(desk, site):
    site.checkout.git("rm", "--quiet", "--cached", "flake.lock")
    site.checkout.git("commit", "--quiet", "--message", "Forget it")
    assert desk("diff").err.rstrip().endswith("[lock-file-missing]")


def test_a_lock_file_with_a_merge_conflict_is_1(desk, site):
    site.checkout.commit({"flake.lock": "<<<<<<< HEAD\n"}, "Merge badly")
    assert desk("diff").err.rstrip().endswith("[lock-file-unreadable]")


def test_a_misspelt_host_is_1(desk):
    desk.set("flake_update", include=["wbe"])
    assert "no host of the flake is called 'wbe'" in desk("diff").err


def test_settings_that_cannot_be_used_are_1(desk):
    desk.set("flake_update", nonsense=1)
    told = desk("diff")
    assert told.code == 1
    assert "flake_update.nonsense" in told.err
