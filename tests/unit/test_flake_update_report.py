from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from agent.domain.flake_update.comparison import (
    Broken,
    Comparison,
    DiffExit,
    Effect,
    HostComparison,
    Stage,
    System,
)
from agent.domain.flake_update.lock_file import InputChange, LockedInput, parse_lock_file
from agent.domain.flake_update.package_change import PackageChange
from agent.domain.flake_update.report import (
    commit_message,
    fields_of,
    mark_of,
    markdown,
    proposal_body,
    summary,
    title_of,
)
from agent.domain.store_path import StorePath
from fakes.flake_update import lock_text

DAY = date(2026, 12, 19)
NEW = LockedInput("github:NixOS/nixpkgs", "b" * 40, datetime(2026, 12, 18, tzinfo=UTC))
OLD = LockedInput("github:NixOS/nixpkgs", "a" * 40, datetime(2026, 12, 11, tzinfo=UTC))
LOCK = parse_lock_file(lock_text("a" * 40))
INPUTS = (InputChange("nixpkgs", OLD, NEW),)
FAILS = Broken(Stage.BUILD, "linux failed", "cc: error\n```\nmake: *** [all]")


def system(name):
    return System(StorePath(f"/nix/store/{name}.drv"), StorePath(f"/nix/store/{name}"))


CHANGED = HostComparison(
    "web", system("1"), system("2"), (PackageChange("linux", ("6.1",), ("6.2",), 20480),)
)
SAME = HostComparison("db", system("1"), system("1"))
BREAKS = HostComparison("mail", system("1"), FAILS)
FIXED = HostComparison("dns", FAILS, system("2"))
STILL = HostComparison("lab", FAILS, Broken(Stage.EVALUATION, "no such option"))


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        (CHANGED, Effect.CHANGED),
        (SAME, Effect.UNCHANGED),
        (BREAKS, Effect.BREAKS),
        (FIXED, Effect.FIXED),
        (STILL, Effect.STILL_BROKEN),
    ],
)
def test_each_host_has_a_verdict(host, verdict):
    assert host.verdict is verdict


def test_a_system_is_the_same_by_its_toplevel_not_its_derivation():
    again = System(StorePath("/nix/store/other.drv"), StorePath("/nix/store/1"))
    assert HostComparison("db", system("1"), again).verdict is Effect.UNCHANGED


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        ((SAME,), DiffExit.HOSTS_UNCHANGED),
        ((CHANGED, SAME), DiffExit.CHANGED),
        ((CHANGED, BREAKS), DiffExit.CHANGED),
        ((FIXED,), DiffExit.CHANGED),
        ((BREAKS, SAME), DiffExit.FAILED),
        ((STILL, SAME), DiffExit.HOSTS_UNCHANGED),
        ((STILL, STILL), DiffExit.FAILED),
    ],
)
def test_the_exit_code_tells_what_becomes_of_the_hosts(hosts, code):
    assert Comparison(INPUTS, hosts).exit_code is code


def test_the_report_has_a_section_for_each_host_that_is_not_as_before():
    assert markdown(Comparison(INPUTS, (CHANGED, SAME, BREAKS, FIXED, STILL))) == (
        "Inputs:\n\n"
        "- `nixpkgs`: `github:NixOS/nixpkgs aaaaaaaaaaaa (2026-12-11) → bbbbbbbbbbbb (2026-12-18)`\n\n"
        "### web\n```\nlinux: 6.1 → 6.2, +20.0 KiB\nclosure: +20.0 KiB\n```\n\n"
        "### mail\n````\ndoes not build: linux failed\ncc: error\n```\nmake: *** [all]\n````\n\n"
        "### dns\n```\nis built again: it was broken before\n```\n\n"
        "### lab\n```\ndoes not evaluate, as before: no such option\n```\n\n"
        "1 host is not changed.\n"
    )


def test_hosts_of_which_the_same_is_to_be_said_share_a_section():
    web = [replace(CHANGED, host=f"web-{number}") for number in (1, 2, 3)]
    mail = replace(BREAKS, host="mail-2")
    found = Comparison(INPUTS, (web[0], BREAKS, web[1], SAME, FIXED, web[2], mail, STILL))
    report = markdown(found)
    headings = [line for line in report.splitlines() if line.startswith("### ")]
    assert headings == ["### web-1, web-2, web-3", "### mail, mail-2", "### dns", "### lab"]
    assert report.count("linux: 6.1 → 6.2") == report.count("does not build: linux failed") == 1
    message = commit_message(found, DAY, ("Updated-by: x",))
    assert "\n\nweb-1, web-2, web-3:\n  linux: 6.1 → 6.2, +20.0 KiB\n" in message
    assert message.endswith("\n\nbroken as before: lab\n\nUpdated-by: x\n")


