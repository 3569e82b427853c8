"""An ntfy on a real socket: takes messages as its documentation says, and keeps them.

Source: https://docs.ntfy.sh/publish/ (publish as JSON; headers X-Priority, X-Tags, X-Click).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.demo.loopback import Answer, LoopbackServer, Request

PRIORITIES = ("min", "low", "default", "high", "max")


@dataclass(frozen=True)
class Received:
    """One message as a subscriber of the topic sees it."""

    topic: str
    title: str
    message: str
    priority: str
    tags: tuple[str, ...]
    click: str | None
    icon: str | None


class NtfyServer(LoopbackServer):
    """Keeps what it takes in `received`; with a `token`, only from who has it."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.received: list[Received] = []
        super().__init__(self._publish)

    def _publish(self, request: Request) -> Answer:
        headers = request.headers
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return _refused(403, 40301, "forbidden")
        content = json.loads(request.body)
        priority = headers.get("x-priority", "default")
        if request.method != "POST" or request.path not in ("", "/") or not content.get("topic"):
            return _refused(400, 40009, "invalid request: topic invalid")
        if priority not in PRIORITIES:
            return _refused(400, 40007, "invalid request: priority invalid")
        self.received.append(
            Received(
                topic=content["topic"],
                title=content["title"],
                message=content["message"],
                priority=priority,
                tags=tuple(filter(None, headers.get("x-tags", "").split(","))),
                click=headers.get("x-click"),
                icon=headers.get("x-icon"),
            )
        )
        body = {"id": "hwQ2YpKdmg", "event": "message", "topic": content["topic"]}
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _refused(status: int, code: int, error: str) -> Answer:
    body = {"code": code, "http": status, "error": error}
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
