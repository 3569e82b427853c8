"""Sources that real nix, git and ssh cannot have, from real servers on loopback: why, in their words."""

from __future__ import annotations

import asyncio
import getpass
import re
import subprocess

import pytest

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.domain.errors import Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.origin import UrlPrefix
from agent.domain.store_path import StorePath
from end_to_end.ssh_server import SshServer, find_sshd
from nix_on_host import NixOnHost

REVISION = "1" * 40
HASH = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
NAME = "ihs4i100w5whfq8hdr9ngmf2108hpj5r-nixos-system-h-1"
LIMITED = b'{"message":"API rate limit exceeded for 192.0.2.1.","documentation_url":"x"}'
IDLE_SSH = "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes"


def fault_of(nix, flake, *, evaluates=False) -> NixError:
    flake = LockedFlakeReference(flake)
    asked = nix.evaluate_toplevel(flake, "web-1") if evaluates else nix.fetch_source(flake)
    with pytest.raises(NixError) as caught:
        asyncio.run(asked)
    return caught.value


@pytest.mark.parametrize("evaluates", [False, True], ids=["source", "evaluation"])
def test_a_server_is_quoted(nix_on_host, evaluates):
    def ask(status, body):
        with FaultyServer(faulty.answer(status, body)) as server:
            nix = nix_on_host.nix(allow_insecure=(UrlPrefix(server.url),))
            found = fault_of(nix, f"{server.url}/x.tar.gz?narHash={HASH}", evaluates=evaluates)
        assert f"HTTP error {status}" in found.message
        return found

    limited = ask(403, LIMITED)
    assert limited.kind is Kind.FLAKE_UNREACHABLE
    assert "API rate limit exceeded for 192.0.2.1." in limited.message
    assert "access-tokens" in limited.hint
    down = ask(503, b"down until noon")
    assert down.kind is Kind.FLAKE_UNREACHABLE
    assert "(down until noon)" in down.message
    gone = ask(404, b'{"message":"Not Found"}')
    assert gone.kind is Kind.EVALUATION_FAILED
    assert "Not Found" in gone.message
    assert "netrc-file" in gone.hint


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (503, Kind.FLAKE_UNREACHABLE, "The requested URL returned error: 503"),
        (403, Kind.EVALUATION_FAILED, "The requested URL returned error: 403"),
        (401, Kind.EVALUATION_FAILED, "could not read Username"),
    ],
)
def test_git_is_quoted(nix_on_host, status, kind, words):
    with FaultyServer(faulty.answer(status, b"no", WWW_Authenticate="Basic")) as server:
        nix = nix_on_host.nix(allow_insecure=(UrlPrefix(f"git+{server.url}"),))
        found = fault_of(nix, f"git+{server.url}/x?ref=main&rev={REVISION}")
    assert found.kind is kind
    assert words in found.message


def test_ssh_is_quoted(farm, throwaway_host, tmp_path):
    """One server for all of it: it takes its time to start."""

    def ask(command, path):
        on = NixOnHost(farm, throwaway_host, {"GIT_SSH_COMMAND": command})
        return fault_of(on.nix(), f"git+{server.url(path)}?ref=main&rev={REVISION}")

    def ask_cache(command):
        options = f"{command.removeprefix('ssh ')} -p {server.port}"
        on = NixOnHost(farm, throwaway_host, {"NIX_SSHOPTS": options})
        nix = on.nix(substituters=(f"ssh://{getpass.getuser()}@127.0.0.1",))
        with pytest.raises(NixError) as caught:
            asyncio.run(nix.plan_fetch(StorePath(f"{farm.store_dir}/{NAME}")))
        return caught.value

    subprocess.run(("git", "init", "--quiet", "--bare", str(tmp_path / "repo")), check=True)
    with SshServer(tmp_path / "ssh", find_sshd()) as server:
        unknown = ask(f"{IDLE_SSH} -o UserKnownHostsFile=/dev/null", tmp_path / "a")
        other = tmp_path / "other"
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
        subprocess.run(make, check=True)
        key = (tmp_path / "key.pub").read_text()
        other.write_text(f"[127.0.0.1]:{server.port} {key}")
        changed = ask(f"{IDLE_SSH} -o UserKnownHostsFile={other}", tmp_path / "b")
        trusting = f"{IDLE_SSH} -o UserKnownHostsFile={server.directory}/known"
        denied = ask(f"{trusting} -i {tmp_path}/key", tmp_path / "c")
        denied_cache = ask_cache(f"{trusting} -i {tmp_path}/key")
        gone = ask(f"{trusting} -i {server.key}", tmp_path / "d")
        empty = ask(f"{trusting} -i {server.key}", tmp_path / "repo")
    refused = ask(f"{trusting} -i {server.key}", tmp_path / "e")
    refused_cache = ask_cache(trusting)

    assert "Host key verification failed" in unknown.message
    assert "known_hosts" in unknown.hint
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in changed.message
    assert "Permission denied (publickey" in denied.message
    assert "ssh key" in denied.hint
    assert "does not appear to be a git repository" in gone.message
    # nix 2.8, and 2.26
    assert re.search("refs/heads/main|the rev exists on the ref", empty.message)
    assert "Connection refused" in refused.message
    kinds = [one.kind for one in (unknown, changed, denied, gone, empty)]
    assert kinds == [Kind.EVALUATION_FAILED] * 5
    assert refused.kind is Kind.FLAKE_UNREACHABLE
    assert refused.exit_code == 69
    assert "Permission denied (publickey" in denied_cache.message
    assert denied_cache.kind is Kind.FETCH_FAILED
    assert "Connection refused" in refused_cache.message
    assert refused_cache.kind is Kind.CACHE_UNREACHABLE


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (503, Kind.CACHE_UNREACHABLE, "(restarting)"),
        (429, Kind.CACHE_UNREACHABLE, "HTTP error 429"),
    ],
)
def test_a_cache_is_quoted(nix_on_host, farm, status, kind, words):
    with FaultyServer(faulty.answer(status, b"restarting")) as server:
        nix = nix_on_host.nix(substituters=(server.url,))
        with pytest.raises(NixError) as caught:
            asyncio.run(nix.plan_fetch(StorePath(f"{farm.store_dir}/{NAME}")))
    assert caught.value.kind is kind
    assert words in caught.value.message
