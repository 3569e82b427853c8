"""Fetching by the real nix, on a throw-away host."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from agent.adapters.process import ProgramFailedError, ProgramMissingError, run_now
from agent.application import events
from agent.application.ports import Fetched
from agent.demo.cache_server import CacheServer
from agent.demo.loopback import Answer
from agent.domain.errors import Kind, NixError
from agent.domain.facts import FetchPlan
from demo.hydra_changes import stay_silent_on
from fakes.nix import RememberedProgress
from nix_on_host import NixOnHost

if TYPE_CHECKING:
    from agent.domain.store_path import StorePath

STRANGER = "stranger-1:n6YwpSjR7rkHgSfXHdXb7LaqpFAPSDn+0X2cJTDg0xw="
KIB = 1024


def plan(nix, path) -> FetchPlan:
    return asyncio.run(nix.plan_fetch(path))


def substitute(nix, path, progress=None) -> Fetched:
    return asyncio.run(nix.substitute(path, progress or RememberedProgress()))


def fault_of(action, nix, path) -> NixError:
    with pytest.raises(NixError) as caught:
        action(nix, path)
    return caught.value


def hash_part(path: StorePath) -> str:
    return path.rsplit("/", 1)[-1][:32]


@pytest.fixture
def cache(farm):
    with CacheServer(farm.layout.cache) as server:
        yield server


@pytest.fixture
def closed_port():
    """A port that nobody else can take, and that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --- what goes well


def test_a_plan_tells_paths_and_sizes_and_fetches_nothing(nix_on_host, farm):
    before = nix_on_host.store_entries()

    found = plan(nix_on_host.nix(), farm.second)

    assert found.paths == 2  # the system and what makes it large; the rest is there already
    assert 400 * KIB <= found.unpacked_bytes < 450 * KIB
    assert 400 * KIB <= found.download_bytes < 450 * KIB
    assert nix_on_host.store_entries() == before


def test_a_valid_path_needs_nothing(nix_on_host, farm):
    assert plan(nix_on_host.nix(), farm.first) == FetchPlan(0, 0, 0)
    assert substitute(nix_on_host.nix(), farm.first) == Fetched(0, 0)


def test_the_closure_is_fetched_and_kept_from_the_garbage_collector(nix_on_host, farm):
    fetched = substitute(nix_on_host.nix(), farm.second)

    assert fetched.paths == 2
    assert 400 * KIB <= fetched.size < 450 * KIB
    assert plan(nix_on_host.nix(), farm.second) == FetchPlan(0, 0, 0)
    environment = {"PATH": nix_on_host.runner.environment["PATH"]}
    environment |= nix_on_host.host.environment()
    run_now(("nix-store", "--gc"), env=environment)
    assert plan(nix_on_host.nix(), farm.second) == FetchPlan(0, 0, 0)


def test_progress_ends_with_everything_done(nix_on_host, farm):
    progress = RememberedProgress()

    fetched = substitute(nix_on_host.nix(), farm.second, progress)

    sizes = [size for _, _, size, _ in progress.updates]
    assert progress.updates[-1] == (2, 2, fetched.size, fetched.size)
    assert sizes == sorted(sizes)
    assert any(0 < size < fetched.size for size in sizes)


def test_a_system_is_fetched_over_http_from_a_substituter_of_the_settings(nix_on_host, farm, cache):
    nix = nix_on_host.nix(substituters=(cache.url,))

    assert plan(nix, farm.second).paths == 2
    assert substitute(nix, farm.second).paths == 2
    assert any(request.path.startswith("/nar/") for request in cache.requests)


def test_the_mark_moves_on_to_the_next_candidate(nix_on_host, farm):
    substitute(nix_on_host.nix(), farm.second)
    substitute(nix_on_host.nix(), farm.new_kernel)

    mark = nix_on_host.host.paths.marks_dir / "candidate"
    assert str(mark.readlink()) == farm.new_kernel


# --- a path that is nowhere


