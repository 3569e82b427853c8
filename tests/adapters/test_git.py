"""git alone: what it leaves behind, what it refuses, and how that is called."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

from adapters.checkout import Checkout
from agent.adapters.git.faults import fault_of, fault_of_commit, fault_of_push
from agent.adapters.git.repository import Identity
from agent.adapters.process import Completed
from agent.domain.errors import GitError, Kind
from agent.domain.flake_update.lock_file import LOCK_FILE, MAX_SIZE

FILES = {"flake.nix": "{ }\n", LOCK_FILE: "{}\n"}
BRANCH = "flake-update-20261219"


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path, FILES)


async def publish(repository, text="{ }\n"):
    """Do all that a run does with git."""
    with repository.hold():
        await repository.prepare()
        tips = await repository.remote_branches("main", ["flake-update-"])
        async with repository.worktree(tips["main"]) as flake:
            repository.put(flake, LOCK_FILE, text)
            revision = await repository.commit(flake, "Update\n")
            await repository.push(revision, BRANCH, tips.get(BRANCH))
            return revision


def fault_in(work):
    with pytest.raises(GitError) as caught:
        asyncio.run(work)
    assert caught.value.message
    return caught.value.kind


def test_the_checkout_stays_as_it_is_however_it_is(checkout):
    checkout.git("checkout", "--quiet", "--detach")
    (checkout.path / "flake.nix").write_text("{ dirty = true; }\n")
    (checkout.path / "staged").write_text("x")
    checkout.git("add", "staged")
    (checkout.path / "untracked").write_text("x")
    before = checkout.state()

    revision = asyncio.run(publish(checkout.repository()))

    assert checkout.state() == before
    assert checkout.tips()[BRANCH] == revision
    assert list(checkout.scratch.iterdir()) == []


def test_a_local_base_that_has_diverged_does_not_matter(checkout):
    theirs = checkout.tips()["main"]
    checkout.commit({"mine": "x"}, "Not pushed")
    before = checkout.state()
    revision = asyncio.run(publish(checkout.repository()))
    assert checkout.git("rev-parse", f"{revision}^") == theirs
    assert checkout.state() == before


def test_a_flake_below_the_top_is_found_in_its_worktree(tmp_path):
    checkout = Checkout(tmp_path, {f"hosts/nix/{name}": text for name, text in FILES.items()})
    repository = checkout.repository(flake=checkout.path / "hosts/nix")
    (checkout.path / "hosts/nix/flake.nix").write_text("{ dirty = true; }\n")

    async def work():
        await repository.prepare()
        head = await repository.head()
        assert await repository.file_at(head, LOCK_FILE) == "{}\n"
        async with repository.worktree(head) as flake:
            await repository.copy_changes(flake)
            assert repository.text_in(flake, "flake.nix") == "{ dirty = true; }\n"

    asyncio.run(work())
    revision = asyncio.run(publish(repository))
    assert checkout.git("show", f"{revision}:hosts/nix/{LOCK_FILE}") == "{ }"


def test_how_git_is_configured_and_hooked_for_people_does_not_matter(checkout):
    checkout.hook("post-checkout", "exit 1")
    for name, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.external": "false",
        "diff.relative": "true",
        "color.ui": "always",
        "apply.whitespace": "error",
        "core.editor": "false",
        "commit.verbose": "true",
        "push.followTags": "true",
    }.items():
        checkout.git("config", name, value)
    (checkout.path / "flake.nix").write_text("{ dirty = true; } \n")
    repository = checkout.repository()

    async def copy():
        async with repository.worktree(await repository.head()) as flake:
            await repository.copy_changes(flake)
            return repository.text_in(flake, "flake.nix")

    assert asyncio.run(copy()) == "{ dirty = true; } \n"
    assert asyncio.run(publish(repository)) == checkout.tips()[BRANCH]


def test_what_a_killed_run_has_left_is_removed_by_the_next(checkout):
    left = checkout.directory / "nixos-hydra-agent-update-dead"
    left.mkdir()
    checkout.git("worktree", "add", "--quiet", "--detach", str(left / "worktree-1"))
    gone = checkout.directory / "nixos-hydra-agent-update-gone"
    gone.mkdir()
    checkout.git("worktree", "add", "--quiet", "--detach", str(gone / "worktree-1"))
    shutil.rmtree(gone)
    mine = checkout.directory / "my-worktree"
    checkout.git("worktree", "add", "--quiet", "--detach", str(mine))
    moved = checkout.directory / "on-another-disk"
    checkout.git("worktree", "add", "--quiet", "--detach", str(moved))
    moved.rename(checkout.directory / "unplugged")

    asyncio.run(publish(checkout.repository()))

    assert not left.exists()
    told = checkout.git("worktree", "list")
    assert "nixos-hydra-agent" not in told
    assert str(mine) in told
    assert str(moved) in told


def test_no_branch_of_the_repository_is_moved_by_a_fetch(checkout):
    asyncio.run(publish(checkout.repository()))
    refs = checkout.git("for-each-ref", "--format=%(refname)").splitlines()
    assert "refs/heads/main" in refs
    assert [ref for ref in refs if ref.startswith("refs/heads/")] == ["refs/heads/main"]
    assert not (checkout.path / ".git/FETCH_HEAD").exists()


# In whose name


def test_the_author_is_whoever_is_configured(checkout):
    revision = asyncio.run(publish(checkout.repository(identity=Identity("Bot", "bot@x"))))
    assert checkout.git("log", "-1", "--format=%an %ae %cn", revision) == "Bot bot@x Bot"


def test_a_committer_is_another_than_the_author(checkout):
    identity = Identity("Bot", "bot@x", committer_name="Team", committer_mail="team@x")
    revision = asyncio.run(publish(checkout.repository(identity=identity)))
    shown = checkout.git("log", "-1", "--format=%an %ae, %cn %ce", revision)
    assert shown == "Bot bot@x, Team team@x"


def test_without_any_identity_there_is_no_commit(checkout):
    lonely = {"EMAIL": "", "GIT_CONFIG_COUNT": "1"}
    config = {"GIT_CONFIG_KEY_0": "user.useConfigOnly", "GIT_CONFIG_VALUE_0": "true"}
    repository = checkout.repository(identity=Identity(), env={**lonely, **config})
    assert fault_in(publish(repository)) is Kind.IDENTITY_MISSING
    assert set(checkout.tips()) == {"main"}


def test_a_commit_is_signed_with_an_ssh_key(checkout):
    key = checkout.home / "key"
    subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", str(key)), check=True
    )
    public = key.with_suffix(".pub").read_text()
    signers = checkout.home / "signers"
    signers.write_text(f"agent@localhost {public}")
    identity = Identity("agent", "agent@localhost", "ssh", str(key))
    revision = asyncio.run(publish(checkout.repository(identity=identity)))
    verify = ("-c", f"gpg.ssh.allowedSignersFile={signers}", "log", "-1", "--format=%G?", revision)
    assert checkout.git(*verify) == "G"


@pytest.mark.skipif(
    shutil.which("gpg") is None or shutil.which("gpg-agent") is None, reason="no gpg on PATH"
)
def test_a_commit_is_signed_with_a_gpg_key(checkout, tmp_path_factory):
    home = tmp_path_factory.mktemp("g")  # a short path: gpg-agent's socket lies in it
    home.chmod(0o700)
    env = {"GNUPGHOME": str(home)}
    made = (
        "gpg",
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--quick-generate-key",
        "agent@localhost",
    )
    subprocess.run((*made, "ed25519", "sign", "never"), env={**os.environ, **env}, check=True)
    try:
        identity = Identity("agent", "agent@localhost", "openpgp", "agent@localhost")
        revision = asyncio.run(publish(checkout.repository(identity=identity, env=env)))
        checkout.environment |= env
        assert checkout.git("log", "-1", "--format=%G?", revision) in "GU"
    finally:
        subprocess.run(("gpgconf", "--kill", "all"), env={**os.environ, **env}, check=False)


@pytest.mark.parametrize("signing", ["ssh", "openpgp"])
def test_a_key_that_is_not_there_signs_nothing(checkout, signing):
    identity = Identity("agent", "agent@localhost", signing, "/nonexistent/key")
    env = {"GNUPGHOME": str(checkout.home)}
    assert fault_in(publish(checkout.repository(identity=identity, env=env))) is Kind.SIGNING_FAILED
    assert set(checkout.tips()) == {"main"}


@pytest.mark.parametrize(
    ("passphrase", "mode", "words"),
    [("pass", 0o600, "incorrect passphrase"), ("", 0o644, "Permissions 0644 .* are too open")],
)
def test_a_key_that_ssh_does_not_take_signs_nothing(checkout, passphrase, mode, words):
    key = checkout.home / "key"
    make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "x", "-f", str(key))
    subprocess.run(make, check=True)
    key.chmod(mode)
    identity = Identity("agent", "agent@localhost", "ssh", str(key))
    with pytest.raises(GitError, match=words) as caught:
        asyncio.run(publish(checkout.repository(identity=identity)))
    assert caught.value.kind is Kind.SIGNING_FAILED
    assert "flake_update.signing_key" in caught.value.hint
    assert "?" not in caught.value.message
    assert set(checkout.tips()) == {"main"}


def test_without_any_key_nothing_is_signed(checkout):
    identity = Identity("agent", "agent@localhost", "ssh", None)
    assert fault_in(publish(checkout.repository(identity=identity))) is Kind.SIGNING_FAILED


def test_a_file_that_is_too_large_is_not_cut_to_what_could_be_read(checkout):
    revision = checkout.commit({LOCK_FILE: "x" * (MAX_SIZE + 2)}, "Large")
    read = asyncio.run(checkout.repository().file_at(revision, LOCK_FILE))
    assert read is not None
    assert len(read) == MAX_SIZE + 1


# What git leaves out of a worktree

OF_SELF = "{ inputs = { self = { submodules = true; lfs = true; }; }; }\n"
LOCAL = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
}
"""git does not let a submodule be on this machine, unless it is told to."""


async def files_in(repository):
    await repository.prepare()
    async with repository.worktree(await repository.head()) as flake:
        return {one.name: one.read_text() for one in flake.glob("modules/*/*.nix")}


@pytest.fixture
def with_submodule(tmp_path):
    """Return a function for a checkout with a submodule that has one of its own."""

    def make(flake):
        for name, inner in (("leaf", None), ("middle", "leaf")):
            place = tmp_path / name
            place.mkdir()
            made = Checkout(place, {f"{name}.nix": "{ }\n"})
            made.environment |= LOCAL
            if inner is not None:
                made.git(
                    "submodule", "--quiet", "add", str(tmp_path / inner / "remote.git"), "modules"
                )
                made.commit({}, "Add it")
                made.git("push", "--quiet", "origin", "main")
        checkout = Checkout(tmp_path / "top", {**FILES, "flake.nix": flake})
        checkout.environment |= LOCAL
        checkout.git(
            *("submodule", "--quiet", "add", str(tmp_path / "middle/remote.git"), "modules/middle")
        )
        checkout.commit({}, "Add it")
        checkout.git("push", "--quiet", "origin", "main")
        checkout.git("submodule", "--quiet", "deinit", "--all", "--force")
        return checkout

    return make


def test_the_submodules_of_a_flake_that_is_made_of_them_are_in_its_worktree(with_submodule):
    checkout = with_submodule("{ inputs.self.submodules = true; }\n")
    before = checkout.state()
    assert asyncio.run(files_in(checkout.repository()))["middle.nix"] == "{ }\n"

    async def below(repository):
        await repository.prepare()
        async with repository.worktree(await repository.head()) as flake:
            return (flake / "modules/middle/modules/leaf.nix").read_text()

    assert asyncio.run(below(checkout.repository())) == "{ }\n"
    asyncio.run(publish(checkout.repository()))
    assert checkout.state() == before
    assert list(checkout.scratch.iterdir()) == []
    assert not list((checkout.path / ".git").glob("worktrees/*"))


def test_submodules_that_a_flake_does_not_ask_for_are_not_fetched(with_submodule):
    checkout = with_submodule("{ # inputs.self.submodules = true;\n}\n")
    assert asyncio.run(files_in(checkout.repository())) == {}


def test_submodules_that_cannot_be_fetched_are_told(with_submodule, tmp_path):
    checkout = with_submodule("{ inputs.self.submodules = true; }\n")
    shutil.rmtree(checkout.path / ".git/modules")
    (tmp_path / "middle/remote.git").rename(tmp_path / "away")
    with pytest.raises(GitError, match=r"^cannot fetch the submodules: ") as caught:
        asyncio.run(files_in(checkout.repository()))
    assert str(tmp_path / "middle/remote.git") in caught.value.message
    assert list(checkout.scratch.iterdir()) == []


@pytest.mark.parametrize("flake", [OF_SELF, "{ inputs.self.lfs = true; }\n"])
def test_files_of_git_lfs_are_fetched_or_it_is_said_that_they_cannot_be(tmp_path, flake):
    checkout = Checkout(tmp_path / "site", {**FILES, "flake.nix": flake})
    tools = tmp_path / "tools"
    tools.mkdir()
    env = {"PATH": f"{tools}:{os.environ['PATH']}"}
    if shutil.which("git-lfs") is None:
        with pytest.raises(GitError, match="Git LFS") as caught:
            asyncio.run(files_in(checkout.repository(env=env)))
        assert "git-lfs" in caught.value.hint
    (tools / "git-lfs").write_text('#!/bin/sh\n[ "$1" = version ] || echo "$PWD $*" >> "$0.log"\n')
    (tools / "git-lfs").chmod(0o755)
    asyncio.run(files_in(checkout.repository(env=env)))
    assert (tools / "git-lfs.log").read_text() == f"{checkout.scratch}/worktree-1 pull origin\n"


# What is refused


def test_what_others_have_added_to_a_branch_is_seen(checkout):
    base = checkout.git("rev-parse", "HEAD")
    checkout.git("checkout", "--quiet", "--detach")
    (checkout.path / LOCK_FILE).write_text("{ }\n")
    checkout.git("commit", "--quiet", "--all", "--allow-empty-message", "--message=")
    lock_alone = checkout.git("rev-parse", "HEAD")
    (checkout.path / "flake.nix").write_text("{ amended = true; }\n")
    checkout.git("commit", "--quiet", "--all", "--message=theirs")
    tip = checkout.git("rev-parse", "HEAD")

    async def look():
        repository = checkout.repository()
        await repository.prepare()
        assert await repository.messages(base, tip) == ("theirs", "")
        assert await repository.adds_only_lock(base, lock_alone)
        assert not await repository.adds_only_lock(base, tip)

    asyncio.run(look())


def test_a_shallow_clone_is_refused(checkout):
    checkout.git("commit", "--quiet", "--allow-empty", "--message", "another")
    checkout.git("push", "--quiet", "origin", "HEAD:main")
    checkout.git("fetch", "--quiet", "--depth=1", f"file://{checkout.remote}", "main")
    assert fault_in(publish(checkout.repository())) is Kind.REPOSITORY_SHALLOW


@pytest.mark.parametrize("name", ["pre-commit", "commit-msg", "pre-push"])
@pytest.mark.parametrize("words", ["not on a Friday", "gpg: not on a Friday"])
@pytest.mark.parametrize("stream", [1, 2])
def test_a_hook_of_the_repository_may_refuse(checkout, name, words, stream):
    checkout.hook(name, f"echo '{words}' >&{stream}; exit 1")
    before = checkout.state()
    with pytest.raises(GitError, match="not on a Friday") as caught:
        asyncio.run(publish(checkout.repository()))
    assert caught.value.kind is Kind.HOOK_REFUSED
    assert set(checkout.tips()) == {"main"}
    assert checkout.state() == before


@pytest.mark.parametrize("name", ["pre-receive", "update"])
def test_a_hook_of_the_remote_may_refuse(checkout, name):
    checkout.hook(name, "echo 'no such branches here' >&2; exit 1", of_remote=True)
    with pytest.raises(GitError, match=f"cannot push {BRANCH}: no such branches here") as caught:
        asyncio.run(publish(checkout.repository()))
    assert caught.value.kind is Kind.HOOK_REFUSED


def test_a_remote_may_refuse_a_branch(checkout):
    checkout.git("config", "receive.denyNonFastForwards", "true", at=checkout.remote)
    asyncio.run(publish(checkout.repository()))
    assert fault_in(publish(checkout.repository(), "{  }\n")) is Kind.PUSH_REFUSED


def test_a_remote_that_has_moved_meanwhile_is_not_overwritten(checkout):
    theirs = asyncio.run(publish(checkout.repository()))
    repository = checkout.repository()

    async def work():
        await repository.prepare()
        async with repository.worktree(await repository.head()) as flake:
            repository.put(flake, LOCK_FILE, "{  }\n")
            revision = await repository.commit(flake, "Update\n")
            await repository.push(revision, BRANCH, None)

    assert fault_in(work()) is Kind.BRANCH_DIVERGED
    assert checkout.tips()[BRANCH] == theirs


# What is not there


def test_a_directory_outside_any_repository_is_none(tmp_path):
    checkout = Checkout(tmp_path, FILES)
    outside = checkout.repository(flake=tmp_path)
    assert fault_in(publish(outside)) is Kind.REPOSITORY_MISSING
    assert fault_in(outside.prepare()) is Kind.REPOSITORY_MISSING


def test_all_worktrees_of_a_repository_are_held_at_once(checkout):
    linked = checkout.directory / "linked"
    checkout.git("worktree", "add", "--quiet", "--detach", str(linked))
    with checkout.repository().hold(), pytest.raises(GitError) as caught:
        asyncio.run(publish(checkout.repository(flake=linked)))
    assert caught.value.kind is Kind.REPOSITORY_BUSY
    asyncio.run(publish(checkout.repository(flake=linked)))


def test_a_mark_of_a_repository_that_leads_nowhere_is_none(tmp_path):
    checkout = Checkout(tmp_path, FILES)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / ".git").write_text("gitdir: /nonexistent\n")
    assert fault_in(publish(checkout.repository(flake=broken))) is Kind.REPOSITORY_MISSING
    (broken / ".git").write_bytes(b"\xff")
    assert fault_in(publish(checkout.repository(flake=broken))) is Kind.REPOSITORY_MISSING


def test_a_remote_that_is_not_configured_is_missing(checkout):
    assert fault_in(publish(checkout.repository(remote="upstream"))) is Kind.REMOTE_MISSING


def test_a_remote_that_is_gone_is_unreachable(checkout):
    shutil.rmtree(checkout.remote)
    assert fault_in(publish(checkout.repository())) is Kind.REMOTE_UNREACHABLE


def test_a_repository_without_a_commit_is_told(checkout):
    checkout.git("checkout", "--quiet", "--orphan", "empty")
    assert fault_in(checkout.repository().head()) is Kind.GIT_FAILED


def test_a_missing_git_is_told(checkout):
    empty = checkout.directory / "empty"
    empty.mkdir()
    repository = checkout.repository(env={"PATH": str(empty)})
    assert fault_in(repository.prepare()) is Kind.GIT_MISSING


def test_files_that_cannot_be_read_or_written_are_told(checkout):
    repository = checkout.repository()
    with pytest.raises(GitError) as caught:
        repository.put(checkout.path / "nonexistent", LOCK_FILE, "x")
    assert caught.value.kind is Kind.GIT_FAILED
    (checkout.path / "loop").symlink_to("loop")
    with pytest.raises(GitError) as caught:
        repository.text_in(checkout.path, "loop")
    assert caught.value.kind is Kind.GIT_FAILED


DENIED, FAR, OTHER = Kind.REMOTE_UNAUTHORISED, Kind.REMOTE_UNREACHABLE, Kind.GIT_FAILED
UNSIGNED = Kind.SIGNING_FAILED


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("fatal: sha1 file '<stdout>' write error: No space left on device", Kind.NO_SPACE),
        ("fatal: detected dubious ownership in repository at '/x'", Kind.REPOSITORY_MISSING),
        ("git@forge: Permission denied (publickey).\nfatal: x", Kind.REMOTE_UNAUTHORISED),
        ("Host key verification failed.\nfatal: Could not read", Kind.REMOTE_UNAUTHORISED),
        ("fatal: Authentication failed for 'https://x'", Kind.REMOTE_UNAUTHORISED),
        ("ssh: connect to host x port 22: Connection refused", Kind.REMOTE_UNREACHABLE),
        ("ssh: Could not resolve hostname x: Name or service", Kind.REMOTE_UNREACHABLE),
        ("fatal: unable to access 'https://x/': Could not", Kind.REMOTE_UNREACHABLE),
        ("fatal: the remote end hung up unexpectedly", Kind.REMOTE_UNREACHABLE),
        ("ERROR: Repository not found.\nfatal: Could not read from", Kind.REMOTE_MISSING),
        ("fatal: repository 'https://x/r/' not found", Kind.REMOTE_MISSING),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", DENIED),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 400", OTHER),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 503", FAR),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 429", FAR),
        ("fatal: something else", Kind.GIT_FAILED),
        ("", Kind.GIT_FAILED),
    ],
)
def test_what_git_and_ssh_say_has_a_name(text, kind):
    fault = fault_of("push x", text)
    assert fault.kind is kind
    assert fault.message.startswith("cannot push x: ")


CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/x/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f "/home/x/.ssh/known_hosts" -R "forge"
Host key for forge has changed and you have requested strict checking.
Host key verification failed.
fatal: Could not read from remote repository."""


