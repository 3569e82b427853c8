"""What Forgejo and GitHub have in common: the paths and shapes of pull requests.

Forgejo's API took GitHub's for a model. Sources: `routers/api/v1/repo/pull.go` of Forgejo, and
`api.github.com.json` of GitHub's published description.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from typing_extensions import override

from agent.adapters.forge.conversation import Conversation, Shape, parse
from agent.application.flake_update.ports import Forge, MergeMethod, Proposal
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from agent.adapters.forge.transport import Answer, Transport

_CUT: Final = "\n\n*The rest is left out: it is too long for this forge.*\n"


class RepositoryAnswer(Shape):
    """A repository; its id stays when it is renamed."""

    id: int


class BranchAnswer(Shape):
    """One side of a pull request; the repository of a deleted fork is null."""

    ref: str
    sha: str
    repo: RepositoryAnswer | None


class UserAnswer(Shape):
    """A user."""

    login: str


class AssigneesAnswer(Shape):
    """The assignees of an issue or a pull request; null where there are none."""

    assignees: list[UserAnswer] | None = None


class PullAnswer(Shape):
    """A pull request, as far as both forges describe it alike."""

    number: int
    html_url: str
    title: str
    body: str | None
    head: BranchAnswer
    base: BranchAnswer
    merged_at: str | None = None

    def is_of(self, base: str, head_prefix: str) -> bool:
        """Return whether it is of a branch of the repository itself, and of these names."""
        is_own = self.head.repo is not None and self.head.repo == self.base.repo
        return is_own and self.base.ref == base and self.head.ref.startswith(head_prefix)

    def to_proposal(self) -> Proposal:
        """Return what the answer says, in the port's words."""
        return Proposal(
            number=self.number,
            url=self.html_url,
            head=self.head.ref,
            head_revision=self.head.sha,
            base=self.base.ref,
            title=self.title,
            body=self.body or "",
        )


class RestForge(Forge, ABC):
    """One repository, `OWNER/NAME`; `root` is the API's path on the transport's origin."""

    max_body: int
    """Characters that a proposal or comment may have."""

    def __init__(
        self, transport: Transport, conversation: Conversation, repository: str, root: str = ""
    ) -> None:
        self._transport = transport
        self._conversation = conversation
        owner, _, name = repository.partition("/")
        self._root = root
        self._owner = quote(owner, safe="")
        self._path = f"{root}/repos/{self._owner}/{quote(name, safe='')}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    @abstractmethod
    def _list_query(self, base: str, state: str) -> str:
        """Return the query that lists open or closed pull requests, the newest first."""

    @override
    async def open_proposals(self, base: str, head_prefix: str) -> tuple[Proposal, ...]:
        found = [one async for page in self._pages(base, head_prefix, "open") for one in page]
        return _newest_first(found)

    @override
    async def require_proposing(self, base: str) -> None:
        # A branch into itself is nothing to propose: a token that may propose gets that answer.
        wanted = {"head": base, "base": base, "title": "May this token propose?", "body": ""}
        try:
            await self._conversation.ask("POST", f"{self._path}/pulls", wanted)
        except ForgeError as error:
            if error.kind not in (Kind.FORGE_UNPROCESSABLE, Kind.FORGE_CONFLICT):
                raise

    @override
    async def declined_proposals(self, base: str) -> tuple[Proposal, ...]:
        # One page: what was closed long ago says nothing of inputs as they are now. Forgejo has
        # `refs/pull/NUMBER/head` in place of a branch that is gone.
        async with aclosing(self._pages(base, "", "closed")) as pages:
            return _newest_first(one for one in await anext(pages, ()) if not one.merged_at)

    async def _pages(
        self, base: str, head_prefix: str, state: str
    ) -> AsyncGenerator[list[PullAnswer]]:
        path = f"{self._path}/pulls?{self._list_query(base, state)}"
        # Forgejo has null in place of a pull request that it cannot read.
        async for page in self._conversation.pages(path, list[PullAnswer | None]):
            yield [pull for pull in page if pull and pull.is_of(base, head_prefix)]

    @override
    async def open(self, head: str, base: str, title: str, body: str) -> Proposal:
        text = self._fitting(body)
        wanted = {"head": head, "base": base, "title": title, "body": text}
        try:
            answer = await self._conversation.ask("POST", f"{self._path}/pulls", wanted)
        except ForgeError as error:
            made = await self._made_already(error, wanted)
            if made is None:
                raise
            return made
        return parse(answer, PullAnswer).to_proposal()

    async def _made_already(self, error: ForgeError, wanted: dict[str, str]) -> Proposal | None:
        """Return our own proposal, if an earlier attempt has made it and its answer was lost."""
        if error.kind is not Kind.FORGE_CONFLICT:
            return None
        content = _content_of(wanted["title"], wanted["body"])
        for proposal in await self.open_proposals(wanted["base"], wanted["head"]):
            if (
                proposal.head == wanted["head"]
                and _content_of(proposal.title, proposal.body) == content
            ):
                return proposal
        return None

    @override
    async def refresh(self, proposal: Proposal, title: str, body: str) -> Proposal:
        wanted = {"title": title, "body": self._fitting(body)}
        answer = await self._conversation.ask("PATCH", self._pull(proposal), wanted)
        return parse(answer, PullAnswer).to_proposal()

    @override
    async def comment(self, proposal: Proposal, text: str) -> None:
        # Nobody wants it twice.
        wanted = {"body": self._fitting(text)}
        await self._conversation.ask_once("POST", f"{self._issue(proposal)}/comments", wanted)

    @override
    @abstractmethod
    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None: ...

    @override
    @abstractmethod
    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None: ...

    @override
    @abstractmethod
    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None: ...

    def _pull(self, proposal: Proposal) -> str:
        return f"{self._path}/pulls/{proposal.number}"

    def _issue(self, proposal: Proposal) -> str:
        return f"{self._path}/issues/{proposal.number}"

    def _fitting(self, text: str) -> str:
        """Return Markdown that the forge takes: cut between two lines, with no fence left open."""
        if len(text) <= self.max_body:
            return text
        kept = text[: self.max_body - len(_CUT) - len("\n```")].rpartition("\n")[0]
        fences = re.findall(r"^```", kept, re.MULTILINE)
        return kept + ("\n```" if len(fences) % 2 else "") + _CUT


def _newest_first(pulls: Iterable[PullAnswer]) -> tuple[Proposal, ...]:
    return tuple(one.to_proposal() for one in sorted(pulls, key=lambda pull: -pull.number))


def _content_of(title: str, body: str) -> tuple[str, list[str]]:
    return title.strip(), body.split()


def assignees_of(answer: Answer) -> list[str]:
    """Return the logins of those whom an issue or a pull request is assigned to."""
    return [user.login for user in parse(answer, AssigneesAnswer).assignees or ()]


def missing_people(wanted: tuple[str, ...], answer: Answer) -> ForgeError | None:
    """Return the error for people whom the forge has silently not assigned."""
    logins = {login.casefold() for login in assignees_of(answer)}
    lacking = [person for person in wanted if person.casefold() not in logins]
    if not lacking:
        return None
    return ForgeError(
        Kind.FORGE_UNPROCESSABLE,
        f"{answer.url}: cannot be assigned: {', '.join(lacking)}",
        hint="is each of them the login of someone who may write to the repository?",
    )
