"""The `Forge` port on Forgejo, and on Gitea.

Source: `routers/api/v1/repo/{pull,issue_label,label}.go` of Forgejo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.forge.conversation import Shape, parse
from agent.adapters.forge.rest import RestForge, assignees_of, missing_people
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from agent.application.flake_update.ports import MergeMethod, Proposal

_COLOUR: Final = "#5277c3"
"""Of labels that are made: the darker blue of the Nix snowflake."""


class LabelAnswer(Shape):
    """A label of the repository or of its organisation."""

    id: int
    name: str


class ForgejoForge(RestForge):
    """A repository on a Forgejo or Gitea."""

    # Forgejo has no limit of its own; what is longer than this, nobody reads.
    max_body = 256_000

    @override
    def _list_query(self, base: str, state: str) -> str:
        # It lists the newest first, and cannot filter by branch. 50 is its usual maximum.
        return f"state={state}&limit=50"

    @override
    async def add_labels(self, proposal: Proposal, labels: tuple[str, ...]) -> None:
        if not labels:
            return
        # By id: only newer versions take names.
        known = await self._labels()
        ids = [known.get(name) or await self._make_label(name) for name in labels]
        await self._conversation.ask("POST", f"{self._issue(proposal)}/labels", {"labels": ids})

    async def _labels(self) -> dict[str, int]:
        """Return the ids of the labels that can be used, by name; the repository's own go first."""
        known: dict[str, int] = {}
        try:
            await self._add_labels_of(f"{self._root}/orgs/{self._owner}", known)
        except ForgeError as error:
            # The owner is a person, or the token may not see organisations.
            if error.kind not in (Kind.FORGE_NOT_FOUND, Kind.FORGE_FORBIDDEN):
                raise
        await self._add_labels_of(self._path, known)
        return known

    async def _add_labels_of(self, path: str, known: dict[str, int]) -> None:
        pages = self._conversation.pages(f"{path}/labels?limit=50", list[LabelAnswer])
        async for page in pages:
            known.update({label.name: label.id for label in page})

    async def _make_label(self, name: str) -> int:
        wanted = {"name": name, "color": _COLOUR}
        answer = await self._conversation.ask("POST", f"{self._path}/labels", wanted)
        return parse(answer, LabelAnswer).id

    @override
    async def assign(self, proposal: Proposal, people: tuple[str, ...]) -> None:
        answer = await self._conversation.ask("GET", self._pull(proposal))
        if missing_people(people, answer) is None:
            return
        # It replaces the whole list.
        everybody = dict.fromkeys([*assignees_of(answer), *people])
        wanted = {"assignees": list(everybody)}
        answer = await self._conversation.ask("PATCH", self._pull(proposal), wanted)
        fault = missing_people(people, answer)
        if fault is not None:
            raise fault

    @override
    async def enable_auto_merge(self, proposal: Proposal, method: MergeMethod) -> None:
        wanted = {"Do": str(method), "merge_when_checks_succeed": True}
        try:
            # 201: it will be merged; 200: there was nothing to wait for, and it has been.
            await self._conversation.ask("POST", f"{self._pull(proposal)}/merge", wanted)
        except ForgeError as error:
            if error.kind is Kind.FORGE_CONFLICT and "already scheduled" in error.message:
                return
            raise
