"""What the real nix fetches of a flake, and what it does not, when the agent asks."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.adapters.nix.environment import confinement
from agent.adapters.resolver import SystemResolver
from agent.application.facts.fetchable import require_fetchable
from agent.domain.errors import Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.origin import UrlPrefix
from agent.domain.trust import fault_of, refusals, wanted_of_source
from built_systems import HOST
from fakes.world import World

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "the host's own key"
WRONG = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


class Repository:
    """A flake in git, and something private beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "flake"
        self.root.mkdir(parents=True)
        self.secret = root / "secret"
        self.secret.mkdir()
        (self.secret / "key").write_text(SECRET)
        self._git("init", "--quiet", "--initial-branch=main")

    @property
    def prefix(self) -> UrlPrefix:
        return UrlPrefix(f"git+file://{self.root}")

    def flake(self, nix: str, lock: str | None = None, **files: str) -> LockedFlakeReference:
        """Commit a flake and return its reference."""
        (self.root / "flake.nix").write_text(nix)
        if lock is not None:
            (self.root / "flake.lock").write_text(lock)
        for name, text in files.items():
            (self.root / name).write_text(text)
        return self.commit()

    def commit(self) -> LockedFlakeReference:
        self._git("add", "--all")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
        return LockedFlakeReference(f"git+file://{self.root}?ref=main&rev={self.revision}")

    @property
    def revision(self) -> str:
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        argv = ("git", "-C", str(self.root), *arguments)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def is_in_store(on, text: str) -> bool:
    files = (path for path in on.host.paths.store_dir.glob("*/**/*") if path.is_file())
    return any(text in path.read_text(errors="replace") for path in files)


def source_of(on, repository, flake):
    nix = on.nix(allow_insecure=(repository.prefix,))
    return asyncio.run(nix.fetch_source(flake))


def refused(source) -> NixError:
    return fault_of(list(refusals(wanted_of_source(source), ())), ())


def locked(**attributes: object) -> str:
    node = {"locked": attributes, "original": attributes}
    nodes = {"root": {"inputs": {"x": "x"}}, "x": {**node, "flake": False}}
    return json.dumps({"nodes": nodes, "root": "root", "version": 7})


def test_a_source_is_read_without_any_of_its_inputs(nix_on_host, repository):
    path = str(repository.secret)
    lock = locked(type="path", path=path, narHash=WRONG, lastModified=1)
    flake = repository.flake(
        f'{{ inputs.x.url = "path:{path}"; inputs.x.flake = false; outputs = _: {{ }}; }}', lock
    )

    source = source_of(nix_on_host, repository, flake)

    assert source.lock == lock
    assert json.loads(source.inputs) == {"x": {"flake": False, "url": f"path:{path}"}}
    assert f"(path:{path})" in refused(source).message
    assert not is_in_store(nix_on_host, SECRET)


def test_an_input_that_the_lock_file_lacks_is_seen_before_nix_fetches_it(nix_on_host, repository):
    path = str(repository.secret)
    flake = repository.flake(
        f"{{ inputs.x = {{ url = {path}; flake = false; }}; outputs = _: {{ }}; }}",
        '{"nodes":{"root":{}},"root":"root","version":7}',
    )

    fault = refused(source_of(nix_on_host, repository, flake))

    assert fault.kind is Kind.FLAKE_INSECURE
    assert not is_in_store(nix_on_host, SECRET)


def test_a_flake_in_a_directory_of_its_tree_is_read_there(nix_on_host, repository):
    (repository.root / "hosts").mkdir()
    (repository.root / "hosts/flake.nix").write_text(
        "{ inputs.lib.url = ./lib; outputs = _: { }; }"
    )
    (repository.root / "hosts/flake.lock").write_text(locked(type="path", path="../lib"))
    flake = LockedFlakeReference(f"{repository.commit()}&dir=hosts")

    source = source_of(nix_on_host, repository, flake)

    assert source.directory == "hosts"
    assert json.loads(source.inputs) == {"lib": {"url": "./lib"}}
    assert list(refusals(wanted_of_source(source), ())) == []


@pytest.mark.parametrize("name", ["flake.lock", "flake.nix"])
def test_a_link_that_leads_out_of_the_tree_is_not_followed(nix_on_host, repository, name):
    (repository.root / "flake.nix").write_text("{ outputs = _: { }; }")
    (repository.root / name).unlink(missing_ok=True)
    (repository.root / name).symlink_to(repository.secret / "key")

    with pytest.raises(NixError) as caught:
        source_of(nix_on_host, repository, repository.commit())

    assert SECRET not in str(caught.value)


def test_what_flake_nix_declares_can_reach_nothing_else(nix_on_host, repository):
    key = repository.secret / "key"
    flake = repository.flake(f'{{ inputs.x.url = builtins.readFile "{key}"; outputs = _: {{ }}; }}')

    with pytest.raises(NixError, match="restricted mode") as caught:
        source_of(nix_on_host, repository, flake)

    assert caught.value.kind is Kind.EVALUATION_FAILED
    assert SECRET not in str(caught.value)


def test_a_flake_without_flake_nix_or_of_an_unknown_revision_is_a_fault(nix_on_host, repository):
    (repository.root / "README").write_text("x")
    flake = repository.commit()
    for reference in (flake, LockedFlakeReference(f"git+file://{repository.root}?rev={'0' * 40}")):
        with pytest.raises(NixError) as caught:
            source_of(nix_on_host, repository, reference)
        assert caught.value.kind is Kind.EVALUATION_FAILED


