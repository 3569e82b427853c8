"""A plain HTTP client for tests: one request a connection, no redirects, no cookies of its own."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

JSON = {"Accept": "application/json"}


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def session(self) -> str:
        """The cookie as it is to be sent back."""
        return self.headers["Set-Cookie"].partition(";")[0]


def ask(
    port: int,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: str = "",
) -> Answered:
    """Send exactly these headers; `Host` is the server's own unless given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = {"Host": f"127.0.0.1:{port}", **(headers or {})}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body:
            sent["Content-Length"] = str(len(body.encode()))
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body.encode())
        response = connection.getresponse()
        return Answered(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
