from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.flake_update.package_change import (
    PackageChange,
    format_change,
    format_size_change,
    parse_closure_diff,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("linux: 6.12.1 → 6.12.9", PackageChange("linux", ("6.12.1",), ("6.12.9",))),
        (
            "linux: 6.12.1, 6.12.1-modules → 6.12.9, +12.3 KiB",
            PackageChange("linux", ("6.12.1", "6.12.1-modules"), ("6.12.9",), 12595),
        ),
        ("jq: ∅ → 1.7", PackageChange("jq", (), ("1.7",))),
        ("jq: 1.7 → ∅, -900.0 KiB", PackageChange("jq", ("1.7",), (), -921600)),
        ("etc: ε → ∅", PackageChange("etc", ("",))),
        ("system: \x1b[31;1m+19.5 KiB\x1b[0m", PackageChange("system", size=19968)),
        ("system: \x1b[32;1m-19.5 KiB\x1b[0m", PackageChange("system", size=-19968)),
        (
            "firefox: 140.0 → 141.0, +1.5 MiB",
            PackageChange("firefox", ("140.0",), ("141.0",), 1572864),
        ),
        # 2.34 as it was seen; 2.26 says "+8691.4 KiB" of the same.
        (
            "thing: 1 → 2, \x1b[31;1m8.5 MiB\x1b[0m",
            PackageChange("thing", ("1",), ("2",), 8912896),
        ),
        ("thing: \x1b[32;1m-8.6 MiB\x1b[0m", PackageChange("thing", size=-9017754)),
        ("thing-: ∅ → ε, \x1b[31;1m48.9 KiB\x1b[0m", PackageChange("thing-", (), ("",), 50074)),
        ("x: 1, 2 → 3, 4, +8.0 KiB", PackageChange("x", ("1", "2"), ("3", "4"), 8192)),
    ],
)
def test_each_form_of_a_line_is_read(line, expected):
    assert parse_closure_diff(f"{line}\n") == (expected,)


def test_closures_that_differ_in_no_package_give_nothing():
    assert parse_closure_diff("") == ()


@pytest.mark.parametrize("text", ["nonsense", "x: ", "x: 1", ": 1 → 2", "a: 1 → 2\n\n"])
def test_other_text_is_not_guessed_at(text):
    assert parse_closure_diff(text) is None


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (5, "+5 B"),
        (-5, "-5 B"),
        (19968, "+19.5 KiB"),
        (-(3 << 20), "-3.0 MiB"),
        (5 << 30, "+5.0 GiB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(size, told):
    assert format_size_change(size) == told


VERSIONS = st.lists(st.from_regex(r"[0-9]+(\.[0-9]+){0,2}", fullmatch=True), max_size=3).map(tuple)


@given(
    st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), VERSIONS, VERSIONS, st.integers(-99, 99)
)
def test_what_is_told_is_read_again(name, before, after, kib):
    change = PackageChange(name, before, after, kib * 1024)
    if change != PackageChange(name):
        assert parse_closure_diff(format_change(change)) == (change,)


def test_an_empty_version_is_told_as_nix_does():
    assert format_change(PackageChange("x", ("", "1"))) == "x: ε, 1 → ∅"


def test_a_size_alone_is_told_alone():
    assert format_change(PackageChange("x", size=19968)) == "x: +19.5 KiB"