def test_a_path_in_no_cache_is_not_cached_yet(nix_on_host, farm):
    assert fault_of(plan, nix_on_host.nix(), farm.unpublished).kind is Kind.PATH_NOT_CACHED
    assert fault_of(substitute, nix_on_host.nix(), farm.unpublished).kind is Kind.PATH_NOT_CACHED


def test_a_path_in_no_cache_is_an_empty_plan_where_it_may_be_built(nix_on_host, farm):
    nix = nix_on_host.nix(local_builds=True)

    assert plan(nix, farm.unpublished) == FetchPlan(0, 0, 0)
    assert fault_of(substitute, nix, farm.unpublished).kind is Kind.PATH_NOT_CACHED


def test_a_path_whose_reference_is_missing_is_not_cached_yet(nix_on_host, farm, cache):
    info = (farm.layout.cache / f"{hash_part(farm.second)}.narinfo").read_text()
    references = info.split("References: ", 1)[1].split("\n", 1)[0].split()
    needed = next(name for name in references if name.endswith("-system-path"))
    cache.missing.add(needed[:32])
    nix = nix_on_host.nix(substituters=(cache.url,))

    assert fault_of(plan, nix, farm.second).kind is Kind.PATH_NOT_CACHED
    assert fault_of(substitute, nix, farm.second).kind is Kind.PATH_NOT_CACHED


def test_a_path_that_arrives_late_is_found_by_the_next_run(nix_on_host, farm, cache):
    nix = nix_on_host.nix(substituters=(cache.url,))
    cache.missing.add(hash_part(farm.second))
    assert fault_of(plan, nix, farm.second).kind is Kind.PATH_NOT_CACHED

    cache.missing.clear()

    assert plan(nix, farm.second).paths == 2


# --- caches that do not serve


def test_a_cache_that_is_down_is_unreachable(nix_on_host, farm, closed_port):
    nix = nix_on_host.nix(substituters=(f"http://127.0.0.1:{closed_port}",))

    for action in (plan, substitute):
        fault = fault_of(action, nix, farm.second)
        assert fault.kind is Kind.CACHE_UNREACHABLE
        assert f"127.0.0.1:{closed_port}" in fault.message


def test_a_cache_that_is_down_is_unreachable_even_where_builds_are_allowed(
    nix_on_host, farm, closed_port
):
    nix = nix_on_host.nix(substituters=(f"http://127.0.0.1:{closed_port}",), local_builds=True)

    assert fault_of(plan, nix, farm.second).kind is Kind.CACHE_UNREACHABLE


def test_a_second_cache_helps_out(nix_on_host, farm, closed_port, cache):
    nix = nix_on_host.nix(substituters=(f"http://127.0.0.1:{closed_port}", cache.url))

    assert plan(nix, farm.second).paths == 2
    assert substitute(nix, farm.second).paths == 2


def test_a_cache_that_fails_is_unreachable(nix_on_host, farm, cache):
    cache.overrides[f"/{hash_part(farm.second)}.narinfo"] = Answer(500)
    nix = nix_on_host.nix(substituters=(cache.url,))

    for action in (plan, substitute):
        fault = fault_of(action, nix, farm.second)
        assert fault.kind is Kind.CACHE_UNREACHABLE
        assert "HTTP error 500" in fault.message


def test_a_cache_that_is_none_is_unreachable(nix_on_host, farm, cache):
    cache.overrides["/nix-cache-info"] = Answer(404)
    nix = nix_on_host.nix(substituters=(cache.url,))

    for action in (plan, substitute):
        assert fault_of(action, nix, farm.second).kind is Kind.CACHE_UNREACHABLE


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(404), Kind.FETCH_FAILED),
        (Answer(200, {}, b"cut"), Kind.FETCH_FAILED),
        (Answer(200, {"Content-Length": "9999"}, b"hung up"), Kind.CACHE_UNREACHABLE),
        (Answer(503), Kind.CACHE_UNREACHABLE),
    ],
)
def test_a_cache_whose_nar_is_lost_or_cut_is_at_fault(nix_on_host, farm, cache, answer, kind):
    info = (farm.layout.cache / f"{hash_part(farm.second)}.narinfo").read_text()
    cache.overrides["/" + info.split("URL: ", 1)[1].split("\n", 1)[0]] = answer
    nix = nix_on_host.nix(substituters=(cache.url,))

    assert plan(nix, farm.second).paths == 2
    assert fault_of(substitute, nix, farm.second).kind is kind
    assert hash_part(farm.second) not in " ".join(nix_on_host.store_entries())


