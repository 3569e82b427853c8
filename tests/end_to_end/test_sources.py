"""A flake that a host has from a server, by the whole command line: real nix, git, ssh and sshd."""

from __future__ import annotations

import getpass
import subprocess

import pytest

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from end_to_end.machine import assert_fault
from end_to_end.ssh_server import SshServer, find_sshd

LIMITED = b'{"message":"API rate limit exceeded for 192.0.2.1.","documentation_url":"x"}'
HASH = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture(name="far")
def _far(machine, tmp_path):
    """Return a function that offers the second system, of a flake of another origin.

    The machine's nix has fetched nothing yet: it knows a revision again from wherever it was.
    """
    machine.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    machine.offer(machine.farm.first)

    def offer(origin, flake):
        machine.configure(trust={"allow_insecure": [machine.farm.farm.origin, origin]})
        machine.offer(machine.farm.second, flake=flake)
        return machine

    return offer


def test_a_flake_over_ssh_and_what_may_keep_it_from_a_host(far, farm, tmp_path):
    """One server for all of it: it takes its time to start."""
    other = tmp_path / "other"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)), check=True)
    server = SshServer(tmp_path / "ssh", find_sshd())
    known = server.directory / "known"
    changed = tmp_path / "changed"
    changed.write_text(f"[127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}")
    machine = far(
        f"git+ssh://127.0.0.1:{server.port}",
        f"git+{server.url(farm.farm.hosts)}?ref=main&rev={farm.revision}",
    )

    def upgrade(*arguments, key=server.key, known=known):
        command = (
            f"ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile={known}"
        )
        return machine.upgrade(*arguments, GIT_SSH_COMMAND=f"{command} -i {key}")

    def refused(**how):
        # What is dry is not remembered: the next run would hold for a while.
        told = assert_fault(upgrade("--dry-run", **how), "evaluation-failed", 1)
        return told["error.message"], told["error.hint"]

    told = assert_fault(upgrade(), "flake-unreachable", 69)
    assert f"connect to host 127.0.0.1 port {server.port}: Connection ref" in told["error.message"]
    with server:
        message, hint = refused(known="/dev/null")
        assert "Host key verification failed" in message
        assert "known_hosts" in hint
        message, hint = refused(known=changed)
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in message
        assert "new key on purpose" in hint
        message, hint = refused(key=other)
        assert f"{getpass.getuser()}@127.0.0.1: Permission denied (publickey" in message
        assert "ssh key" in hint
        run = upgrade()
    assert run.outcome == (0, "confirmed")
    assert run.after.running == farm.second


REFUSALS = {
    "GitHub's limit": (403, LIMITED, "flake-unreachable", 69),
    "nothing there": (404, b'{"message":"Not Found"}', "evaluation-failed", 1),
}
SAID = {
    "GitHub's limit": ("API rate limit exceeded for 192.0.2.1.", "access-tokens"),
    "nothing there": ("Not Found", "netrc-file"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_server_that_does_not_give_the_flake_is_quoted(far, case):
    status, body, kind, code = REFUSALS[case]
    with FaultyServer(faulty.answer(status, body)) as server:
        machine = far(server.url, f"{server.url}/x.tar.gz?narHash={HASH}&rev={'1' * 40}")
        told = assert_fault(machine.upgrade(), kind, code)
    message, hint = SAID[case]
    assert f"HTTP error {status}" in told["error.message"]
    assert message in told["error.message"]
    assert hint in told["error.hint"]