def test_a_changed_host_key_has_nothing_to_do_with_a_signature():
    for fault in (fault_of("x", CHANGED), fault_of_push("x", Completed(128, "", CHANGED))):
        assert fault.kind is Kind.REMOTE_UNAUTHORISED
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in fault.message
        assert "known_hosts" in fault.hint


def refused(status, said=""):
    return Completed(1, f"To forge\n!\ta:refs/heads/b\t{status}\nDone", said)


@pytest.mark.parametrize(
    ("done", "kind"),
    [
        (refused("[remote failure] (remote failed to report status)"), FAR),
        (refused("[remote rejected] (branch is protected)"), Kind.PUSH_REFUSED),
        (refused("[remote rejected] (protected branch hook declined)"), Kind.HOOK_REFUSED),
        (refused("[remote rejected] (hook declined)", "remote: ssh-keygen: no"), Kind.HOOK_REFUSED),
        (
            refused("[remote rejected] (unpacker error)", "remote: fatal: No space left on device"),
            Kind.PUSH_REFUSED,
        ),
        (refused("[rejected] (stale info)", "pre-receive hook: protected"), Kind.BRANCH_DIVERGED),
        (Completed(1, "", "error: RPC failed; HTTP 503\nfatal: the remote end hung up"), FAR),
        (
            Completed(1, "", "Permission denied (publickey)\nerror: failed to push"),
            Kind.HOOK_REFUSED,
        ),
        # What a signal has ended may have reached the remote.
        (Completed(-15, "", ""), Kind.GIT_FAILED),
        (Completed(1, "fatal: not today", "error: failed to push some"), Kind.HOOK_REFUSED),
        (Completed(128, "", "x@forge: Permission denied (publickey).\nfatal: x"), DENIED),
    ],
)
def test_who_refuses_a_push_comes_before_what_is_said(done, kind):
    assert fault_of_push("push x", done).kind is kind


