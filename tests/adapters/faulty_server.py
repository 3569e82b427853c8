"""A server on loopback that misbehaves in one chosen way, on real sockets.

    with FaultyServer(answer(500, b"oops")) as server:
        ...ask server.url...

A behaviour is a function of one `Talk`: a connection on which a request has arrived (or, over TLS,
a handshake has succeeded). When it returns, the connection is closed.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl

JSON = "application/json"
HTML = "text/html; charset=UTF-8"


@dataclass
class Talk:
    """One connection with one request."""

    connection: socket.socket
    path: str
    headers: Mapping[str, str]
    stopped: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def wait_for_the_end(self) -> None:
        """Say nothing until the client hangs up, or the server is stopped."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(0.05)
            while not self.stopped.is_set():
                try:
                    if not self.connection.recv(65536):
                        return
                except TimeoutError:
                    continue


Behaviour = Callable[[Talk], None]


class FaultyServer:
    """Accepts connections until it is closed; `paths` are the paths asked, in order.

    `tls` is a server's context: then it speaks https.
    """

    def __init__(self, behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        self._behaviour = behaviour
        self._tls = tls
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self._start(self._accept)

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a behaviour does not end when the server is closed"
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        # Shutting the listener down ends the wait for the next connection.
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # The client may hang up at any point, and mostly does.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            if self._tls is None:
                self._answer(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secured:
                    self._answer(secured)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            block = connection.recv(65536)
            if not block:
                return
            head += block
        first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        self._read_body(connection, head.partition(b"\r\n\r\n")[2], headers)
        self.paths.append(path)
        self.headers.append(headers)
        self._behaviour(Talk(connection, path, headers, self._stopped))

    @staticmethod
    def _read_body(connection: socket.socket, begun: bytes, headers: Mapping[str, str]) -> None:
        # What is left unread when a connection is closed resets it: the answer could be lost.
        left = int(headers.get("content-length", "0")) - len(begun)
        while left > 0 and (block := connection.recv(65536)):
            left -= len(block)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The bytes before a body."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()


def whole(status: int, body: bytes = b"", content_type: str = JSON, **headers: str) -> bytes:
    """The bytes of a whole answer; an underscore in a header's name is a dash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    length = {"Content-Type": content_type, "Content-Length": str(len(body))}
    return head(status, {**length, **named}) + body


def answer(status: int, body: bytes = b"", content_type: str = JSON, **headers: str) -> Behaviour:
    """Answer properly."""
    return say(whole(status, body, content_type, **headers))


def redirect(location: str, status: int = 302) -> Behaviour:
    """Redirect; `{url}` in the location is the URL that was asked."""

    def behave(talk: Talk) -> None:
        url = f"http://{talk.headers['host']}{talk.path}"
        talk.send(whole(status, b"<p>Moved</p>", HTML, Location=location.format(url=url)))

    return behave


def say(data: bytes) -> Behaviour:
    """Send these bytes, whatever they are, and close."""
    return lambda talk: talk.send(data)


def say_nothing(talk: Talk) -> None:
    """Never answer, and never close."""
    talk.wait_for_the_end()


def hang_up(talk: Talk) -> None:
    """Close without an answer."""


def reset(talk: Talk) -> None:
    """Close with a reset instead of a proper end."""
    talk.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def drip(data: bytes, *, at_once: int = 0, seconds: float = 1.0) -> Behaviour:
    """Send some bytes at once and the rest one by one."""

    def behave(talk: Talk) -> None:
        talk.send(data[:at_once])
        for position in range(at_once, len(data)):
            if talk.stopped.wait(seconds):
                return
            talk.send(data[position : position + 1])

    return behave


def truncated(body: bytes, announced: int) -> Behaviour:
    """Announce a longer body than comes."""
    return say(head(200, {"Content-Type": JSON, "Content-Length": str(announced)}) + body)


def broken_chunks(body: bytes) -> Behaviour:
    """Send one good chunk, and then what is none."""
    chunked = head(200, {"Content-Type": JSON, "Transfer-Encoding": "chunked"})
    return say(chunked + b"%x\r\n%s\r\n" % (len(body), body) + b"nonsense\r\n")


def flood(size: int, *, announced: bool) -> Behaviour:
    """Send a JSON text of `size` bytes, with or without telling how much there is to come."""

    def behave(talk: Talk) -> None:
        length = {"Content-Length": str(size)} if announced else {}
        talk.send(head(200, {"Content-Type": JSON, **length}) + b'"')
        block = b"x" * 65536
        for _ in range(size // len(block)):
            talk.send(block)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave differently at each request; the last way stays."""
    ways = itertools.chain(behaviours, itertools.repeat(behaviours[-1]))
    guard = threading.Lock()

    def behave(talk: Talk) -> None:
        with guard:
            way = next(ways)
        way(talk)

    return behave


def by_path(ways: Iterable[tuple[str, Behaviour]], otherwise: Behaviour) -> Behaviour:
    """Behave as the first entry says whose text is in the path."""
    known = list(ways)

    def behave(talk: Talk) -> None:
        next((way for part, way in known if part in talk.path), otherwise)(talk)

    return behave
