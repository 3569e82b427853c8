"""Requests to a forge, retried while that helps; answers as types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agent.adapters.forge.faults import IS_FORGE
from agent.domain.errors import ForgeError, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.adapters.forge.transport import Answer, Transport
    from agent.adapters.http.retries import Repeater

_T = TypeVar("_T")
_MAX_PAGES: Final = 40


class Shape(BaseModel):
    """An answer: strict about what is used, indifferent to the rest."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)


class Conversation:
    """Asks one forge; `timeout` of one request and `deadline` of its repetitions are seconds."""

    def __init__(
        self, transport: Transport, repeater: Repeater, *, timeout: float, deadline: float
    ) -> None:
        self._transport = transport
        self._repeater = repeater
        self._timeout = timeout
        self._deadline = deadline

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Return the answer to a request that may be made more than once.

        Raises:
            ForgeError: the last fault, when it cannot pass, or attempts or time are used up.
        """
        return await self._repeater.ask(
            path,
            lambda seconds: self._transport.request(method, path, body, timeout=seconds),
            timeout=self._timeout,
            deadline=self._deadline,
        )

    async def ask_once(self, method: str, path: str, body: object) -> Answer:
        """Return the answer to a request that must not be made twice; raises as `ask`."""
        return await self._transport.request(method, path, body, timeout=self._timeout)

    async def pages(self, path: str, shape: type[_T]) -> AsyncIterator[_T]:
        """Yield every page of a list; `path` has a query, to which the page's number is added."""
        number, has_next = 0, True
        while has_next:
            number += 1
            answer = await self.ask("GET", f"{path}&page={number}")
            if number > _MAX_PAGES:
                raise malformed_answer(answer, f"the list does not end after {_MAX_PAGES} pages")
            yield parse(answer, shape)
            has_next = answer.has_next


def parse(answer: Answer, shape: type[_T]) -> _T:
    """Return the content as `shape`; FORGE_NONSENSE says where it is another."""
    try:
        return TypeAdapter(shape).validate_python(answer.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ForgeError(
            Kind.FORGE_NONSENSE,
            f"{answer.url}: not what a forge answers here: {where}: {first['msg']}",
            hint=IS_FORGE,
        ) from error


def malformed_answer(answer: Answer, wrong: str) -> ForgeError:
    """Return the error for an answer that has the right shape and makes no sense."""
    return ForgeError(Kind.FORGE_NONSENSE, f"{answer.url}: {wrong}", hint=IS_FORGE)
