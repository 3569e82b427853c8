"""A forge without a network: the same world that the servers of `forges` serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.flake_update.ports import Forge, MergeMethod, Proposal
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from fake_forges.world import Pull, World


class FakeForge(Forge):
    """Does to a world what a forge does; `fault`, if set, is raised by everything."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fault: ForgeError | None = None

    @override
    async def open_proposals(self, base: str, head_prefix: str) -> tuple[Proposal, ...]:
        self._fail()
        found = [
            pull
            for pull in reversed(self.world.pulls)
            if pull.head.startswith(head_prefix) and self.world.open_pull(pull.head, base) is pull
        ]
        return tuple(_proposal(pull) for pull in found)

    @override
    async def require_proposing(self, base: str) -> None:
        self._fail()
        if not self.world.may_propose:
            raise ForgeError(Kind.FORGE_FORBIDDEN, "the token may not propose")

    @override
    async def declined_proposals(self, base: str) -> tuple[Proposal, ...]:
        self._fail()
        return tuple(
            _proposal(pull)
            for pull in reversed(self.world.pulls)
            if (pull.base, pull.state, pull.is_merged) == (base, "closed", False)
            and pull.head_repository == self.world.repository_id
        )

    @override
    async def open(self, head: str, base: str, title: str, body: str) -> Proposal:
        self._fail()
        if self.world.revision_of(head) is None:
            raise ForgeError(Kind.FORGE_NOT_FOUND, f"no branch {head}")
        if self.world.open_pull(head, base):
            raise ForgeError(Kind.FORGE_CONFLICT, f"{head} is proposed already")
        return _proposal(self.world.add(head, base, title, body=body))

    @override
    async def refresh(self, proposal: Proposal, title: str, body: str) -> Proposal:
        pull = self._pull(proposal)
        pull.title, pull.body = title, body
        return _proposal(pull)

    @override
    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None:
        pull = self._pull(proposal)
        pull.labels += [label for label in labels if label not in pull.labels]

    @override
    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None:
        pull = self._pull(proposal)
        for login in people:
            person = self.world.person(login)
            if person is None:
                raise ForgeError(Kind.FORGE_UNPROCESSABLE, f"cannot be assigned: {login}")
            if person not in pull.assignees:
                pull.assignees.append(person)

    @override
    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None:
        pull = self._pull(proposal)
        if not self.world.allows_auto_merge:
            raise ForgeError(Kind.AUTO_MERGE_REFUSED, "not allowed", hint="allow it")
        pull.merge_method = method

    @override
    async def comment(self, proposal: Proposal, text: str) -> None:
        self._pull(proposal).comments.append(text)

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _pull(self, proposal: Proposal) -> Pull:
        self._fail()
        pull = self.world.pull(proposal.number)
        if pull is None:
            raise ForgeError(Kind.FORGE_NOT_FOUND, f"no proposal {proposal.number}")
        return pull


def _proposal(pull: Pull) -> Proposal:
    return Proposal(
        number=pull.number,
        url=f"https://forge.test/{pull.number}",
        head=pull.head,
        head_revision=pull.revision,
        base=pull.base,
        title=pull.title,
        body=pull.body or "",
    )
