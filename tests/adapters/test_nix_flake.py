"""nix for whole flakes, asked of the real one and its own store."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.adapters.nix.flake import NixFlake
from agent.adapters.process import Runner
from agent.domain.errors import Kind, NixError
from agent.domain.flake_update.comparison import Broken, Stage, System
from agent.domain.flake_update.package_change import PackageChange
from agent.domain.store_path import StorePath
from end_to_end.ssh_server import SshServer, find_sshd
from fakes.events import RememberedEvents, SteppedClock
from fleet_checkout import FleetCheckout

if TYPE_CHECKING:
    from pathlib import Path

    from agent.demo.layout import Layout

HOSTS = ("db", "iso-minimal", "web")


class Subject:
    """The adapter on a site of its own; `env` changes its environment."""

    def __init__(self, site, env=None, **changes):
        self.site = site
        self.flake = site.path
        self.sink = RememberedEvents()
        runner = Runner(self.sink, SteppedClock(), {**site.environment, **(env or {})})
        settings = {
            "store_dir": str(site.layout.store_dir),
            "roots": site.layout.root / "tmp" / f"roots-{id(self)}",
            "concurrency": 2,
            "hosts_at_once": 8,
            "local_builds": True,
            "deadline": 60.0,
        }
        self.nix = NixFlake(runner, self.sink, **{**settings, **changes})

    def evaluated(self, *hosts):
        return asyncio.run(self.nix.evaluate(self.flake, hosts or HOSTS))

    def kind_of(self, work):
        with pytest.raises(NixError) as caught:
            asyncio.run(work)
        assert caught.value.message
        return caught.value.kind


@pytest.fixture
def subject(site):
    return Subject(site)


def stub(tmp_path, script):
    """Return the environment in which `nix` and `nix-store` are a script."""
    directory = tmp_path / "stubs"
    directory.mkdir()
    for name in ("nix", "nix-store"):
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_the_hosts_of_a_flake_are_its_configurations(subject):
    assert asyncio.run(subject.nix.host_names(subject.flake)) == HOSTS


def test_a_flake_without_configurations_has_no_hosts(subject, site):
    assert asyncio.run(subject.nix.host_names(site.base)) == ()


def test_a_flake_that_cannot_be_read_is_a_fault(subject):
    (subject.flake / "flake.nix").write_text("{ nonsense")
    assert subject.kind_of(subject.nix.host_names(subject.flake)) is Kind.EVALUATION_FAILED


def test_all_hosts_are_evaluated_at_once(subject):
    found = subject.evaluated()
    assert {host for host, side in found.items() if isinstance(side, System)} == set(HOSTS)
    assert subject.sink.names().count("process.started") == 1
    assert found["web"].derivation.endswith("-nixos-system-web.drv")
    assert found["web"].toplevel.endswith("-nixos-system-web")


@pytest.mark.parametrize(
    ("concurrency", "hosts_at_once", "processes"), [(2, 1, 3), (2, 2, 3), (1, 2, 2), (2, 6, 1)]
)
def test_no_more_hosts_are_evaluated_at_once_than_may(site, concurrency, hosts_at_once, processes):
    """The memory of a process grows with each host that it evaluates."""
    subject = Subject(site, concurrency=concurrency, hosts_at_once=hosts_at_once)
    assert {type(side) for side in subject.evaluated().values()} == {System}
    names = [one for one in subject.sink.names() if one in ("process.started", "process.finished")]
    assert names.count("process.started") == processes
    if hosts_at_once == 1:
        assert names == ["process.started", "process.finished"] * 3


def test_a_nix_that_is_killed_says_nothing_of_a_host(nowhere, tmp_path):
    subject = Subject(nowhere, stub(tmp_path, "kill -9 $$"))
    with pytest.raises(NixError) as caught:
        subject.evaluated("web", "db")
    assert caught.value.kind is Kind.NIX_KILLED
    assert "flake_update.hosts_at_once" in caught.value.hint


def test_a_host_that_does_not_evaluate_keeps_no_other_from_it(subject, site):
    site.release(nginx=None)
    asyncio.run(subject.nix.update(subject.flake, ()))
    found = subject.evaluated()
    assert isinstance(found["db"], System)
    assert found["web"].stage is Stage.EVALUATION
    assert "attribute 'nginx' missing" in found["web"].reason
    assert "nginx" in found["web"].tail
    assert isinstance(subject.evaluated("web")["web"], Broken)
    assert "flake_update.evaluated_singly" in subject.sink.names()


def test_a_lock_file_that_does_not_fit_is_never_changed_by_an_evaluation(subject):
    flake = subject.flake / "flake.nix"
    flake.write_text(flake.read_text().replace("?ref=main", "?ref=main&dir=."))
    assert {type(side) for side in subject.evaluated().values()} == {Broken}


def test_an_input_that_is_not_locked_yet_is_locked_for_one_evaluation_alone(subject, site):
    flake = subject.flake / "flake.nix"
    new = f'{{ inputs.new.url = "git+file://{site.base}?ref=main";'
    flake.write_text(
        flake.read_text().replace("{", new, 1).replace("{ self, base }", "{ self, base, new }")
    )
    before = (subject.flake / "flake.lock").read_text()
    found = asyncio.run(subject.nix.evaluate(subject.flake, HOSTS, locks_new=True))
    assert {type(side) for side in found.values()} == {System}
    assert {type(side) for side in subject.evaluated().values()} == {Broken}
    assert (subject.flake / "flake.lock").read_text() == before


def test_hosts_with_odd_names_are_evaluated(update_store, tmp_path):
    odd = ('a"b', "${x}", "back\\slash", "web.example.org", "über")
    subject = Subject(FleetCheckout(update_store, tmp_path, dict.fromkeys(odd, ())))
    assert sorted(asyncio.run(subject.nix.host_names(subject.flake))) == sorted(odd)


def test_all_inputs_are_updated_or_those_that_are_named(subject, site):
    site.release(linux="6.2")
    asyncio.run(subject.nix.update(subject.flake, ("base",)))
    assert site.upstream() in (subject.flake / "flake.lock").read_text()
    site.release(linux="6.3")
    asyncio.run(subject.nix.update(subject.flake, ()))
    assert site.upstream() in (subject.flake / "flake.lock").read_text()


def test_an_input_that_is_gone_is_unavailable(subject, site):
    site.base.rename(site.base.with_name("elsewhere"))
    before = (subject.flake / "flake.lock").read_text()
    with pytest.raises(NixError, match=re.escape(str(site.base))) as caught:
        asyncio.run(subject.nix.update(subject.flake, ()))
    assert caught.value.kind is Kind.INPUT_UNAVAILABLE
    assert (subject.flake / "flake.lock").read_text() == before


def archive_of(flake):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(flake / "flake.nix", "input/flake.nix")
    return packed.getvalue()


def fault_of_update(subject):
    with pytest.raises(NixError) as caught:
        asyncio.run(subject.nix.update(subject.flake, ()))
    return caught.value


@pytest.mark.parametrize("inputs", [(), ("base",)], ids=["all", "named"])
def test_an_input_that_nix_has_from_its_cache_alone_is_unavailable(site, tmp_path, inputs):
    """nix warns, exits with 0 and locks what it has: the lock file would never change again."""
    flake = site.path / "flake.nix"
    with SshServer(tmp_path / "ssh", find_sshd()) as server:
        url = f"git+{server.url(site.base)}"
        flake.write_text(flake.read_text().replace(f"git+file://{site.base}", url))
        subject = Subject(site, {"GIT_SSH_COMMAND": f"{server.command} -i {server.key}"})
        asyncio.run(subject.nix.update(subject.flake, inputs))
        (server.directory / "authorised").write_text("")
        denied = fault_of_update(subject)
    down = fault_of_update(subject)
    assert denied.kind is down.kind is Kind.INPUT_UNAVAILABLE
    # nix 2.26 does not say which one.
    names = r"(?:the input 'base'|an input) cannot be fetched: "
    assert re.match(names, denied.message)
    assert "Permission denied (publickey" in denied.message
    assert "ssh key" in denied.hint
    assert re.match(f"{names}ssh: connect to host", down.message)


def test_an_archive_that_nix_has_from_its_cache_alone_is_unavailable(site):
    packed = archive_of(site.base)
    gone = faulty.answer(404, b"<p>no such\narchive</p>", faulty.HTML)
    good = faulty.answer(200, packed, "application/gzip", ETag='"1"')
    state = {"now": good}

    def behave(talk):
        state["now"](talk)

    with FaultyServer(behave) as server:
        flake = site.path / "flake.nix"
        url = f"{server.url}/input.tar.gz"
        flake.write_text(flake.read_text().replace(f"git+file://{site.base}?ref=main", url))
        subject = Subject(site)
        asyncio.run(subject.nix.update(subject.flake, ()))
        state["now"] = gone
        fault = fault_of_update(subject)
    assert fault.kind is Kind.INPUT_UNAVAILABLE
    assert fault.message.startswith("the input 'base' cannot be fetched: ")
    assert f"unable to download '{url}'" in fault.message
    assert "HTTP error 404" in fault.message
    assert "(no such archive" in fault.message


# src/libfetchers of nix 2.8, 2.26 and 2.34: what each fetcher says before it goes on and exits with 0.
CLONE = "warning: could not update local clone of Git repository 'X'; continuing with the most recent version"
HEAD = (
    "warning: could not get HEAD ref for repository 'X'; using expired cached ref 'refs/heads/main'"
)
FILE = "warning: error: unable to download 'X': Could not resolve host (6); using cached version"


@pytest.mark.parametrize("warning", [CLONE, HEAD, FILE], ids=["clone", "head", "file"])
@pytest.mark.parametrize(
    "url", ["https://host/a", "https://api.github.com/repos/own/lib/commits/b"]
)
def test_whatever_nix_takes_from_its_cache_is_named(nowhere, tmp_path, warning, url):
    """Also where so much is printed afterwards that the warning is long out of sight."""
    nodes = {
        "root": {"inputs": {"a": "a", "lib": "b", "other": "c"}},
        "a": {"original": {"type": "git", "url": "https://host/a"}, "locked": {"type": "git"}},
        "b": {
            "original": {"type": "github", "owner": "own", "repo": "lib"},
            "locked": {"type": "x"},
        },
        "c": {
            "original": {"type": "github", "owner": "own", "repo": "li"},
            "locked": {"type": "x"},
        },
    }
    (tmp_path / "flake.lock").write_text(json.dumps({"nodes": nodes, "root": "root"}))
    (tmp_path / "said").write_text("\n".join([warning.replace("X", url), *["• Updated"] * 500]))
    script = f"{VERSION}cat {tmp_path}/said >&2"
    fault = fault_of_update(Subject(nowhere, stub(tmp_path, script)))
    name = "a" if url.endswith("/a") else "lib"
    assert fault.message.startswith(f"the input '{name}' cannot be fetched: ")
    (tmp_path / "flake.lock").unlink()
    (tmp_path / "stubs").rename(tmp_path / "before")
    fault = fault_of_update(Subject(nowhere, stub(tmp_path, script)))
    assert fault.message.startswith(f"{url} cannot be fetched: ")


def test_a_flake_that_does_not_evaluate_cannot_be_updated(subject):
    (subject.flake / "flake.nix").write_text("{ inputs = 3; outputs = _: { }; }")
    assert subject.kind_of(subject.nix.update(subject.flake, ())) is Kind.EVALUATION_FAILED


def test_systems_are_built_once_and_kept_while_they_are_needed(fresh_site):
    subject = Subject(fresh_site)
    found = tuple(subject.evaluated().values())
    assert asyncio.run(subject.nix.realise(())) == {}
    assert asyncio.run(subject.nix.realise(found)) == {}
    assert asyncio.run(subject.nix.realise(found)) == {}
    builds = fresh_site.builds()
    assert sorted(builds) == sorted(set(builds))
    assert len(builds) == 6
    roots = {str(link.readlink()) for link in subject.nix._roots.iterdir()}
    assert roots == {one.toplevel for one in found}


def test_what_fails_is_told_with_its_log_and_the_rest_is_built(subject, site):
    site.release(nginx="broken-1")
    asyncio.run(subject.nix.update(subject.flake, ()))
    found = subject.evaluated()

    failed = asyncio.run(subject.nix.realise(tuple(found.values())))

    assert set(failed) == {found["web"].derivation}
    broken = failed[found["web"].derivation]
    assert broken.stage is Stage.BUILD
    assert broken.reason.endswith("-nginx-broken-1.drv failed")
    assert broken.tail == "cc: nginx-broken-1 is broken"
    assert site.builds().count("nginx-broken-1") == 1
    roots = {str(link.readlink()) for link in subject.nix._roots.iterdir()}
    assert roots == {found[host].toplevel for host in ("db", "iso-minimal")}


def test_two_hosts_that_share_what_fails_are_both_told_why(update_store, tmp_path):
    site = FleetCheckout(update_store, tmp_path, {"a": ("nginx", "linux"), "b": ("nginx",)})
    subject = Subject(site)
    site.release(nginx="broken-2")
    asyncio.run(subject.nix.update(subject.flake, ()))
    failed = asyncio.run(subject.nix.realise(tuple(subject.evaluated("a", "b").values())))
    assert {one.tail for one in failed.values()} == {"cc: nginx-broken-2 is broken"}
    assert len(failed) == 2
    assert site.builds().count("nginx-broken-2") == 1


def test_without_local_builds_nothing_is_built(site):
    site.release(linux="6.77")
    subject = Subject(site, local_builds=False)
    asyncio.run(subject.nix.update(subject.flake, ()))
    (found,) = subject.evaluated("web").values()
    failed = asyncio.run(subject.nix.realise((found,)))
    assert set(failed) == {found.derivation}
    assert site.builds() == []
    assert failed[found.derivation].reason


def test_packages_that_change_between_two_closures_are_told(subject, site):
    (before,) = subject.evaluated("web").values()
    site.release(linux="6.2")
    asyncio.run(subject.nix.update(subject.flake, ()))
    (after,) = subject.evaluated("web").values()
    asyncio.run(subject.nix.realise((before, after)))
    changes = asyncio.run(subject.nix.closure_diff(before.toplevel, after.toplevel))
    assert changes == (PackageChange("linux", ("6.1",), ("6.2",)),)
    assert asyncio.run(subject.nix.closure_diff(after.toplevel, after.toplevel)) == ()


def test_sizes_are_told_by_every_nix_in_its_own_way(subject, site):
    (before,) = subject.evaluated("web").values()
    site.release(nginx="1.28.large")
    asyncio.run(subject.nix.update(subject.flake, ()))
    (after,) = subject.evaluated("web").values()
    asyncio.run(subject.nix.realise((before, after)))
    (grown,) = asyncio.run(subject.nix.closure_diff(before.toplevel, after.toplevel))
    (shrunk,) = asyncio.run(subject.nix.closure_diff(after.toplevel, before.toplevel))
    assert (
        (grown.before, grown.after) == (shrunk.after, shrunk.before) == (("1.28",), ("1.28.large",))
    )
    assert grown.size == -shrunk.size
    assert grown.size == pytest.approx(20 * 513, abs=100)


def test_what_is_not_in_the_store_cannot_be_compared(subject):
    (found,) = subject.evaluated("web").values()
    gone = found.toplevel.replace("nixos-system", "nowhere")
    assert asyncio.run(subject.nix.closure_diff(gone, gone)) is None


FULL = "error: writing to file: No space left on device"
FAR = "ssh: connect to host forge port 22: Connection refused"
VERSION = '[ "$1" = --version ] && echo "nix (Nix) 2.26.3" && exit 0\n'


@dataclass(frozen=True)
class NoSite:
    """A directory where a stub takes nix's place, so that no flake is needed."""

    path: Path
    layout: Layout

    @property
    def environment(self):
        return self.layout.environment()