def test_a_flakes_code_cannot_make_nix_ask_this_host(nix_on_host, repository):
    flake = repository.flake(
        "{ outputs = _: { nixosConfigurations.web-1.config.system.build.toplevel.outPath ="
        ' builtins.readFile (builtins.fetchurl { url = "http://127.0.0.1:1/";'
        ' sha256 = "0000000000000000000000000000000000000000000000000000"; }); }; }',
        '{"nodes":{"root":{}},"root":"root","version":7}',
    )
    nix = nix_on_host.nix(allow_insecure=(repository.prefix,))

    with pytest.raises(NixError, match="forbidden in restricted mode"):
        asyncio.run(nix.evaluate_toplevel(flake, HOST))


@pytest.fixture
def dependency(tmp_path, repository):
    """Another flake, which wants what is private on this host."""
    other = Repository(tmp_path / "other")
    path = repository.secret
    other.flake(f'{{ inputs.y = {{ url = "path:{path}"; flake = false; }}; outputs = _: {{ }}; }}')
    return other


def look_and_evaluate(on, flake, *repositories):
    """Do what a run does: judge what a flake would bring, and evaluate it."""
    allowed = tuple(each.prefix for each in repositories)
    nix = on.nix(allow_insecure=allowed)

    async def go() -> None:
        await require_fetchable(replace(World().ports, nix=nix), allowed, flake)
        await nix.evaluate_toplevel(flake, HOST)

    asyncio.run(go())


def test_what_an_input_wants_that_the_lock_file_lacks_is_not_fetched(
    nix_on_host, repository, dependency
):
    wants = f'{{ inputs.x.url = "{dependency.prefix}"; outputs = _: {{ }}; }}'
    flake = repository.flake(wants, '{"nodes":{"root":{}},"root":"root","version":7}')

    with pytest.raises(NixError, match=f"path:{repository.secret}") as caught:
        look_and_evaluate(nix_on_host, flake, repository, dependency)

    assert caught.value.kind is Kind.FLAKE_INSECURE
    assert not is_in_store(nix_on_host, SECRET)


def test_what_an_input_wants_that_another_is_said_to_be_is_not_fetched(
    nix_on_host, repository, dependency
):
    place = {"type": "git", "url": dependency.prefix.removeprefix("git+"), "ref": "main"}
    node = {"locked": {**place, "rev": dependency.revision}, "original": place}
    nodes = {
        "root": {"inputs": {"x": "x", "z": "z"}},
        "x": {**node, "inputs": {"y": ["z"]}},
        "z": {**node, "flake": False},
    }
    wants = f'{{ inputs.x.url = "{dependency.prefix}?ref=main"; outputs = _: {{ }}; }}'
    lock = json.dumps({"nodes": nodes, "root": "root", "version": 7})
    flake = repository.flake(wants, lock)

    with pytest.raises(NixError, match=f"path:{repository.secret}") as caught:
        look_and_evaluate(nix_on_host, flake, repository, dependency)

    assert caught.value.kind is Kind.FLAKE_INSECURE
    assert not is_in_store(nix_on_host, SECRET)


def test_git_is_kept_to_what_the_settings_allow():
    def protocols(*prefixes: str) -> str:
        return confinement({}, (), tuple(map(UrlPrefix, prefixes)))["GIT_ALLOW_PROTOCOL"]

    assert protocols() == "https:ssh"
    assert protocols("git+file:///srv/x", "http://h/") == "https:ssh:file:http"
    assert "NIX_CONFIG" not in confinement({}, ("--impure",), ())
    told = confinement({"NIX_CONFIG": "cores = 1"}, (), (UrlPrefix("git+http://h"),))["NIX_CONFIG"]
    assert told.startswith("cores = 1\nrestrict-eval = true\nextra-allowed-uris = ")
    assert {"git+http://h/", "http://h/", "github:"} <= set(told.split())


@pytest.mark.parametrize(
    ("prefix", "uri"),
    [
        ("path:/etc/nixos", "path:/etc/nixos"),
        ("git+file:///root/config/", "git+file:///root/config"),
        ("git+file:///home/ann/config", "git+file:///home/ann/config"),
        ("file:///var/lib/x.tar.gz", "file:///var/lib/x.tar.gz"),
        ("path:/srv", "path:/srv"),
        ("git+file:///srv/nix-config", "git+file:///srv/"),
        ("git+file:///srv/git/nix-config/", "git+file:///srv/git/"),
        ("http://127.0.0.1:8080/x/y.tar.gz", "http://127.0.0.1:8080/x/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
    ],
)
def test_what_is_allowed_does_not_open_what_is_private_beside_it(prefix, uri):
    known = confinement({}, (), ())["NIX_CONFIG"].split()
    told = confinement({}, (), (UrlPrefix(prefix),))["NIX_CONFIG"].split()
    bare = uri.split("+", 1)[-1]
    assert set(told) - set(known) == {uri, bare}


def test_the_resolver_tells_what_it_knows():
    def ask(host: str, **environment: str):
        return asyncio.run(SystemResolver(environment).addresses(host))

    assert "127.0.0.1" in (ask("localhost") or ())
    assert ask("192.0.2.7") == ("192.0.2.7",)
    assert ask("x" * 64) == ()
    assert ask("nonesuch.invalid", https_proxy="http://127.0.0.1:1") == ()
