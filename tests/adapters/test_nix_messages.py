"""What several versions of nix say, and what it means: the texts are theirs."""

from __future__ import annotations

import asyncio

import pytest

from agent.adapters.nix.commands import NixCommand, parse_fetch_plan
from agent.adapters.process import Runner
from agent.domain.errors import Kind, NixError
from agent.domain.facts import FetchPlan
from agent.domain.store_path import StorePath
from fakes.events import RememberedEvents, SteppedClock
from fakes.nix import RememberedProgress

PATH = StorePath("/nix/store/ihs4i100w5whfq8hdr9ngmf2108hpj5r-nixos-system-h-1")
KEYS = "any of the keys in 'trusted-public-keys'"
NOWHERE = f"error: path '{PATH}' is required, but there is no substituter that can build it"


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("", FetchPlan(0, 0, 0)),
        (
            "this path will be fetched (0.50 MiB download, 1.96 MiB unpacked):\n  /s/x",
            FetchPlan(1, 524288, 2055209),
        ),
        (
            "these 1712 paths will be fetched (912.31 MiB download, 4012.77 MiB unpacked):",
            FetchPlan(1712, 956626371, 4207694316),
        ),
        (  # since 2.33, sizes have the unit that suits them
            "these 2 paths will be fetched (3.4 KiB download, 1.5 GiB unpacked):",
            FetchPlan(2, 3482, 1610612736),
        ),
    ],
)
def test_a_dry_run_is_read_in_the_words_of_every_version(text, plan):
    assert parse_fetch_plan(text) == plan


@pytest.fixture
def nix_that_says(tmp_path):
    """Return a nix that says a text on stderr, and fails."""

    def make(text: str, path: str = f"{tmp_path}:/usr/bin:/bin") -> NixCommand:
        (tmp_path / "said").write_text(text)
        program = tmp_path / "nix"
        program.write_text(
            f"#!/bin/sh\n/bin/cat {tmp_path}/said >&2 || cat {tmp_path}/said >&2\nexit 1\n"
        )
        program.chmod(0o755)
        runner = Runner(RememberedEvents(), SteppedClock(), {"PATH": path})
        return NixCommand(
            runner,
            store_dir="/nix/store",
            gc_root=tmp_path / "candidate",
            substituters=(),
            trusted_public_keys=(),
            local_builds=False,
            flags=(),
            deadline=30,
        )

    return make


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NOWHERE, Kind.PATH_NOT_CACHED),
        (f"error: some references of path '{PATH}' could not be realised", Kind.PATH_NOT_CACHED),
        (
            f"warning: the substitute for '{PATH}' from 'file:///c' is not signed by {KEYS}\n{NOWHERE}",
            Kind.SIGNATURE_UNTRUSTED,
        ),
        (
            f"warning: ignoring substitute for '{PATH}' from 'https://c', as it's not signed by {KEYS}\n{NOWHERE}",
            Kind.SIGNATURE_UNTRUSTED,
        ),
        (
            f"error: cannot add path '{PATH}' because it lacks a signature by a trusted key",
            Kind.SIGNATURE_UNTRUSTED,
        ),
        (
            "warning: unable to download 'http://c/nix-cache-info': Couldn't connect to server (7)\n"
            + NOWHERE,
            Kind.CACHE_UNREACHABLE,
        ),
        (  # 2.34 gives up at once
            "error: unable to download 'http://c/x.narinfo': Could not connect to server (7) Failed to connect",
            Kind.CACHE_UNREACHABLE,
        ),
        (
            "error: unable to download 'http://c/x.narinfo': HTTP error 502\n" + NOWHERE,
            Kind.CACHE_UNREACHABLE,
        ),
        ("error: 'http://c' does not appear to be a binary cache", Kind.CACHE_UNREACHABLE),
        (
            "error: writing to file: No space left on device\n" + NOWHERE,
            Kind.STORE_FULL,
        ),
        (
            "error: committing transaction: database or disk is full (in '/nix/var/nix/db/db.sqlite')",
            Kind.STORE_FULL,
        ),
        ("error: unable to download 'http://c/nar/x.nar': HTTP error 404", Kind.FETCH_FAILED),
        ("error: hash mismatch importing path", Kind.FETCH_FAILED),
        ("", Kind.FETCH_FAILED),
    ],
)
def test_a_failed_fetch_is_told_apart_by_its_text(nix_that_says, text, kind):
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).substitute(PATH, RememberedProgress()))
    assert caught.value.kind is kind


@pytest.mark.parametrize("action", ["plan", "fetch"])
def test_an_absence_that_the_daemon_remembers_is_waited_for(nix_that_says, action):
    """A user whom the daemon does not trust cannot have it ask again."""
    restricted = "because it is a restricted setting and you are not a trusted user"
    ignored = (
        f"warning: ignoring the client-specified setting 'narinfo-cache-negative-ttl', {restricted}"
    )

    def ask(text):
        nix = nix_that_says(text)
        work = (
            nix.plan_fetch(PATH) if action == "plan" else nix.substitute(PATH, RememberedProgress())
        )
        with pytest.raises(NixError) as caught:
            asyncio.run(work)
        said = [fields["line"] for event, fields in nix._runner._sink.said if "line" in fields]
        assert said == [NOWHERE]
        return caught.value

    remembered = ask(f"{ignored}\n{NOWHERE}")
    assert (remembered.kind, remembered.retry_after) == (Kind.PATH_NOT_CACHED, 3600.0)
    assert ask(NOWHERE).retry_after is None