@pytest.fixture
def nowhere(update_store, tmp_path):
    return NoSite(tmp_path, update_store)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (f"{VERSION}echo '{FULL}' >&2; exit 1", Kind.STORE_FULL),
        (f"{VERSION}echo '{FAR}' >&2; exit 1", Kind.FLAKE_UNREACHABLE),
        ("echo nonsense", Kind.NIX_NONSENSE),
        ("exec sleep 60", Kind.NIX_TIMEOUT),
    ],
)
@pytest.mark.parametrize("method", ["host_names", "evaluate", "update"])
def test_what_goes_wrong_in_nix_has_a_name(nowhere, tmp_path, script, kind, method):
    limit = 0.1 if "sleep" in script else 10.0
    subject = Subject(nowhere, stub(tmp_path, script), deadline=limit)
    work = {
        "host_names": lambda: subject.nix.host_names(subject.flake),
        "evaluate": lambda: subject.nix.evaluate(subject.flake, ("web", "db")),
        "update": lambda: subject.nix.update(subject.flake, ("base",)),
    }[method]()
    assert subject.kind_of(work) is kind


def test_no_host_is_broken_because_an_input_is_out_of_reach(nowhere, tmp_path):
    script = f"""case "$*" in *db*) echo "error: attribute missing" >&2 ;; *) echo "{FAR}" >&2 ;; esac
exit 1"""
    subject = Subject(nowhere, stub(tmp_path, script))
    asked = subject.nix.evaluate(subject.flake, ("web", "db"))
    assert subject.kind_of(asked) is Kind.FLAKE_UNREACHABLE


