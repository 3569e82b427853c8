"""`agent flake-update run` with real nix, real git over a real remote, a forge and an ntfy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.ntfy_server import NtfyServer
from end_to_end.ssh_server import SshServer, find_sshd
from fake_forges.forgejo import ForgejoServer
from fake_forges.github import GitHubServer
from fake_forges.world import World


def branch():
    return f"flake-update-{datetime.now(UTC):%Y%m%d}"


class Office:
    """Where updates are proposed and told: real servers, and the desk that knows them."""

    def __init__(self, desk, server, kind):
        self.desk = desk
        self.site = desk.site
        self.pulls = server.world.pulls
        self.server = server
        token = desk.site.checkout.directory / "token"
        token.write_text("t0ken")
        token.chmod(0o400)
        self.token = token
        desk.set(
            "flake_update.forge",
            type=kind,
            url=server.url,
            repository=server.repository,
            token_file=str(token),
            labels=["automation"],
            assignees=["bob"],
            timeout="5s",
        )

    def tell(self, server):
        self.desk.set("notify", ntfy_server=server.url, ntfy_topic="nix-updates")


@pytest.fixture(params=["forgejo"])
def office(request, desk):
    make = {"forgejo": ForgejoServer, "github": GitHubServer}[request.param]
    with make(World(branches=desk.site.checkout.tips)) as server:
        yield Office(desk, server, request.param)


@pytest.fixture
def ntfy(office):
    with NtfyServer() as server:
        office.tell(server)
        yield server


@pytest.mark.parametrize("office", ["forgejo", "github"], indirect=True)
def test_an_update_is_proposed_once_and_told(office, ntfy):
    site = office.site
    before = site.checkout.state()
    site.release(linux="6.2")

    told = office.desk("run")

    assert told.code == 0, told.err
    tips = site.checkout.tips()
    assert set(tips) == {"main", branch()}
    assert site.locked(tips[branch()]) == site.upstream()
    assert site.checkout.git("rev-parse", f"{branch_tip(site)}^") == tips["main"]
    message = site.checkout.git("log", "-1", "--format=%B", tips[branch()])
    assert "\nweb:\n  linux: 6.1 → 6.2\n" in message
    assert site.checkout.git("log", "-1", "--format=%an <%ae>", tips[branch()]) == (
        "agent <agent@localhost>"
    )
    (pull,) = office.pulls
    assert (pull.head, pull.base) == (branch(), "main")
    assert pull.title == message.splitlines()[0]
    assert "### web\n```\nlinux: 6.1 → 6.2\n```" in pull.body
    assert (pull.labels, pull.assignees) == (["automation"], ["bob"])
    assert told.out.startswith(f"proposed ({branch()}): ")
    (message,) = ntfy.received
    assert message.title == "✅ Flake Updated Successfully"
    assert (message.priority, message.topic) == ("default", "nix-updates")
    assert set(message.tags) == {"white_check_mark", "flake"}
    assert message.message.startswith(
        f"Branch {branch()} created and pushed.\nAll builds passed: db web"
    )
    assert site.checkout.state() == before

    again = office.desk("run", "--json")
    assert (again.code, again.json["outcome"]) == (0, "already-proposed")
    assert len(office.pulls) == 1
    assert site.checkout.tips() == tips
    assert [one.priority for one in ntfy.received] == ["default", "low"]


def branch_tip(site):
    return site.checkout.tips()[branch()]


def test_a_dry_run_leaves_everything_as_it_is(office, ntfy):
    office.site.release(linux="6.2")
    before = office.site.checkout.state()
    told = office.desk("run", "--dry-run", "--json")
    assert (told.code, told.json["outcome"]) == (0, "dry-run")
    assert told.json["changed"] == ["web"]
    assert told.json["hosts"][1]["packages"][0]["name"] == "linux"
    assert set(office.site.checkout.tips()) == {"main"}
    assert (office.pulls, ntfy.received) == ([], [])
    assert office.site.checkout.state() == before


def test_nothing_to_do_is_told_at_low_priority(office, ntfy):
    told = office.desk("run")
    assert (told.code, told.out) == (0, "lock-unchanged\n")
    assert [(one.title, one.priority) for one in ntfy.received] == [
        ("ℹ️ No Flake Updates", "low")  # noqa: RUF001 - the sign is meant
    ]


def test_an_update_that_breaks_a_host_is_told_and_not_proposed(office, ntfy):
    office.site.release(nginx="broken-4", linux="6.2")
    told = office.desk("run")
    assert told.code == 1
    assert "cc: nginx-broken-4 is broken" in told.out
    assert told.err.rstrip().endswith("[hosts-broken]")
    assert set(office.site.checkout.tips()) == {"main"}
    assert office.pulls == []
    (message,) = ntfy.received
    assert (message.title, message.priority) == ("❌ Flake Update Build Failed", "high")
    assert set(message.tags) == {"x", "flake", "warning"}
    assert "Check logs: " in message.message


@pytest.mark.parametrize("version", ["broken-1", None])
def test_a_host_that_was_broken_before_is_named_and_blocks_only_if_it_is_required(
    office, ntfy, version
):
    site = office.site
    site.release(postgres=version)
    site.nix("flake", "update")
    site.checkout.commit({}, "Lock")
    site.checkout.git("push", "--quiet", "origin", "main")
    site.release(postgres=version, linux="6.2")
    office.desk.set("flake_update", require=["db"])
    required = office.desk("run")
    assert required.code == 1
    assert required.err.rstrip().endswith("[hosts-broken]")
    assert (set(site.checkout.tips()), office.pulls) == ({"main"}, [])
    office.desk.set("flake_update", require=[])

    proposed = office.desk("run")

    assert proposed.code == 0, proposed.err
    (pull,) = office.pulls
    assert "as before: " in pull.body
    assert "linux: 6.1 → 6.2" in pull.body
    assert "\nbroken as before: db\n" in site.checkout.git(
        "log", "-1", "--format=%B", site.checkout.tips()[pull.head]
    )
    assert "\nBroken as before: db\n" in ntfy.received[-1].message


@pytest.mark.long
def test_a_newer_update_of_the_day_refreshes_the_proposal(office):
    office.site.release(linux="6.2")
    office.desk("run")
    first = branch_tip(office.site)
    office.site.release(linux="6.3")
    assert office.desk("run").code == 0
    (pull,) = office.pulls
    assert "linux: 6.1 → 6.3" in pull.body
    assert branch_tip(office.site) != first


@pytest.mark.long
def test_an_update_goes_on_top_of_a_base_branch_that_moves(office):
    site = office.site
    site.release(linux="6.2")
    office.desk("run")
    site.checkout.commit({"README": "x"}, "Tell what it is")
    site.checkout.git("push", "--quiet", "origin", "main")
    assert office.desk("run").code == 0
    assert site.checkout.git("rev-parse", f"{branch_tip(site)}^") == site.checkout.tips()["main"]
    assert len(office.pulls) == 1


def test_without_a_forge_the_branch_is_pushed_and_told(desk):
    desk.site.release(linux="6.2")
    with NtfyServer() as ntfy:
        desk.set("notify", ntfy_server=ntfy.url, ntfy_topic="t")
        told = desk("run", "--json")
    assert (told.code, told.json["outcome"]) == (0, "pushed")
    assert set(desk.site.checkout.tips()) == {"main", branch()}
    assert len(ntfy.received) == 1


# Bad input: each has a name, and leaves nothing behind


@pytest.mark.parametrize(
    ("spoil", "code", "kind"),
    [
        (
            lambda site: site.checkout.git("remote", "rename", "origin", "other"),
            1,
            "remote-missing",
        ),
        (
            lambda site: site.checkout.remote.rename(site.checkout.remote.with_name("x")),
            69,
            "remote-unreachable",
        ),
        (
            lambda site: site.checkout.git(
                "branch", "-m", "main", "trunk", at=site.checkout.remote
            ),
            1,
            "base-missing",
        ),
        (lambda site: site.checkout.hook("pre-push", "exit 1"), 1, "hook-refused"),
        (
            lambda site: site.checkout.hook("pre-receive", "exit 1", of_remote=True),
            1,
            "hook-refused",
        ),
        (lambda site: site.base.rename(site.base.with_name("moved")), 1, "input-unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_has_a_name_and_leaves_nothing(desk, spoil, code, kind):
    site = desk.site
    site.release(linux="6.2")
    spoil(site)
    before = site.checkout.state()
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"]) == (
        code,
        kind,
    )
    assert site.checkout.state() == before
    if site.checkout.remote.exists():
        assert branch() not in site.checkout.tips()


@pytest.mark.parametrize(("mode", "kind"), [(0o444, "secret-exposed"), (None, "secret-missing")])
def test_a_token_that_cannot_be_used_is_told(office, ntfy, mode, kind):
    if mode is None:
        office.token.unlink()
    else:
        office.token.chmod(mode)
    told = office.desk("run")
    assert told.code == 78
    assert told.err.rstrip().endswith(f"[{kind}]")
    assert [one.priority for one in ntfy.received] == ["high"]


def test_a_forge_that_refuses_is_told_before_anything_is_built(office):
    office.token.chmod(0o600)
    office.token.write_text("wrong")
    office.site.release(linux="6.2")
    told = office.desk("run")
    assert told.code == 77
    assert told.err.rstrip().endswith("[forge-unauthorised]")
    assert set(office.site.checkout.tips()) == {"main"}


# Over SSH


@pytest.fixture(scope="session")
def sshd():
    return find_sshd()


@pytest.fixture
def ssh(sshd, tmp_path):
    with SshServer(tmp_path / "ssh", sshd) as server:
        yield server


def test_an_update_is_pushed_over_ssh_with_its_own_key(desk, ssh, monkeypatch):
    site = desk.site
    site.checkout.git("remote", "set-url", "origin", ssh.url(site.checkout.remote))
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command)
    site.release(linux="6.2")

    refused = desk("run", "--json")
    assert (refused.code, refused.json["error.kind"]) == (77, "remote-unauthorised")

    desk.set("flake_update", ssh_key_file=str(ssh.key))
    told = desk("run", "--json")
    assert (told.code, told.json["outcome"]) == (0, "pushed"), told.err
    assert site.locked(branch_tip(site)) == site.upstream()


@pytest.mark.parametrize("is_changed", [False, True], ids=["unknown", "changed"])
def test_a_server_that_is_not_the_known_one_is_not_trusted(desk, ssh, monkeypatch, is_changed):
    site = desk.site
    site.checkout.git("remote", "set-url", "origin", ssh.url(site.checkout.remote))
    other = (ssh.directory / "client.pub").read_text()
    known = f"[127.0.0.1]:{ssh.port} {other}" if is_changed else ""
    (ssh.directory / "known").write_text(known)
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command)
    desk.set("flake_update", ssh_key_file=str(ssh.key))
    told = desk("run", "--json")
    assert (told.code, told.json["error.kind"]) == (77, "remote-unauthorised")


# Where there is more to read


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "the output of agent flake-update run"),
        ({"INVOCATION_ID": "abc"}, "journalctl _SYSTEMD_INVOCATION_ID=abc"),
        (
            {
                "CI": "true",
                "GITHUB_SERVER_URL": "https://forge.example.org",
                "GITHUB_REPOSITORY": "team/nixos",
                "GITHUB_RUN_ID": "7",
            },
            "https://forge.example.org/team/nixos/actions/runs/7",
        ),
        (
            {
                "CI": "true",
                "GITEA_ACTIONS": "true",
                "GITHUB_SERVER_URL": "https://forge.example.org/",
                "GITHUB_REPOSITORY": "team/nixos",
                "GITHUB_RUN_ID": "12345",
                "GITHUB_RUN_NUMBER": "8",
            },
            "https://forge.example.org/team/nixos/actions/runs/8",
        ),
    ],
)
def test_a_failure_says_where_to_look(desk, monkeypatch, variables, place):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    desk.set("flake_update", remote="nonesuch")
    with NtfyServer() as ntfy:
        desk.set("notify", ntfy_server=ntfy.url, ntfy_topic="t")
        told = desk("run")
    assert told.code == 1
    assert ("::group::" in told.err) is ("CI" in variables)
    (message,) = ntfy.received
    assert message.message.endswith(f"[remote-missing]\nCheck logs: {place}")
    assert message.click == (place if place.startswith("https") else None)


def test_a_person_sees_steps_and_a_journal_gets_json(desk):
    desk.set("log", format="console")
    assert "── Fetching main ──" in desk("run").err
    desk.set("log", format="json")
    assert all(line.startswith("{") for line in desk("run").err.splitlines())
