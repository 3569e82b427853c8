"""Answers requests as they were recorded, without a socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from agent.adapters.http.retries import Retries
from agent.adapters.hydra.client import HydraClient
from agent.domain.job import Job
from fakes.events import RememberedEvents, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RECORDED = Path(__file__).parent.parent / "fixtures" / "hydra-recorded"
INSTANCE = "http://127.0.0.1:3000"

_T = TypeVar("_T")


def job(name: str = "alpha", jobset: str = "main", project: str = "nix-config") -> Job:
    return Job(INSTANCE, project, jobset, name)


class Replay(httpx.AsyncBaseTransport):
    """Recordings by name, each under the path it was recorded for; `asked` lists the requests.

    `set` adds an answer that was not recorded. A request for which there is none fails the test.
    """

    def __init__(self, *names: str) -> None:
        self._answers: dict[str, httpx.Response] = {}
        self.asked: list[httpx.Request] = []
        for name in names:
            recorded = json.loads((RECORDED / f"{name}.json").read_text())
            assert recorded["request"]["method"] == "GET"
            body = recorded["body"]
            text = body if isinstance(body, str) else json.dumps(body)
            self._put(
                recorded["request"]["path"],
                recorded["status"],
                text,
                # The date of the recording would make its cookies expire one day.
                {
                    key: recorded["headers"][key]
                    for key in ("Content-Type", "Location")
                    if key in recorded["headers"]
                },
            )

    def set(self, path: str, status: int, body: Any = "", **headers: str) -> Replay:
        text = body if isinstance(body, str) else json.dumps(body)
        self._put(path, status, text, {k.replace("_", "-"): v for k, v in headers.items()})
        return self

    def __contains__(self, path: str) -> bool:
        return path in self._answers

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.asked]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.raw_path.decode()
        assert path in self._answers, f"nothing is recorded for {path}"
        known = self._answers[path]
        # MockTransport's answers would be decoded and closed already; each request gets its own.
        return httpx.Response(known.status_code, headers=known.headers, content=known.content)

    def _put(self, path: str, status: int, text: str, headers: dict[str, str]) -> None:
        self._answers[path] = httpx.Response(status, headers=headers, text=text)


def ask(
    transport: httpx.AsyncBaseTransport | None,
    question: Callable[[HydraClient], Awaitable[_T]],
    *,
    instance: str = INSTANCE,
    sink: RememberedEvents | None = None,
) -> _T:
    """Run one question of a client that makes each request once."""

    async def run() -> _T:
        async with HydraClient(
            instance,
            timeout=5,
            deadline=20,
            sink=sink or RememberedEvents(),
            clock=SteppedClock(),
            transport=transport,
            retries=Retries(attempts=1),
        ) as client:
            return await question(client)

    return asyncio.run(run())