def test_no_host_is_broken_because_a_cache_is_out_of_reach(nowhere, tmp_path):
    said = "warning: unable to download 'http://c/nix-cache-info': Couldn't connect to server (7)"
    script = f'case "$*" in *print-invalid*) ;; *) echo "{said}" >&2; exit 1 ;; esac'
    subject = Subject(nowhere, stub(tmp_path, script))
    name = f"{nowhere.layout.store_dir}/7riksv2whx6mhpvhbw2dl05fps937a09-x"
    system = System(StorePath(f"{name}.drv"), StorePath(name))
    assert subject.kind_of(subject.nix.realise((system,))) is Kind.CACHE_UNREACHABLE


def test_a_full_store_ends_a_build(nowhere, tmp_path):
    full = Subject(nowhere, stub(tmp_path, f"echo '{FULL}' >&2; exit 1"))
    name = f"{nowhere.layout.store_dir}/7riksv2whx6mhpvhbw2dl05fps937a09-x"
    system = System(StorePath(f"{name}.drv"), StorePath(name))
    assert full.kind_of(full.nix.realise((system,))) is Kind.STORE_FULL


@pytest.mark.parametrize(
    "printed", ["[3]", '["a\\nb"]', '{"web": 1}', '{"web": {"derivation": "x"}}']
)
def test_what_nix_prints_is_never_taken_on_trust(nowhere, tmp_path, printed):
    subject = Subject(nowhere, stub(tmp_path, f"cat <<'END'\n{printed}\nEND"))
    assert subject.kind_of(subject.nix.host_names(subject.flake)) is Kind.NIX_NONSENSE
    assert subject.kind_of(subject.nix.evaluate(subject.flake, ("web",))) is Kind.NIX_NONSENSE


