"""Which inputs nix would look into for what they want in turn, and so are judged as flakes are."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent.application.facts.fetchable import require_fetchable
from agent.domain.errors import Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.loose_inputs import LockedInputs, attributes_of, loose_inputs
from agent.domain.trust import FlakeSource
from fakes.world import World

REV = "f3ed865737b93fca3fb8dbdb6c9e001e8dc25611"
FLAKE = LockedFlakeReference(f"github:o/r/{REV}")
X = {"type": "github", "owner": "o", "repo": "x"}
WANTS_X = {"x": {"url": "github:o/x"}}


def lock(inputs: dict, **nodes: dict) -> str:
    return json.dumps({"nodes": {"root": {"inputs": inputs}, **nodes}, "root": "root"})


def node(original: dict, **more: object) -> dict:
    return {"original": original, "locked": {**original, "rev": REV}, **more}


def loose(declared: dict, locked: str | None = None, directory: str = "") -> list[str]:
    source = FlakeSource(locked, json.dumps(declared), directory)
    return [one.reference for one in loose_inputs(FLAKE, source)]


@pytest.mark.parametrize(
    ("url", "original"),
    [
        ("nixpkgs", {"type": "indirect", "id": "nixpkgs"}),
        ("flake:nixpkgs", {"type": "indirect", "id": "nixpkgs"}),
        ("nixpkgs/nixos-26.05", {"type": "indirect", "id": "nixpkgs", "ref": "nixos-26.05"}),
        (f"nixpkgs/a/{REV}", {"type": "indirect", "id": "nixpkgs", "ref": "a", "rev": REV}),
        ("github:o/x", X),
        ("github:o/x/release/1.0", {**X, "ref": "release/1.0"}),
        ("github:o/x?ref=release/1.0&dir=a", {**X, "ref": "release/1.0", "dir": "a"}),
        (f"github:o/x/{REV}", {**X, "rev": REV}),
        ("gitlab:g%2Fs/x?host=h", {"type": "gitlab", "owner": "g/s", "repo": "x", "host": "h"}),
        ("sourcehut:~o/x", {"type": "sourcehut", "owner": "~o", "repo": "x"}),
        ("git+https://h/x?ref=a", {"type": "git", "url": "https://h/x", "ref": "a"}),
        ("git+https://h/x?a=b&rev=c", {"type": "git", "url": "https://h/x?a=b", "rev": "c"}),
        (
            "git+ssh://git@h/x?submodules=1",
            {"type": "git", "url": "ssh://git@h/x", "submodules": True},
        ),
        ("git://h/x", {"type": "git", "url": "git://h/x"}),
        ("hg+https://h/x", {"type": "hg", "url": "https://h/x"}),
        ("https://h/x.tar.gz", {"type": "tarball", "url": "https://h/x.tar.gz"}),
        ("https://h/x%20y", {"type": "file", "url": "https://h/x y"}),
        ("tarball+https://h/x", {"type": "tarball", "url": "https://h/x"}),
        ("file+https://h/x", {"type": "file", "url": "https://h/x"}),
        (
            "https://h/x.tar.gz?narHash=sha256-a%3D",
            {"type": "tarball", "url": "https://h/x.tar.gz", "narHash": "sha256-a="},
        ),
        ("path:/srv/x", {"type": "path", "path": "/srv/x"}),
        ("path:./x", {"type": "path", "path": "./x"}),
        ("./x?dir=a", {"type": "path", "path": "./x", "dir": "a"}),
    ],
)
def test_what_was_locked_as_it_is_asked_for_is_not_looked_into(url, original):
    assert loose({"x": {"url": url}}, lock({"x": "x"}, x=node(original))) == []


def test_nor_is_what_is_asked_for_in_another_form():
    nixpkgs = node({"type": "indirect", "id": "nixpkgs"})
    locked = lock({"x": "x", "nixpkgs": "n"}, x=node(X), n=nixpkgs)

    assert loose({"x": {**X, "flake": False}, "nixpkgs": {}}, locked) == []
    assert loose({"x": {"follows": "nixpkgs"}, "self": {"submodules": True}}, locked) == []
    assert loose({"x": {"url": "github:o/y", "flake": False}}, locked) == []


@pytest.mark.parametrize(
    "locked",
    [
        None,
        lock({}),
        lock({"x": ["y"]}),
        lock({"x": "lost"}),
        lock({"x": "x"}, x=node({**X, "ref": "main"})),
        lock({"x": "x"}, x={"locked": X}),
        lock({"y": "x"}, x=node(X)),
    ],
)
def test_what_was_not_locked_so_is_looked_into(locked):
    assert loose(WANTS_X, locked) == ["github:o/x"]


@pytest.mark.parametrize(
    "reference",
    [
        "nixpkgs/main",
        "gitlab:o/x?ref=a/b&host=h",
        "sourcehut:~o/x",
        "git+https://h/x?ref=main&submodules=1",
        "git+https://h/x?a=b&ref=main",
        "git://h/x?ref=main",
        "hg+https://h/x",
        "tarball+https://h/x?narHash=sha256-a%3D",
        "path:/srv/x",
    ],
)
def test_attributes_are_looked_into_by_a_reference_of_the_same_meaning(reference):
    (found,) = loose({"x": attributes_of(reference)})
    assert attributes_of(found) == attributes_of(reference)


@pytest.mark.parametrize(
    ("path", "directory", "found"),
    [
        ("./x", "", f"{FLAKE}?dir=x"),
        ("../x", "hosts", f"{FLAKE}?dir=x"),
        ("..", "hosts", FLAKE),
        ("./x y", "hosts", f"{FLAKE}?dir=hosts/x%20y"),
    ],
)
def test_a_flake_of_the_same_tree_is_looked_into_there(path, directory, found):
    assert loose({"x": {"url": f"path:{path}"}}, None, directory) == [found]


def test_the_directory_of_a_flake_is_not_that_of_another():
    source = FlakeSource(None, json.dumps({"x": {"url": "./x"}}), "a")
    (found,) = loose_inputs("git+https://h/r?dir=a&rev=b", source)
    assert found.reference == "git+https://h/r?rev=b&dir=a/x"


def test_what_follows_another_by_the_lock_file_alone_is_looked_into():
    y = {"type": "github", "owner": "o", "repo": "y"}
    locked = lock({"x": "x", "y": "y"}, x=node(X, inputs={"y": ["y"], "z": "z"}), y=node(y))
    both = {**WANTS_X, "y": {"url": "github:o/y"}}
    said = {**both, "x": {"url": "github:o/x", "inputs": {"y": {"follows": "y"}}}}

    assert loose(said, locked) == []
    assert loose(both, locked) == [f"github:o/x?rev={REV}"]
    # What it wants itself is then compared with what is locked for it.
    (found,) = loose_inputs(FLAKE, FlakeSource(locked, json.dumps(both)))
    assert found.locked is not None
    assert found.locked.key == "x"
    wants = FlakeSource(None, json.dumps({"y": {"url": "github:o/w"}}))
    (inner,) = loose_inputs(found.reference, wants, found.locked)
    assert inner.reference == "github:o/w"
    assert not list(loose_inputs("x", FlakeSource(None, "{}"), LockedInputs({}, "")))


def test_what_is_wanted_for_an_inputs_input_is_compared_too():
    y = {"type": "github", "owner": "o", "repo": "y"}
    locked = lock({"x": "x"}, x=node(X, inputs={"y": "y"}), y=node(y, inputs={"z": "z"}), z=node(X))

    def wanted(**inputs: dict) -> list[str]:
        return loose({"x": {"url": "github:o/x", "inputs": inputs}}, locked)

    assert wanted(y={"url": "github:o/y"}) == []
    assert wanted(y={"url": "github:o/w"}) == ["github:o/w"]
    assert wanted(y={"flake": False}) == []
    assert wanted(none={"url": "github:o/w"}) == []
    assert wanted(y={"inputs": {"z": {"url": "github:o/x"}}}) == []
    assert wanted(y={"inputs": {"z": {"url": "github:o/w"}}}) == ["github:o/w"]


# In a run


def fault_of(**sources: FlakeSource) -> NixError | None:
    world = World()
    world.nix.sources |= {FLAKE: sources.pop("flake")}
    world.nix.sources |= {f"github:o/{name}": source for name, source in sources.items()}
    try:
        asyncio.run(require_fetchable(world.ports, (), FLAKE))
    except NixError as error:
        return error
    return None


def wants(url: str, locked: str | None = None) -> FlakeSource:
    return FlakeSource(locked, json.dumps({"x": {"url": url}}))


def test_what_loose_inputs_want_is_judged_however_deep_it_is():
    secret = wants("path:/root/.ssh")
    a, b = wants("github:o/b"), wants("github:o/c")

    fault = fault_of(flake=wants("github:o/a"), a=a, b=b, c=secret)
    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE
    assert "path:/root/.ssh" in fault.message
    assert fault_of(flake=wants("github:o/a"), a=a, b=b, c=wants("github:o/a")) is None


def test_a_login_in_what_is_looked_into_is_no_argument():
    fault = fault_of(flake=wants("git+ssh://git:hunter2@h/x"))
    assert fault is not None
    assert "hunter2" not in fault.message


def test_flakes_that_want_others_end_somewhere():
    chain = {f"n{at}": wants(f"github:o/n{at + 1}") for at in range(60)}
    fault = fault_of(flake=wants("github:o/n0"), **chain)
    assert fault is not None
    assert "more than 50" in fault.message


@pytest.mark.parametrize("text", ['{"nodes": 3, "root": "root"}', "[]", "{"])
def test_a_lock_file_of_no_shape_lets_nothing_be_looked_into(text):
    fault = fault_of(flake=wants("github:o/a", text))
    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


def test_what_is_declared_in_no_shape_lets_nothing_be_looked_into():
    fault = fault_of(flake=FlakeSource(lock({}), json.dumps({"x": {"flake": False, "url": 3}})))
    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE
