from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import FlakeError, Kind
from agent.domain.flake_update.lock_file import (
    MAX_SIZE,
    InputChange,
    LockedInput,
    changed_inputs,
    inputs_from,
    parse_lock_file,
    short_revision,
)


def node(revision="a" * 40, owner="NixOS", inputs=None, **locked):
    told = {"type": "github", "owner": owner, "repo": "nixpkgs", "rev": revision, **locked}
    return {"locked": told, "original": {}, **({"inputs": inputs} if inputs else {})}


def lock(inputs, **nodes):
    return json.dumps(
        {"nodes": {"root": {"inputs": inputs}, **nodes}, "root": "root", "version": 7}
    )


def test_inputs_are_named_by_the_shortest_path_to_them():
    text = lock(
        {"home": "home", "nixpkgs": "nixpkgs", "same": ["nixpkgs"]},
        nixpkgs=node(lastModified=1_795_000_000),
        home=node("b" * 40, "nix-community", {"nixpkgs": ["nixpkgs"], "tools": "tools"}),
        tools=node("c" * 40, inputs={"home": "home"}),
    )
    found = parse_lock_file(text)
    assert found.own == {"home", "nixpkgs", "same"}
    assert set(found.inputs) == {"home", "nixpkgs", "home/tools"}
    assert found.inputs["nixpkgs"] == LockedInput(
        "github:NixOS/nixpkgs", "a" * 40, datetime(2026, 11, 18, 11, 6, 40, tzinfo=UTC)
    )
    assert found.inputs["home/tools"].modified_at is None


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("ssh://git@forge/you/lib", ("lib",)),
        ("ssh://git@forge/you/library", ("home/library",)),
        ("https://api.github.com/repos/NixOS/nixpkgs/commits/main", ("home/tools", "nixpkgs")),
        (
            "https://gitlab.com/api/v4/projects/NixOS%2Fnixpkgs/repository",
            ("home/tools", "nixpkgs"),
        ),
        ("https://api.github.com/repos/NixOS/nixpkgs-lib/commits/main", ()),
        ("https://elsewhere", ()),
        ("", ()),
    ],
)
def test_inputs_are_known_by_where_they_are_fetched_from(url, names):
    text = lock(
        {"home": "home", "nixpkgs": "nixpkgs", "lib": "lib", "odd": "odd"},
        nixpkgs=node(),
        home={
            "locked": {"type": "path", "path": "/x"},
            "inputs": {"tools": "tools", "library": "y"},
        },
        tools=node("c" * 40),
        lib={"original": {"type": "git", "url": "ssh://git@forge/you/lib"}},
        y={"original": {"type": "git", "url": "ssh://git@forge/you/library"}},
        odd={"original": 3},
    )
    assert inputs_from(parse_lock_file(text), url) == names


@pytest.mark.parametrize(
    ("locked", "source", "revision"),
    [
        ({"type": "git", "url": "file:///x", "rev": "1" * 40}, "git:file:///x", "1" * 40),
        ({"type": "path", "path": "/x", "narHash": "sha256-A="}, "path:/x", "sha256-A="),
        ({"type": "indirect", "id": "nixpkgs"}, "indirect:nixpkgs", ""),
        ({"type": "odd"}, "odd:?", ""),
        ({"type": "path", "path": "/x", "lastModified": "soon"}, "path:/x", ""),
        ({"type": "path", "path": "/x", "lastModified": 10**18}, "path:/x", ""),
    ],
)
def test_every_type_of_input_has_a_source(locked, source, revision):
    found = parse_lock_file(lock({"x": "x"}, x={"locked": locked})).inputs["x"]
    assert (found.source, found.revision, found.modified_at) == (source, revision, None)


@pytest.mark.parametrize(
    ("modified", "at"),
    [
        (-1, None),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (253_402_300_799, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (253_402_300_800, None),
    ],
)
def test_an_input_is_as_old_as_a_date_can_be(modified, at):
    locked = {"type": "path", "path": "/x", "lastModified": modified}
    assert parse_lock_file(lock({"x": "x"}, x={"locked": locked})).inputs["x"].modified_at == at


@pytest.mark.parametrize("length", [63, 64, 65])
def test_a_revision_is_quoted_in_part(length):
    locked = {"type": "git", "url": "file:///x", "rev": "1" * length}
    found = parse_lock_file(lock({"x": "x"}, x={"locked": locked})).inputs["x"]
    assert found.revision == "1" * min(length, 64)


def test_an_input_that_is_not_locked_is_left_out():
    assert parse_lock_file(lock({"x": "x"}, x={})).inputs == {}


def test_how_a_lock_file_is_written_does_not_matter():
    text = lock({"nixpkgs": "nixpkgs"}, nixpkgs=node())
    spaced = json.dumps(json.loads(text), indent=4, sort_keys=True) + "\n\n"
    assert parse_lock_file(text) == parse_lock_file(spaced)


def test_changes_are_what_differs():
    before = parse_lock_file(lock({"a": "a", "b": "b", "gone": "g"}, a=node(), b=node(), g=node()))
    after = parse_lock_file(
        lock({"a": "a", "b": "b", "new": "n"}, a=node(), b=node("b" * 40), n=node())
    )
    old, new = before.inputs["b"], after.inputs["b"]
    assert changed_inputs(before, after) == (
        InputChange("b", old, new),
        InputChange("gone", before.inputs["gone"], None),
        InputChange("new", None, after.inputs["new"]),
    )
    assert changed_inputs(before, before) == ()


def test_an_input_that_the_flake_does_not_have_is_told_with_those_that_it_has():
    found = parse_lock_file(lock({"a": "a", "b": ["a"]}, a=node()))
    found.require(("a", "b"))
    with pytest.raises(FlakeError, match=r"no input 'c'.*it has: a, b") as caught:
        found.require(("a", "c"))
    assert caught.value.kind is Kind.INPUT_UNKNOWN
    with pytest.raises(FlakeError, match="it has: none"):
        parse_lock_file(lock({})).require(("c",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<<<<<<< HEAD",
        "[]",
        "{}",
        '{"nodes": {}, "root": "root"}',
        '{"nodes": {"root": {"inputs": 3}}, "root": "root"}',
        '{"nodes": {"root": {"inputs": {"x": "y"}}}, "root": "root"}',
        '{"nodes": {"root": {"inputs": {"x": "x"}}, "x": {"locked": {"rev": 3}}}, "root": "root"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_lock_file_is_a_fault(text):
    with pytest.raises(FlakeError) as caught:
        parse_lock_file(text)
    assert caught.value.kind is Kind.LOCK_FILE_UNREADABLE


def test_a_lock_file_that_is_too_large_is_called_so():
    text = lock({"x": "x"}, x={})
    assert parse_lock_file(text.ljust(MAX_SIZE)).own == {"x"}
    with pytest.raises(FlakeError, match="larger than 4 MiB") as caught:
        parse_lock_file(text.ljust(MAX_SIZE + 1))
    assert caught.value.kind is Kind.LOCK_FILE_TOO_LARGE
    assert "conflict" not in caught.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["nodes", "root", "inputs", "locked", "type", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_a_lock_file_says_it_is_parsed_or_refused(told):
    with contextlib.suppress(FlakeError):
        parse_lock_file(json.dumps(told))


def test_a_revision_is_short_for_a_person():
    day = datetime(2026, 11, 27, tzinfo=UTC)
    assert short_revision(LockedInput("x", "0123456789abcdef", day)) == "0123456789ab (2026-11-27)"
    assert short_revision(LockedInput("x", "sha256-abc=")) == "abc="
