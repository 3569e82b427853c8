from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import HydraError, Kind
from agent.domain.flake_reference import parse_locked_flake_reference

REV = "f3ed865737b93fca3fb8dbdb6c9e001e8dc25611"
HASH = "sha256-UROs5vGHM90udW7p3yRQRMgg9ygUyTiJscJawWB2Gg4%3D"
RECORDED = Path(__file__).parent.parent / "fixtures" / "hydra-recorded"


@pytest.mark.parametrize(
    "text",
    [
        f"git+file:///srv/nix-config?ref=main&rev={REV}",
        f"git+https://forge.example.org/o/r.git?ref=main&rev={REV}",
        f"git+ssh://git@forge.example.org/o/r?rev={REV}",
        f"git+file:///srv/mono?dir=sub&ref=refs/heads/main&rev={REV}",
        f"hg+https://hg.example.org/r?rev={REV}",
        f"github:o/r/{REV}?narHash={HASH}",
        f"github:o/r/{REV}",
        f"gitlab:group%2Fsub/r/{REV}",
        f"sourcehut:~user/r/{REV}",
        f"https://example.org/f.tar.gz?narHash={HASH}",
        f"tarball+https://example.org/f?narHash={HASH}",
        f"path:/srv/pf?lastModified=1795215218&narHash={HASH}",
        "https://example.org/f.tar.gz?narHash=sha256-a+b/c=",
        f"git+https://[2001:db8::1]:8443/r?rev={REV}{'0' * 24}",
    ],
)
def test_a_locked_reference_is_taken_as_it_stands(text):
    assert parse_locked_flake_reference(text) == text


@pytest.mark.parametrize("name", ["pathflake", "subdir", "tarball"])
def test_every_recorded_form_is_taken(name):
    flake = json.loads((RECORDED / f"eval-flake-{name}.json").read_text())["body"]["flake"]
    assert parse_locked_flake_reference(flake) == flake


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, Kind.EVAL_WITHOUT_FLAKE),
        ("", Kind.EVAL_WITHOUT_FLAKE),
        ("--option", Kind.FLAKE_LOOKS_LIKE_OPTION),
        (f"-github:o/r/{REV}", Kind.FLAKE_LOOKS_LIKE_OPTION),
        (f"github:o/r/{REV}; reboot", Kind.FLAKE_UNSAFE_CHARACTERS),
        (f"github:o/r/{REV}$(id)", Kind.FLAKE_UNSAFE_CHARACTERS),
        (f"github:o/r/{REV}\n", Kind.FLAKE_UNSAFE_CHARACTERS),
        (f"github:o/r/{REV}#host", Kind.FLAKE_UNSAFE_CHARACTERS),
        (f"github:o/r/{REV}\u202e", Kind.FLAKE_UNSAFE_CHARACTERS),
        (f"github:o/r/{REV}?x={'x' * 5000}", Kind.FLAKE_UNSAFE_CHARACTERS),
        ("github:o/r", Kind.FLAKE_UNLOCKED),
        ("github:o/r/main", Kind.FLAKE_UNLOCKED),
        (f"github:o/r/{REV[:7]}", Kind.FLAKE_UNLOCKED),
        ("git+https://example.org/r?ref=main", Kind.FLAKE_UNLOCKED),
        ("git+https://example.org/r?ref=main&rev=main", Kind.FLAKE_UNLOCKED),
        (f"git+https://example.org/r?rev={REV}&rev=main", Kind.FLAKE_UNLOCKED),
        ("https://example.org/f.tar.gz", Kind.FLAKE_UNLOCKED),
        ("path:/srv/pf", Kind.FLAKE_UNLOCKED),
        ("nixpkgs", Kind.FLAKE_UNSUPPORTED),
        ("ftp://example.org/x", Kind.FLAKE_UNSUPPORTED),
        ("git+https://[broken/r", Kind.FLAKE_UNSUPPORTED),
        ("path:/srv/pf?narHash", Kind.FLAKE_UNSUPPORTED),
    ],
)
def test_anything_else_is_refused_with_its_reason(text, kind):
    with pytest.raises(HydraError) as caught:
        parse_locked_flake_reference(text)
    assert caught.value.kind is kind


@given(st.text(max_size=200))
def test_no_text_passes_that_could_be_an_option_or_needs_quoting(text):
    try:
        taken = parse_locked_flake_reference(text)
    except HydraError:
        return
    assert not taken.startswith("-")
    assert not set(taken) & set(" \t\n\"'`$;|<>(){}*!\\#")