def test_a_missing_nix_is_told(nowhere, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    subject = Subject(nowhere, {"PATH": str(empty)})
    assert subject.kind_of(subject.nix.host_names(subject.flake)) is Kind.NIX_MISSING


@pytest.mark.parametrize(
    ("version", "argv"),
    [
        ("nix (Nix) 2.8.0", "flake lock --update-input a --update-input b"),
        ("nix (Nix) 2.18.9", "flake lock --update-input a --update-input b"),
        ("nix (Nix) 2.19.1", "flake update a b"),
        ("nix (Lix, like Nix) 2.91.0", "flake update a b"),
        ("nix (Nix) 3.0.0", "flake update a b"),
    ],
)
def test_each_nix_is_told_the_inputs_in_its_own_way(nowhere, tmp_path, version, argv):
    script = f'[ "$1" = --version ] && echo "{version}" || echo "$@" >> "{tmp_path}/asked"'
    subject = Subject(nowhere, stub(tmp_path, script))
    asyncio.run(subject.nix.update(subject.flake, ("a", "b")))
    assert (tmp_path / "asked").read_text().endswith(f"{argv}\n")


def test_no_more_processes_are_at_work_at_once_than_may(nowhere, tmp_path):
    at_work = tmp_path / "at-work"
    at_work.mkdir()
    script = f"""
    me=$(mktemp -p {at_work})
    ls {at_work} | wc -l >> {tmp_path}/counts
    sleep 0.05
    rm "$me"
    exit 1
    """
    subject = Subject(nowhere, stub(tmp_path, script), concurrency=2, hosts_at_once=12)
    assert len(subject.evaluated(*"abcdef")) == 6
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert (len(counts), max(counts)) == (7, 2)
