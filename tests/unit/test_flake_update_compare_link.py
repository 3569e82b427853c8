"""The pages of forges that show what an update brings; the forms of the URLs are theirs."""

from __future__ import annotations

import json

import pytest

from agent.domain.flake_update.compare_link import compare_link
from agent.domain.flake_update.comparison import Comparison
from agent.domain.flake_update.lock_file import changed_inputs, parse_lock_file
from agent.domain.flake_update.report import fields_of, markdown

A, B = "a" * 40, "b" * 40


def changes(before, after):
    sides = []
    for locked in (before, after):
        nodes = {"root": {"inputs": {"x": "x"} if locked else {}}, "x": {"locked": locked}}
        sides.append(parse_lock_file(json.dumps({"nodes": nodes, "root": "root", "version": 7})))
    return changed_inputs(*sides)


def link(locked, before=A, after=B):
    (change,) = changes({**locked, "rev": before}, {**locked, "rev": after})
    return compare_link(change)


def of(kind, owner="o", repo="r", **more):
    return {"type": kind, "owner": owner, "repo": repo, **more}


def git(url):
    return {"type": "git", "url": url}


@pytest.mark.parametrize(
    ("locked", "url"),
    [
        (of("github", "NixOS", "nixpkgs"), f"https://github.com/NixOS/nixpkgs/compare/{A}...{B}"),
        (of("github", host="ghe.example"), f"https://ghe.example/o/r/compare/{A}...{B}"),
        (of("gitlab"), f"https://gitlab.com/o/r/-/compare/{A}...{B}"),
        (
            of("gitlab", "group%2Fsub", host="gitlab.example:8443"),
            f"https://gitlab.example:8443/group/sub/r/-/compare/{A}...{B}",
        ),
        (of("sourcehut", "~me"), f"https://git.sr.ht/~me/r/log/{B}"),
        (git("https://codeberg.org/o/r.git"), f"https://codeberg.org/o/r/compare/{A}...{B}"),
        (git("ssh://git@github.com/o/r"), f"https://github.com/o/r/compare/{A}...{B}"),
        (git("https://gitlab.com/g/s/r.git"), f"https://gitlab.com/g/s/r/-/compare/{A}...{B}"),
        (git("https://git.sr.ht/~me/r"), f"https://git.sr.ht/~me/r/log/{B}"),
    ],
)
def test_the_commits_between_two_revisions_have_a_page(locked, url):
    assert link(locked) == url
    found = Comparison(changes({**locked, "rev": A}, {**locked, "rev": B}))
    assert f" ([commits]({url}))\n" in markdown(found)
    assert fields_of(found)["inputs"][0]["commits"] == url


@pytest.mark.parametrize(
    "locked",
    [
        git("https://git.example.org/o/r"),
        git("file:///srv/github.com/o/r"),
        git("http://github.com/o/r"),
        git("https://github.com/"),
        git("https://[github.com/o/r"),
        of("github", "o", "."),
        git("https://github.com/o/r) ![x](https://evil.example/x"),
        of("github", "o", "r) [x](https://evil.example"),
        of("github", "..", "r"),
        of("github", "o", "{before}"),
        of("github", "o", "r", host="evil.example/x?"),
        of("indirect"),
        {"type": "path", "path": "/srv/x"},
        {"type": "tarball", "url": "https://github.com/o/r/archive/main.tar.gz"},
    ],
)
def test_what_may_not_be_such_a_page_is_not_linked(locked):
    assert link(locked) is None


def test_only_revisions_of_one_repository_are_compared():
    one, other = of("github", rev=A), of("github", "p", rev=B)
    for before, after in ((one, other), (one, None), (None, one)):
        (change,) = changes(before, after)
        assert compare_link(change) is None
    assert link(of("github"), after="main") is None
    assert link(of("github"), before=f"{A})") is None
