"""Owns the sockets: an HTTP server that answers with whatever function it is given."""

from __future__ import annotations

import contextlib
import signal
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qsl, unquote

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

_JOIN_SECONDS: Final = 10.0
"""How long closing waits for a thread that will not end; such a thread is a bug of its answer."""


class HangUp(Exception):  # noqa: N818 - it is what a server does, not what went wrong
    """Raised by an answer to close the connection without answering."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived: `path` is undecoded, the names of `headers` are lower case."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def target(self) -> str:
        """The path with its query."""
        return f"{self.path}?{self.query_string}" if self.query_string else self.path

    @property
    def segments(self) -> list[str]:
        """The parts of the path, percent-decoded one by one (so `%2F` stays inside its part)."""
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `Content-Length` and `Date` are added where `headers` has none.

    A body that is not bytes is sent piece by piece until it ends, without a length. A stated
    length that is not the body's is sent as it stands, and the connection closed: a cut answer.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""


class LoopbackServer:
    """Serves `answer` on 127.0.0.1, on a port of the kernel's choice, from `start` to `close`.

    With a `listener` it serves on that instead: a socket that listens already, and is closed in the
    end.

    Each connection has a thread of its own. Nothing is ever printed. What an answer raises is
    answered with 500, kept in `faults`, and raised again when the server is left as a context
    manager, so that a bug in an answer cannot pass for a fault of the server it plays.
    """

    def __init__(
        self, answer: Callable[[Request], Answer], listener: socket.socket | None = None
    ) -> None:
        self._answer = answer
        self.overrides: dict[str, Answer | Callable[[Request], Answer]] = {}
        """By path, undecoded; with its query, or without for any query."""
        self.requests: list[Request] = []
        """All requests so far, in the order of their arrival."""
        self.faults: list[Exception] = []
        self.stopping = threading.Event()
        self._listener = _Listener(self, listener)
        self._thread = threading.Thread(target=self._listener.accept_until, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on, from its construction."""
        return int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{self._listener.server_name}:{self.port}"

    def respond(self, request: Request) -> Answer:
        """Note the request and return its answer.

        Raises:
            HangUp: the connection is to be closed instead.
        """
        self.requests.append(request)
        chosen = self.overrides.get(request.target, self.overrides.get(request.path, self._answer))
        if isinstance(chosen, Answer):
            return chosen
        try:
            return chosen(request)
        except HangUp:
            raise
        except Exception as fault:  # noqa: BLE001 - kept, and raised again by __exit__
            self.faults.append(fault)
            return Answer(500, {"Content-Type": "text/plain"}, f"fault: {fault!r}\n".encode())

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def close(self) -> None:
        """Stop, hang up on every client, and wait for the threads; may be called again."""
        self.stopping.set()
        self._listener.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._listener.end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if self.faults and error is None:
            raise self.faults[0]


class _Listener(ThreadingHTTPServer):
    """The listening socket and the threads of its connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: LoopbackServer, listener: socket.socket | None) -> None:
        self.owner = owner
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection, bind_and_activate=listener is None)
        if listener is not None:
            self.socket.close()
            self.socket = listener
            self._note_address()

    @override
    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which can take seconds where no resolver answers.
        socketserver.TCPServer.server_bind(self)
        self._note_address()

    def _note_address(self) -> None:
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def accept_until(self) -> None:
        """Accept connections until the owner stops.

        Signals are for the main thread: one that came here would not wake it, and its handler would
        wait until something else does. The threads of connections inherit what is blocked.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self.owner.stopping.is_set():
            self.handle_request()

    def wake(self) -> None:
        """End the wait in `accept_until` at once; the default loop would look twice a second."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Hang up on every client, and wait for the threads."""
        with self._guard:
            open_now = dict(self._connections)
        for connection in open_now.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in open_now:
            thread.join(_JOIN_SECONDS)
        self.server_close()

    @override
    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - only datagrams have tuples
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._guard:
            self._connections[thread] = request
        thread.start()

    @override
    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        super().shutdown_request(request)
        with self._guard:
            self._connections.pop(threading.current_thread(), None)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that hangs up is its own affair, anything else is a fault."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, (OSError, HangUp)):
            self.owner.faults.append(error)


class _Connection(BaseHTTPRequestHandler):
    """One connection, kept alive between requests as Hydra does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the standard streams belong to the demo."""

    def _handle(self) -> None:
        try:
            answer = self.server.owner.respond(self._read())
        except HangUp:
            self.close_connection = True
            return
        self._write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the base's names

    def _read(self) -> Request:
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isascii() and length.isdigit() else b""
        return Request(self.command, path, query, _lower(self.headers.items()), body)

    def _write(self, answer: Answer) -> None:
        headers, body = dict(answer.headers), answer.body
        if isinstance(body, bytes):
            length = headers.setdefault("Content-Length", str(len(body)))
            self.close_connection |= length != str(len(body))
        else:
            self.close_connection = True
        headers.setdefault("Date", formatdate(usegmt=True))
        headers["Connection"] = "close" if self.close_connection else "keep-alive"
        status = f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"
        lines = [status, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        if self.command == "HEAD":
            self.wfile.write(head)
        elif isinstance(body, bytes):
            # In one go: a second write would wait for the acknowledgement of the first.
            self.wfile.write(head + body)
        else:
            self.wfile.write(head)
            for piece in body:
                self.wfile.write(piece)


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