def test_packages_that_tell_nothing_are_told_so():
    unknown = HostComparison("web", system("1"), system("2"))
    none = HostComparison("db", system("1"), system("2"), ())
    small = HostComparison("dns", system("1"), system("2"), (PackageChange("a", ("1",), ("2",)),))
    told = markdown(Comparison((), (unknown, none, small, SAME, SAME)))
    assert "### web\n```\nthe packages were not compared\n```" in told
    assert "### db\n```\nno package changes its version; files of the system differ\n```" in told
    assert "### dns\n```\na: 1 → 2\n```" in told
    assert told.endswith("2 hosts are not changed.\n")
    assert "Inputs" not in told


def test_foreign_names_cannot_add_lines_or_code():
    sly = InputChange("a`b\n# c", None, LockedInput("path:`/x`", ""))
    told = markdown(Comparison((sly,), (HostComparison("x\n# y", system("1"), system("2")),)))
    assert "- `a'b # c`: `path:'/x' none →`\n" in told
    assert "### x # y\n" in told


def test_an_input_that_moves_goes_or_comes_is_told():
    other = LockedInput("git:file:///x", "c" * 40)
    told = markdown(
        Comparison(
            (
                InputChange("a", OLD, other),
                InputChange("b", OLD, None),
                InputChange("c", None, other),
            )
        )
    )
    assert "`github:NixOS/nixpkgs → git:file:///x aaaaaaaaaaaa (2026-12-11) → cccccccccccc`" in told
    assert "`github:NixOS/nixpkgs aaaaaaaaaaaa (2026-12-11) → none`" in told
    assert "`git:file:///x none → cccccccccccc`" in told


def test_a_commit_tells_inputs_and_hosts_and_ends_with_its_trailers():
    assert commit_message(Comparison(INPUTS, (CHANGED, SAME)), DAY, ("Updated-by: x",)) == (
        "chore: update flake inputs 2026-12-19\n\n"
        "nixpkgs: github:NixOS/nixpkgs aaaaaaaaaaaa (2026-12-11) → bbbbbbbbbbbb (2026-12-18)\n\n"
        "web:\n  linux: 6.1 → 6.2, +20.0 KiB\n  closure: +20.0 KiB\n\n"
        "Updated-by: x\n"
    )


def test_a_proposal_tells_how_the_hosts_were_proven():
    told = proposal_body(Comparison(INPUTS, (CHANGED,)), "*proven*", LOCK)
    mark, _, text = told.partition("\n")
    assert mark == mark_of(LOCK) == mark_of(parse_lock_file(lock_text("a" * 40) + "\n"))
    assert mark != mark_of(parse_lock_file(lock_text("b" * 40)))
    assert re.fullmatch("<!-- flake.lock [0-9a-f]{64} -->", mark)
    assert text.startswith("## Automated flake.lock update\n\nPackage changes per host:\n\nInputs:")
    assert told.endswith("```\n\n---\n*proven*\n")
    assert title_of(DAY) == "chore: update flake inputs 2026-12-19"


def test_a_program_gets_everything_in_jsons_types():
    told = json.loads(json.dumps(fields_of(Comparison(INPUTS, (CHANGED, FIXED)))))
    assert told["inputs"] == [
        {
            "name": "nixpkgs",
            "before": {
                "source": "github:NixOS/nixpkgs",
                "revision": "a" * 40,
                "modified_at": "2026-12-11T00:00:00+00:00",
            },
            "after": {
                "source": "github:NixOS/nixpkgs",
                "revision": "b" * 40,
                "modified_at": "2026-12-18T00:00:00+00:00",
            },
            "commits": None,
        }
    ]
    web, dns = told["hosts"]
    assert web == {
        "host": "web",
        "verdict": "changed",
        "before": {"toplevel": "/nix/store/1", "derivation": "/nix/store/1.drv"},
        "after": {"toplevel": "/nix/store/2", "derivation": "/nix/store/2.drv"},
        "packages": [{"name": "linux", "before": ["6.1"], "after": ["6.2"], "size": 20480}],
    }
    assert dns["before"] == {
        "error": {"stage": "build", "reason": "linux failed", "log": FAILS.tail}
    }
    assert (dns["verdict"], dns["packages"]) == ("fixed", None)
    gone = fields_of(Comparison((InputChange("x", None, LockedInput("path:/x", "")),)))
    assert gone["inputs"] == [
        {
            "name": "x",
            "before": None,
            "after": {"source": "path:/x", "revision": "", "modified_at": None},
            "commits": None,
        }
    ]


def test_broken_hosts_are_those_without_a_system_afterwards():
    comparison = Comparison(INPUTS, (CHANGED, BREAKS, FIXED, STILL))
    assert comparison.broken == (BREAKS, STILL)
    assert comparison.changed == (CHANGED, FIXED)


def test_a_summary_names_the_hosts_by_verdict():
    assert summary(Comparison(INPUTS, (CHANGED, SAME, BREAKS))) == (
        "unchanged: db; changed: web; breaks: mail"
    )