# --- signatures


def test_a_path_signed_by_a_stranger_is_refused_by_name(nix_on_host, farm):
    fault = fault_of(substitute, nix_on_host.nix(trusted_public_keys=(STRANGER,)), farm.second)

    assert fault.kind is Kind.SIGNATURE_UNTRUSTED
    assert farm.second in fault.message or "-system-path" in fault.message
    assert "trusted_public_keys" in fault.hint
    assert hash_part(farm.second) not in " ".join(nix_on_host.store_entries())


def test_one_of_several_trusted_keys_is_enough(nix_on_host, farm):
    nix = nix_on_host.nix(trusted_public_keys=(STRANGER, farm.farm.public_key))

    assert substitute(nix, farm.second).paths == 2


# --- the machine


def test_a_full_store_is_told(nix_on_host, farm, tmp_path):
    """Nix runs on a copy of the host's state, in a file system of its own that is nearly full."""
    mount = f"mount -t tmpfs -o size=32m none {tmp_path}/small"
    (tmp_path / "small").mkdir()
    private = ("unshare", "--mount", "--propagation", "private", "sh", "-euc")
    try:
        run_now((*private, mount), env=dict(nix_on_host.runner.environment))
    except (ProgramFailedError, ProgramMissingError) as error:
        pytest.skip(f"no private file system can be mounted here: {error}")
    state = nix_on_host.host.paths.root / "nix"
    script = f"""
        {mount}
        cp -a {state}/. {tmp_path}/small
        cat /dev/zero > {tmp_path}/small/filler 2>/dev/null || true
        truncate --size=-200K {tmp_path}/small/filler
        mount --bind {tmp_path}/small {state}
        exec {shutil.which("nix")} "$@"
    """
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/nix"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(private)} {shlex.quote(script)} nix "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}/bin:{nix_on_host.runner.environment['PATH']}"
    crowded = NixOnHost(farm, nix_on_host.host, {"PATH": path})

    fault = fault_of(substitute, crowded.nix(), farm.second)

    assert fault.kind is Kind.STORE_FULL
    assert "No space left on device" in fault.message


def test_a_machine_without_nix_says_so(farm, throwaway_host, tmp_path):
    bare = NixOnHost(farm, throwaway_host, {"PATH": str(tmp_path)})

    assert fault_of(plan, bare.nix(), farm.second).kind is Kind.NIX_MISSING
    assert fault_of(substitute, bare.nix(), farm.second).kind is Kind.NIX_MISSING


def test_a_fetch_past_its_deadline_is_ended(nix_on_host, farm, cache):
    stay_silent_on(cache, f"/{hash_part(farm.second)}.narinfo")
    nix = nix_on_host.nix(substituters=(cache.url,), deadline=0.5)

    assert fault_of(substitute, nix, farm.second).kind is Kind.NIX_TIMEOUT


def test_a_mark_that_cannot_be_made_fails_the_fetch(nix_on_host, farm, tmp_path):
    (tmp_path / "file").touch()
    nix = nix_on_host.nix(gc_root=tmp_path / "file" / "candidate")

    assert fault_of(substitute, nix, farm.second).kind is Kind.FETCH_FAILED


def test_what_nix_says_is_logged_as_plain_text(nix_on_host, farm):
    fault_of(substitute, nix_on_host.nix(), farm.unpublished)

    said = [
        fields["line"] for event, fields in nix_on_host.sink.said if event is events.PROGRAM_SPOKE
    ]
    assert (
        f"error: path '{farm.unpublished}' is required, but there is no substituter that can build it"
        in said
    )
