"""A forge on a real socket: finds the operation that a request means, and checks who asks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.demo.loopback import Answer, LoopbackServer, Request
from fake_forges.world import World


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Ends an operation with a status and what the forge says."""

    def __init__(self, status: int, content: object) -> None:
        super().__init__(status)
        self.status = status
        self.content = content


@dataclass(frozen=True)
class Asked:
    """One request, taken apart: `path` has the values of the operation's parameters."""

    operation: str
    path: dict[str, str]
    query: dict[str, str]
    content: Any


@dataclass(frozen=True)
class Reply:
    """One answer before it becomes bytes; no body where `content` is None."""

    status: int
    content: Any = None
    headers: tuple[tuple[str, str], ...] = ()


Operation = Callable[[Asked], Reply]
Witness = Callable[[Asked, Reply], None]


class ForgeServer(LoopbackServer, ABC):
    """Serves a world; `witness` sees every request and its answer, and may object.

    What it raises is raised again when the server is left.
    """

    root = ""

    def __init__(self, world: World | None = None, witness: Witness | None = None) -> None:
        self.world = world or World()
        self._witness = witness
        super().__init__(self._serve)

    @property
    def repository(self) -> str:
        return f"{self.world.owner}/{self.world.name}"

    @abstractmethod
    def operations(self) -> dict[str, Operation]:
        """Operations by method and path below the root, as the forge's description names them."""

    @abstractmethod
    def unauthorised(self) -> object:
        """What is answered to who may not do a thing."""

    @abstractmethod
    def forbidden(self) -> object:
        """What is answered to a token that may only read."""

    @abstractmethod
    def missing(self) -> object:
        """What is answered where nothing is."""

    def _serve(self, request: Request) -> Answer:
        try:
            asked = self._understood(request)
        except Refusal as refusal:
            return _answer(Reply(refusal.status, refusal.content))
        try:
            said = self.operations()[asked.operation](asked)
        except Refusal as refusal:
            said = Reply(refusal.status, refusal.content)
        if self._witness is not None:
            self._witness(asked, said)
        return _answer(said)

    def _understood(self, request: Request) -> Asked:
        if request.headers.get("authorization") != f"token {self.world.token}":
            raise Refusal(401, self.unauthorised())
        found = self._find(request)
        if found is None:
            raise Refusal(404, self.missing())
        operation, path = found
        self._check_repository(path)
        if request.method != "GET" and not self.world.may_propose:
            raise Refusal(403, self.forbidden())
        content = json.loads(request.body) if request.body else None
        return Asked(operation, path, request.query, content)

    def _find(self, request: Request) -> tuple[str, dict[str, str]] | None:
        below = request.path.removeprefix(self.root)
        if not request.path.startswith(self.root):
            return None
        parts = Request(request.method, below, "", {}).segments
        for operation in self.operations():
            method, _, template = operation.partition(" ")
            names = template.strip("/").split("/")
            if method == request.method and len(names) == len(parts):
                pairs = list(zip(names, parts, strict=True))
                if all(name == part or name.startswith("{") for name, part in pairs):
                    values = {n.strip("{}"): part for n, part in pairs if n.startswith("{")}
                    return operation, values
        return None

    def _check_repository(self, path: dict[str, str]) -> None:
        if "repo" in path and (path["owner"], path["repo"]) != (self.world.owner, self.world.name):
            raise Refusal(404, self.missing())

    def page(self, items: list[Any], asked: Asked, size_name: str, most: int) -> Reply:
        """One page of a list, and the Link header that names the next."""
        size = min(int(asked.query.get(size_name, 30)), most)
        number = int(asked.query.get("page", 1))
        part = items[(number - 1) * size : number * size]
        has_next = number * size < len(items)
        link = f'<{self.url}/x?page={number + 1}>; rel="next", <{self.url}/x?page=9>; rel="last"'
        return Reply(200, part, (("Link", link),) if has_next else ())


def _answer(said: Reply) -> Answer:
    headers = {"Content-Type": "application/json; charset=utf-8", **dict(said.headers)}
    body = b"" if said.content is None else json.dumps(said.content).encode()
    return Answer(said.status, headers, body)
