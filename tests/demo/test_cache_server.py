"""A directory served as a binary cache, by the rules of nix and no others."""

from __future__ import annotations

import pytest

from agent.demo.cache_server import CacheServer
from demo.asking import ask

HASH = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.fixture
def cache(tmp_path):
    root = tmp_path / "cache"
    (root / "nar").mkdir(parents=True)
    (root / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    (root / f"{HASH}.narinfo").write_text("StorePath: …\n")
    (root / "nar" / "abc.nar.xz").write_bytes(b"\x00nar\xff")
    (tmp_path / "secret").write_text("secret")
    (root / "secret").write_text("secret")
    with CacheServer(root) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "kind", "size"),
    [
        ("/nix-cache-info", "text/plain; charset=utf-8", 21),
        (f"/{HASH}.narinfo", "text/x-nix-narinfo; charset=UTF-8", 15),
        ("/nar/abc.nar.xz", "application/x-nix-nar", 5),
    ],
)
def test_what_is_there_is_served_whole_and_by_head(cache, path, kind, size):
    get, head = (ask(cache.port, path, method=method) for method in ("GET", "HEAD"))
    assert (get.status, get.headers["Content-Type"], len(get.body)) == (200, kind, size)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_there_is_not_found(cache, method):
    for path in (f"/{'0' * 32}.narinfo", "/nar/other.nar.xz"):
        assert ask(cache.port, path, method=method).status == 404


def test_a_lost_path_is_not_found_until_it_is_back(cache):
    cache.missing.add(HASH)
    assert ask(cache.port, f"/{HASH}.narinfo").status == 404
    cache.missing.discard(HASH)
    assert ask(cache.port, f"/{HASH}.narinfo").status == 200


def test_a_nar_can_be_lost_while_its_narinfo_stays(cache):
    cache.missing.add("abc.nar.xz")
    assert ask(cache.port, "/nar/abc.nar.xz").status == 404
    assert ask(cache.port, f"/{HASH}.narinfo").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/nar/../../secret",
        "/nar/..",
        "/nar/%2e%2e/%2e%2e/secret",
        "/%2e%2e/secret",
        "//secret",
        "/secret",
        "/",
        "/nar/",
        "/nar",
    ],
)
def test_nothing_else_is_ever_served(cache, path):
    found = ask(cache.port, path)
    assert (found.status, found.body) == (404, b"does not exist\n")


def test_a_cache_is_only_read(cache):
    assert ask(cache.port, "/nar/abc.nar.xz", method="PUT", body="x").status == 405
    assert ask(cache.port, "/nar/abc.nar.xz").body == b"\x00nar\xff"
