from __future__ import annotations

import pytest

from agent.domain.store_path import parse_store_path

HASH = "1w67kssi27khscpn529avnivzpa5xwcc"


@pytest.mark.parametrize(
    "text",
    [
        f"/nix/store/{HASH}-nixos-system-alpha-26.05",
        f"/nix/store/{HASH}-a",
        f"/nix/store/{HASH}-x+y_z?=.drv",
        f"/nix/store/{HASH}-{'n' * 211}",
    ],
)
def test_a_store_path_is_taken_as_it_stands(text):
    assert parse_store_path(text, "/nix/store") == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "/nix/store",
        f"/nix/store/{HASH}",
        f"/nix/store/{HASH}-",
        f"/nix/store/{HASH}-.hidden",
        f"/nix/store/{HASH}-{'n' * 212}",
        f"/nix/store/{HASH}-a/b",
        f"/nix/store/{HASH}-a\n",
        f"/nix/store/{HASH}-a b",
        f"/nix/store/{HASH}-a;b",
        f"/nix/store/../store/{HASH}-a",
        f"/nix/store2/{HASH}-a",
        f"/nix/store/{'e' * 32}-letter-not-of-the-alphabet",
        f"-/nix/store/{HASH}-a",
    ],
)
def test_anything_else_is_none(text):
    assert parse_store_path(text, "/nix/store") is None


def test_a_relocated_store_has_its_own_directory():
    path = f"/tmp/demo/store/{HASH}-a"
    assert parse_store_path(path, "/tmp/demo/store") == path
    assert parse_store_path(path, "/nix/store") is None
