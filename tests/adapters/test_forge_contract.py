"""What every forge does, asked over real sockets of servers that keep the two APIs' contracts.

Each request and each answer is held against what Forgejo and GitHub publish; the fake of the port
passes the same.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.forge import ForgeAddress, open_forge
from agent.adapters.http.retries import Retries
from agent.application.flake_update.ports import MergeMethod
from agent.domain.errors import ForgeError, Kind
from fake_forges.api_descriptions import ForgejoWitness, GitHubWitness
from fake_forges.forgejo import ForgejoServer
from fake_forges.github import GitHubServer
from fake_forges.world import OTHER_REVISION, World
from fakes.events import RememberedEvents
from fakes.forge import FakeForge

HEAD = "flake-update-1"
FAST = Retries(attempts=5, first=0.001, longest=0.001)


class Subject:
    """One forge under test, and the world behind it."""

    def __init__(self, kind):
        self.kind = kind
        self.world = World()
        self.witness = None

    def ask(self, question):
        """Return what an `async` function makes of the port."""

        async def run():
            async with self._open() as forge:
                return await question(forge)

        return asyncio.run(run())

    @asynccontextmanager
    async def _open(self):
        if self.kind == "fake":
            yield FakeForge(self.world)
            return
        is_github = self.kind == "github"
        self.witness = self.witness or (GitHubWitness() if is_github else ForgejoWitness())
        make = GitHubServer if is_github else ForgejoServer
        with make(self.world, self.witness) as server:
            address = ForgeAddress(self.kind, server.url, server.repository)
            forge = open_forge(
                address,
                self.world.token,
                timeout=60,
                sink=RememberedEvents(),
                clock=SystemClock(),
                retries=FAST,
            )
            async with forge:
                yield forge

    def fault(self, question):
        with pytest.raises(ForgeError) as caught:
            self.ask(question)
        return caught.value


@pytest.fixture(params=["forgejo", "github", "fake"])
def subject(request):
    return Subject(request.param)


def open_one(forge):
    return forge.open(HEAD, "main", "Update", "# Report\n")


def test_a_branch_is_proposed(subject):
    proposal = subject.ask(open_one)
    (pull,) = subject.world.pulls
    assert (pull.head, pull.base, pull.title, pull.body) == (HEAD, "main", "Update", "# Report\n")
    assert (proposal.number, proposal.head, proposal.base) == (pull.number, HEAD, "main")
    assert proposal.head_revision == OTHER_REVISION
    assert (proposal.title, proposal.body) == ("Update", "# Report\n")
    assert proposal.url.startswith("http")


def test_a_branch_is_not_proposed_twice(subject):
    subject.ask(open_one)
    fault = subject.fault(lambda forge: forge.open(HEAD, "main", "Other", "other"))
    assert fault.kind is Kind.FORGE_CONFLICT
    assert len(subject.world.pulls) == 1


def test_whether_the_token_may_propose_is_asked_without_proposing(subject):
    subject.ask(lambda forge: forge.require_proposing("main"))
    assert subject.world.pulls == []
    subject.world.may_propose = False
    found = subject.fault(lambda forge: forge.require_proposing("main"))
    assert found.kind is Kind.FORGE_FORBIDDEN
    assert subject.ask(lambda forge: forge.open_proposals("main", "")) == ()


def test_a_branch_that_does_not_exist_cannot_be_proposed(subject):
    fault = subject.fault(lambda forge: forge.open("gone", "main", "t", "b"))
    assert fault.kind in (Kind.FORGE_NOT_FOUND, Kind.FORGE_UNPROCESSABLE)
    assert subject.world.pulls == []


def test_only_own_open_proposals_of_the_right_names_are_found(subject):
    world = subject.world
    found = [world.add("flake-update-1"), world.add("flake-update-2", title="second")]
    world.add("flake-update-3", "release")
    world.add("flake-update-4", state="closed")
    world.add("flake-update-5", head_repository=99)
    world.add("other")
    proposals = subject.ask(lambda forge: forge.open_proposals("main", "flake-update-"))
    assert [proposal.number for proposal in proposals] == [pull.number for pull in reversed(found)]
    assert proposals[0].title == "second"


def test_what_was_closed_and_not_merged_was_declined(subject):
    world = subject.world
    found = [world.add("flake-update-1", state="closed") for _ in range(2)]
    found.append(world.add("flake-update-gone", state="closed"))
    world.add("flake-update-2", "release", state="closed")
    world.add("flake-update-3")
    world.add("flake-update-4", state="closed", is_merged=True)
    world.add("flake-update-5", state="closed", head_repository=99)
    declined = subject.ask(lambda forge: forge.declined_proposals("main"))
    assert [one.number for one in declined] == [pull.number for pull in reversed(found)]


def test_a_repository_without_proposals_has_declined_none(subject):
    assert subject.ask(lambda forge: forge.declined_proposals("main")) == ()


def test_all_pages_are_looked_through(subject):
    world = subject.world
    oldest = world.add("flake-update-1")
    for _ in range(120):
        world.add("other")
    proposals = subject.ask(lambda forge: forge.open_proposals("main", "flake-update-"))
    assert [proposal.number for proposal in proposals] == [oldest.number]


def test_a_proposal_without_a_text_is_found(subject):
    subject.world.add(HEAD, body=None)
    (proposal,) = subject.ask(lambda forge: forge.open_proposals("main", HEAD))
    assert proposal.body == ""


def test_title_and_text_are_replaced(subject):
    async def refreshed(forge):
        return await forge.refresh(await open_one(forge), "New", "new")

    proposal = subject.ask(refreshed)
    (pull,) = subject.world.pulls
    assert (pull.title, pull.body) == ("New", "new")
    assert (proposal.title, proposal.body, proposal.number) == ("New", "new", pull.number)


def test_labels_are_added_and_those_that_lack_are_made(subject):
    async def labelled(forge):
        proposal = await open_one(forge)
        await forge.add_labels(proposal, ("automation",))
        await forge.add_labels(proposal, ("nix", "brand new"))
        await forge.add_labels(proposal, ())

    subject.ask(labelled)
    assert subject.world.pulls[0].labels == ["automation", "nix", "brand new"]


def test_labels_are_added_where_the_owner_is_a_person(subject):
    subject.world.owner_is_organisation = False

    async def labelled(forge):
        await forge.add_labels(await open_one(forge), ("automation",))

    subject.ask(labelled)
    assert subject.world.pulls[0].labels == ["automation"]


def test_people_are_assigned_beside_those_who_are(subject):
    async def assigned(forge):
        proposal = await open_one(forge)
        await forge.assign(proposal, ("alice",))
        await forge.assign(proposal, ("bob", "Alice"))
        await forge.assign(proposal, ())

    subject.ask(assigned)
    assert subject.world.pulls[0].assignees == ["Alice", "bob"]


def test_someone_who_cannot_be_assigned_is_named(subject):
    async def assigned(forge):
        await forge.assign(await open_one(forge), ("alice", "nobody"))

    fault = subject.fault(assigned)
    assert fault.kind is Kind.FORGE_UNPROCESSABLE
    assert "nobody" in fault.message
    assert "alice" not in fault.message


@pytest.mark.parametrize("method", MergeMethod)
def test_the_forge_is_told_to_merge_and_told_twice_is_told_once(subject, method):
    async def enabled(forge):
        proposal = await open_one(forge)
        await forge.enable_auto_merge(proposal, method)
        await forge.enable_auto_merge(proposal, method)

    subject.ask(enabled)
    assert subject.world.pulls[0].merge_method == method


def test_a_forge_that_may_not_merge_by_itself_says_so(subject):
    subject.world.allows_auto_merge = False

    async def enabled(forge):
        await forge.enable_auto_merge(await open_one(forge), MergeMethod.MERGE)

    fault = subject.fault(enabled)
    assert fault.kind is Kind.AUTO_MERGE_REFUSED
    assert fault.hint
    assert subject.world.pulls[0].merge_method is None


def test_a_comment_is_made(subject):
    async def commented(forge):
        await forge.comment(await open_one(forge), "Superseded.")

    subject.ask(commented)
    assert subject.world.pulls[0].comments == ["Superseded."]


@pytest.mark.parametrize("kind", ["forgejo", "github"])
def test_a_proposal_that_is_gone_is_told(kind):
    subject = Subject(kind)

    async def labelled(forge):
        proposal = await open_one(forge)
        subject.world.pulls.clear()
        await forge.add_labels(proposal, ("automation",))

    assert subject.fault(labelled).kind is Kind.FORGE_NOT_FOUND


@pytest.mark.parametrize("kind", ["forgejo", "github"])
def test_every_operation_of_the_servers_has_been_held_against_the_published_description(kind):
    subject = Subject(kind)

    async def everything(forge):
        await forge.open_proposals("main", HEAD)
        proposal = await forge.refresh(await open_one(forge), "New", "new")
        await forge.add_labels(proposal, ("brand new",))
        await forge.assign(proposal, ("alice",))
        await forge.enable_auto_merge(proposal, MergeMethod.REBASE)
        await forge.comment(proposal, "text")

    subject.ask(everything)
    with (GitHubServer if kind == "github" else ForgejoServer)() as server:
        assert subject.witness.seen == set(server.operations())