@pytest.mark.parametrize(
    ("done", "kind"),
    [
        (Completed(1, "", "gpg: not today"), Kind.HOOK_REFUSED),
        (Completed(-9, "", ""), Kind.GIT_FAILED),
        (Completed(1, "", "fatal: not today"), Kind.HOOK_REFUSED),
        (
            Completed(128, "", "error: Load key: x?\n?\n\nfatal: failed to write commit object"),
            UNSIGNED,
        ),
        (
            Completed(128, "", "fatal: either user.signingkey or gpg.ssh.default is needed"),
            UNSIGNED,
        ),
        (
            Completed(
                128, "", "error: unable to create x: No space left on device\nfatal: failed to"
            ),
            Kind.NO_SPACE,
        ),
        (
            Completed(
                *(128, ""),
                "error: insufficient permission for adding an object to repository database\n"
                "fatal: failed to write commit object",
            ),
            OTHER,
        ),
        (Completed(128, "", "gpg: I am a hook\nfatal: cannot lock ref 'HEAD'"), OTHER),
    ],
)
def test_who_keeps_a_commit_from_being_made_comes_before_what_is_said(done, kind):
    assert fault_of_commit("commit x", done).kind is kind


def test_what_ssh_and_the_server_say_is_quoted_whole():
    closing = (
        "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct"
    )
    text = f"No ED25519 host key is known for x\nHost key verification failed.\n{closing}"
    fault = fault_of("push x", text)
    assert fault.message == "cannot push x: No ED25519 host key is known for x"
    assert "known_hosts" in fault.hint
    text = f"remote: \nremote: ERROR: The project is read-only.\nremote: \n{closing}"
    assert (
        fault_of("push x", text).message
        == "cannot push x: remote: ERROR: The project is read-only."
    )
