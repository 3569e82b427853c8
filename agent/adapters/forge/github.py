"""The `Forge` port on GitHub, and on GitHub Enterprise.

Sources: GitHub's published description of its REST API; for automatic merging, which only the
GraphQL API has, its mutation `enablePullRequestAutoMerge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pydantic import Field
from typing_extensions import override

from agent.adapters.forge.conversation import Shape, parse
from agent.adapters.forge.rest import RestForge, missing_people
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from agent.application.flake_update.ports import MergeMethod, Proposal

HEADERS: Final = {
    "accept": "application/vnd.github+json",
    "x-github-api-version": "2022-11-28",
}
_ENABLE: Final = (
    "mutation($id: ID!, $method: PullRequestMergeMethod!) {"
    " enablePullRequestAutoMerge(input: {pullRequestId: $id, mergeMethod: $method})"
    " { pullRequest { number } } }"
)


class MergingAnswer(Shape):
    """What a pull request says of being merged automatically; null where it will not be."""

    node_id: str
    auto_merge: dict[str, object] | None


class FaultAnswer(Shape):
    """What the GraphQL API says beside a failure, with a status of 200."""

    message: str
    type: str = ""


class MutationAnswer(Shape):
    """The outcome of a mutation."""

    errors: list[FaultAnswer] = Field(default_factory=list)


class GitHubForge(RestForge):
    """A repository on GitHub."""

    max_body = 65_536
    graphql = "/graphql"

    @override
    def _list_query(self, base: str, state: str) -> str:
        order = "sort=created&direction=desc&per_page=100"
        return f"state={state}&base={quote(base, safe='')}&{order}"

    @override
    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None:
        if labels:
            # GitHub makes those that do not exist.
            wanted = {"labels": list(labels)}
            await self._conversation.ask("POST", f"{self._issue(proposal)}/labels", wanted)

    @override
    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None:
        if not people:
            return
        wanted = {"assignees": list(people)}
        answer = await self._conversation.ask("POST", f"{self._issue(proposal)}/assignees", wanted)
        # Whom it cannot assign it passes over.
        fault = missing_people(people, answer)
        if fault is not None:
            raise fault

    @override
    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None:
        answer = await self._conversation.ask("GET", self._pull(proposal))
        merging = parse(answer, MergingAnswer)
        if merging.auto_merge is not None:
            return
        variables = {"id": merging.node_id, "method": method.upper()}
        wanted = {"query": _ENABLE, "variables": variables}
        answer = await self._conversation.ask("POST", self.graphql, wanted)
        errors = parse(answer, MutationAnswer).errors
        if errors:
            raise _refusal(errors[0], answer.url)


def _refusal(fault: FaultAnswer, url: str) -> ForgeError:
    if fault.type == "RATE_LIMITED":
        return ForgeError(Kind.FORGE_RATE_LIMITED, f"{url}: {fault.message}", hint="run less often")
    return ForgeError(
        Kind.AUTO_MERGE_REFUSED,
        f"{url}: {fault.message}",
        hint="allow auto-merge in the repository's settings, and require a check on the base",
    )