def test_the_plan_of_a_cache_that_is_down_is_unreachable_where_nix_gives_up(nix_that_says):
    text = "error: unable to download 'http://c/x.narinfo': Could not connect to server (7) x"
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).plan_fetch(PATH))
    assert caught.value.kind is Kind.CACHE_UNREACHABLE
    assert caught.value.message.endswith(text.removeprefix("error: "))


@pytest.mark.parametrize(
    "text",
    [
        "error: cannot write modified lock file of flake 'git+file:///f' (use '--no-write-lock-file' to ignore)",
        "error: flake 'git+file:///f' requires lock file changes but they're not allowed due to '--no-update-lock-file'",
    ],
)
def test_a_stale_lock_file_is_known_in_the_words_of_every_version(nix_that_says, text):
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).evaluate_toplevel("git+file:///f", "h"))
    assert caught.value.kind is Kind.EVALUATION_FAILED
    assert "flake.lock" in caught.value.hint


def test_an_evaluation_on_a_full_store_says_that_it_is_full(nix_that_says):
    nix = nix_that_says("error: writing to file: No space left on device")
    with pytest.raises(NixError) as caught:
        asyncio.run(nix.evaluate_toplevel("git+file:///f", "h"))
    assert caught.value.kind is Kind.STORE_FULL


def test_of_a_cache_that_is_down_the_last_word_is_told_and_no_retry(nix_that_says):
    text = (
        "warning: unable to download 'http://c/nix-cache-info': Couldn't connect (7); retrying in 251 ms\n"
        "warning: unable to download 'http://c/nix-cache-info': Couldn't connect (7)\n" + NOWHERE
    )
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).plan_fetch(PATH))
    assert caught.value.message.endswith("'http://c/nix-cache-info': Couldn't connect (7)")


@pytest.mark.parametrize("action", ["plan", "substitute"])
def test_the_credentials_of_a_substituter_are_not_in_its_fault(nix_that_says, action):
    nix = nix_that_says(
        "error: unable to download 'https://bob:hunter2@c/x.narinfo': HTTP error 502"
    )
    fetch = {
        "plan": nix.plan_fetch,
        "substitute": lambda p: nix.substitute(p, RememberedProgress()),
    }
    with pytest.raises(NixError) as caught:
        asyncio.run(fetch[action](PATH))
    assert caught.value.kind is Kind.CACHE_UNREACHABLE
    assert "https://***@c/x.narinfo" in caught.value.message


def test_what_git_said_is_told_where_git_failed(nix_that_says):
    text = (
        "fatal: unable to access 'https://forge/r/': Could not resolve host: forge\n"
        "error: program 'git' failed with exit code 128\n"
    )
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).evaluate_toplevel("git+https://forge/r", "h"))
    assert "Could not resolve host: forge program 'git' failed" in caught.value.message


FAR = [
    "fatal: unable to access 'https://forge/r/': Could not resolve host: forge",
    "fatal: unable to access 'https://forge/r/': Failed to connect to forge port 443 after 9 ms: Couldn't connect to server",
    "fatal: unable to access 'https://forge/r/': The requested URL returned error: 503",
    "ssh: connect to host forge port 22: No route to host",
    "ssh: Could not resolve hostname forge: Temporary failure in name resolution",
    "error: unable to download 'https://api.github.com/x': Could not resolve hostname (6)",
    "error: unable to download 'https://github.com/x.tar.gz': HTTP error 502",
    "error: unable to download 'https://github.com/x.tar.gz': HTTP error 429",
]
WRONG = [
    "error: syntax error, unexpected '}'",
    "error: unable to download 'https://github.com/x.tar.gz': HTTP error 404",
    "fatal: unable to access 'https://forge/r/': The requested URL returned error: 403",
    "fatal: repository 'https://forge/r/' not found",
    "warning: unable to download 'https://c/nix-cache-info': Couldn't connect (7)\nerror: undefined variable",
]


@pytest.mark.parametrize("text", FAR)
def test_a_flake_that_cannot_be_reached_is_another_fault_than_one_that_is_wrong(
    nix_that_says, text
):
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).evaluate_toplevel("git+https://forge/r", "h"))
    assert caught.value.kind is Kind.FLAKE_UNREACHABLE
    assert caught.value.passes


@pytest.mark.parametrize("text", WRONG)
def test_a_flake_that_is_wrong_is_not_far_away(nix_that_says, text):
    with pytest.raises(NixError) as caught:
        asyncio.run(nix_that_says(text).evaluate_toplevel("git+https://forge/r", "h"))
    assert caught.value.kind is Kind.EVALUATION_FAILED
    assert not caught.value.passes


CACHES = '{"substituters": {"value": ["https://a", "https://b"]}}'


@pytest.mark.parametrize(
    ("script", "caches"),
    [
        (f"echo '{CACHES}'", ("https://a", "https://b")),
        (
            f"case \"$*\" in *' config show '*) exit 1 ;; esac; echo '{CACHES}'",
            ("https://a", "https://b"),
        ),
        ("exit 1", ()),
        ("echo nonsense", ()),
        ("echo '[]'", ()),
        ('echo \'{"substituters": {"value": null}}\'', ()),
        ('echo \'{"substituters": {"value": ["https://a", 1]}}\'', ("https://a",)),
    ],
)
def test_substituters_are_told_by_new_and_old_versions_or_not_at_all(
    nix_that_says, tmp_path, script, caches
):
    nix = nix_that_says("")
    (tmp_path / "nix").write_text(f"#!/bin/sh\n{script}\n")

    assert asyncio.run(nix.substituters()) == caches


def test_without_nix_no_substituter_is_known(nix_that_says):
    nix = nix_that_says("", path="/nonexistent")

    assert asyncio.run(nix.substituters()) == ()
