"""The idle path: learns with one request and the standard library that there is nothing to do.

The last full run that found nothing to do leaves a note: Hydra's newest build, where the host's
links and the marks pointed, and a fingerprint of all that the settings were made of. While all of
that holds, and the note is not too old, the answer is the same. What the settings say is in the
note, as the full run has read it: nothing but the place of the note is found out here, and a note
of other settings is none. This module may only ever answer "nothing to do"; at the least doubt it
answers None, and the full run begins.

Of HTTP it takes only what Hydra itself would send to this one question. What the full run's client
reads in another way than this module might is a doubt: folded or strange headers, two of a kind,
anything behind the headers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import sys
import time

from agent.lean.hydra_session import FILE as SESSION_FILE
from agent.lean.hydra_session import Session
from agent.lean.hydra_urls import build_id_in, is_plain
from agent.lean.places import CONFIG_FILE, HOME_PLACES, STATE_DIR, SURROUNDINGS, user_state

NOTE = "idle.json"
LAST_CONTACT = "last-contact"
LOCK = "agent.lock"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

_PREFIX = "NIXOS_HYDRA_AGENT_"
_MAX_FILE = 1 << 20
_MAX_HEAD = 1 << 14
_MAX_BODY = 4 << 20
"""Bytes: as much as the full run's client takes."""
_FOUND = 302
_BUSY = frozenset({429, 500, 502, 503, 504})
"""What a Hydra answers that has too much to do, or the proxy before it."""
_NOT_IDLE = frozenset({"--dry-run", "--help", "-h"})
MARKS = (
    *("confirmed", "pending", "staged", "tested"),
    *("rolling-back", "rebooting-back", "rolled-back"),
)
"""The names of all marks."""
_UNDER_WAY = ("pending", "staged", "rolling-back", "rebooting-back", "rolled-back")
"""Marks that give `agent confirm` something to do."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t\x20-\x7e]*)?")
_HEADER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*((?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?)[\t ]*"
)
_LENGTH = re.compile(r"[0-9]{1,9}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_PORTS = {"http": "80", "https": "443"}


class NotIdle(Exception):  # noqa: N818 - it is no error
    """Something is not as it was: the full run must look."""


class Busy(NotIdle):
    """Hydra has too much to do, or takes too long.

    `wait` is the seconds for which it asks to be left alone, 0 where it does not say.
    """

    def __init__(self, wait: float = 0.0) -> None:
        super().__init__()
        self.wait = wait


def attempt(
    arguments: Sequence[str], on_busy: Callable[[float], None] = lambda _wait: None
) -> int | None:
    """Return 0 if there is surely nothing to do, and None otherwise.

    Args:
        arguments: those of `agent upgrade`.
        on_busy: called where Hydra is too busy to be asked much, with the seconds for which it
            asks to be left alone, 0 where it does not say.
    """
    began = time.monotonic()
    try:
        if sys.stdout.isatty() or not _NOT_IDLE.isdisjoint(arguments):
            return None
        content = read_file(config_file(arguments, os.environ))
        state_dir = _state_dir(content, os.environ)
        note = json.loads(read_file(os.path.join(state_dir, NOTE)))
        _check(note, state_dir, fingerprint(content, os.environ, arguments))
        session = Session(str(note["instance"]), os.path.join(state_dir, SESSION_FILE))
        _ask(note, session)
        with _locked(state_dir):
            # Another agent, or an administrator, may have changed the host meanwhile.
            again = json.loads(read_file(os.path.join(state_dir, NOTE)))
            _check(again, state_dir, note["fingerprint"])
            _touch(state_dir)
            session.keep()
        if note["is_told"]:
            _log(note, time.monotonic() - began)
    except Busy as busy:
        on_busy(busy.wait)
        return None
    except Exception:  # noqa: BLE001 - whatever it is, the full run finds out and reports it
        return None
    return 0


def has_nothing_to_confirm(arguments: Sequence[str]) -> bool:
    """Return whether `agent confirm` surely has nothing to do, as at nearly every boot.

    Args:
        arguments: those of `agent confirm`; with any but the configuration file it was run by hand.
    """
    try:
        named = config_file(arguments, os.environ)
        plain: tuple[list[str], ...] = ([], ["--config", named], [f"--config={named}"])
        if sys.stdout.isatty() or list(arguments) not in plain:
            return False
        content = read_file(named)
        state_dir = _state_dir(content, os.environ)
        note = json.loads(read_file(os.path.join(state_dir, NOTE)))
        _check_settings(note, state_dir, fingerprint(content, os.environ, arguments))
        present = find_marks(note["marks_dir"])
    except Exception:  # noqa: BLE001 - whatever it is, the full command finds out and reports it
        return False
    return "confirmed" in present and not any(mark in present for mark in _UNDER_WAY)


def fingerprint(content: bytes, environ: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Return a digest of everything that the settings are made of."""
    own = sorted(item for item in environ.items() if item[0].upper().startswith(_PREFIX))
    around: tuple[object, ...] = ()
    if _may_be_of_a_home(content, own):
        # Which of two profiles is a home's.
        first = HOME_PLACES["profile"][0].format(state=user_state(environ))
        has_it = os.path.isdir(os.path.dirname(first))
        around = (os.getuid(), has_it, [environ.get(name) for name in SURROUNDINGS])
    made_of = (content, own, list(arguments), os.uname().nodename, around)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


def _may_be_of_a_home(content: bytes, own: Sequence[tuple[str, str]]) -> bool:
    # An escaped key has a backslash.
    written = b"target" in content or b"\\" in content
    return written or any(name.upper() == f"{_PREFIX}TARGET" for name, _ in own)


def fingerprint_now(arguments: Sequence[str]) -> str | None:
    """Return the fingerprint as it is now; None without a file, where every run is a full one."""
    try:
        content = read_file(config_file(arguments, os.environ))
    except (OSError, NotIdle):
        return None
    return fingerprint(content, os.environ, arguments)


def config_file(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the configuration file: the last one named, as the command line takes it."""
    found = environ.get(f"{_PREFIX}CONFIG") or CONFIG_FILE
    for position, argument in enumerate(arguments):
        if argument == "--config":
            found = arguments[position + 1]
        elif argument.startswith("--config="):
            found = argument.partition("=")[2]
    return found


def _state_dir(content: bytes, environ: Mapping[str, str]) -> str:
    """Return where the note ought to be; the note itself says whether that is right."""
    own = {name.upper(): value for name, value in environ.items()}
    read: dict[str, object] = {}
    if b"state_dir" in content or b"target" in content:
        import tomllib

        read = tomllib.loads(content.decode())
    paths = read.get("paths")
    named = own.get(f"{_PREFIX}PATHS__STATE_DIR")
    if named is None and isinstance(paths, dict):
        named = paths.get("state_dir")
    if named is not None:
        return str(named)
    if own.get(f"{_PREFIX}TARGET", read.get("target")) == "home-manager":
        return HOME_PLACES["state_dir"][0].format(state=user_state(environ))
    return STATE_DIR


def read_file(path: str) -> bytes:
    """Return the content of a small file.

    Raises:
        NotIdle: it is too large.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        content = stream.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise NotIdle
    return content


@contextlib.contextmanager
def _locked(state_dir: str):  # type: ignore[no-untyped-def] # noqa: ANN202 - typing costs 5 ms
    handle = os.open(os.path.join(state_dir, LOCK), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _check_settings(note: dict[str, object], state_dir: str, now_fingerprint: str) -> None:
    from agent import __version__

    if not (
        note["version"] == __version__
        and note["fingerprint"] == now_fingerprint
        and os.path.normpath(str(note["state_dir"])) == os.path.normpath(state_dir)
    ):
        raise NotIdle


def _check(note: dict[str, object], state_dir: str, now_fingerprint: str) -> None:
    _check_settings(note, state_dir, now_fingerprint)
    links, marks = note["links"], note["marks"]
    until, interval = note["until"], note["interval"]
    if not (
        isinstance(until, float)
        and isinstance(interval, float)
        and 0 < until - time.time() <= interval
        and isinstance(links, dict)
        # Strictly: a link that leads nowhere any more is not as it was.
        and all(os.path.realpath(link, strict=True) == target for link, target in links.items())
        and isinstance(marks, dict)
        and "confirmed" in marks
        and not any(mark in marks for mark in _UNDER_WAY)
        and marks == find_marks(str(note["marks_dir"]))
        and not _has_proxies(os.environ)
    ):
        raise NotIdle


def find_marks(marks_dir: str) -> dict[str, str]:
    """Return where the marks lead, by name.

    Raises:
        OSError: one leads nowhere, or they cannot be read.
    """
    present = set(os.listdir(marks_dir)).intersection(MARKS)
    places = {mark: os.path.join(marks_dir, mark) for mark in present}
    for place in places.values():
        os.stat(place)
    return {mark: os.readlink(place) for mark, place in places.items()}


def _has_proxies(environ: Mapping[str, str]) -> bool:
    """Whether any proxy is set, in upper or lower case, as `urllib.request.getproxies` reads it.

    Exceptions from a proxy count, too: what the full run's client cannot read ends it.
    """
    return any(name.lower().endswith("_proxy") and value for name, value in environ.items())


def _ask(note: dict[str, object], session: Session) -> None:
    """Ask Hydra for its newest build; return if it is the noted one.

    In a thread, which is left behind when the time is over: nothing can end the resolver's wait.

    Raises:
        Busy: it takes too long, or says that it has too much to do.
        NotIdle: all else.
    """
    import threading

    answers: list[bytes | None] = []

    def ask() -> None:
        try:
            answers.append(_request(note, session.header()))
        except TimeoutError:
            return  # as one that has not come to its end
        except Exception:  # noqa: BLE001 - the full run finds out and reports it
            answers.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(float(str(note["timeout"])))
    if not answers:
        raise Busy
    if answers[0] is None:
        raise NotIdle
    status, headers = _parse(answers[0])
    if status in _BUSY:
        raise Busy(_wait(headers))
    _check_answer(note, status, headers)
    session.take(headers.get("set-cookie", []))


def _wait(headers: dict[str, list[str]]) -> float:
    asked = headers.get("retry-after", [""])[0]
    return float(asked) if _SECONDS.fullmatch(asked) else 0.0


def _check_answer(note: dict[str, object], status: int, headers: dict[str, list[str]]) -> None:
    """Make sure that the full run's client would take it for a redirect to the noted build."""
    asked = f"{note['scheme']}://{note['authority']}{note['path']}"
    (location,) = headers["location"]
    lengths = headers.get("content-length", [])
    if not (
        status == _FOUND
        and is_plain(asked, location)
        and build_id_in(str(note["instance"]), asked, location) == note["build_id"]
        and headers.get("content-encoding", ["identity"]) == ["identity"]
        and headers.get("transfer-encoding", ["chunked"]) == ["chunked"]
        and not (lengths and "transfer-encoding" in headers)
        and len(lengths) <= 1
        and all(_LENGTH.fullmatch(size) and int(size) <= _MAX_BODY for size in lengths)
    ):
        raise NotIdle


def _request(note: dict[str, object], cookie: str) -> bytes:
    """Return the head of the answer, without the empty line that ends it.

    Raises:
        NotIdle: there is more than a head, or it does not end.
        OSError: nothing could be asked, or the connection broke.
    """
    timeout = float(str(note["timeout"]))
    scheme = str(note["scheme"])
    found = _AUTHORITY.fullmatch(str(note["authority"]))
    path = str(note["path"])
    if scheme not in _PORTS or found is None or not (path.isascii() and path.isprintable()):
        raise NotIdle
    host, port = found[1], found[2] or _PORTS[scheme]
    lines = [
        f"HEAD {path} HTTP/1.1",
        f"Host: {host}" if port == _PORTS[scheme] else f"Host: {host}:{port}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        f"User-Agent: nixos-hydra-agent/{note['version']}",
        "Connection: close",
        *([f"Cookie: {cookie}"] if cookie else []),
    ]
    connection, no_more = _connect(scheme, host.strip("[]"), int(port), timeout)
    with connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return _read_head(connection, no_more)


def _read_head(connection: socket.socket, no_more: tuple[type[OSError], ...]) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(_MAX_HEAD)
        if not part or len(received) + len(part) > _MAX_HEAD:
            raise NotIdle
        received += part
    head, _, rest = received.partition(b"\r\n\r\n")
    # To this question nothing else is an answer, a body neither.
    if rest or _has_data(connection, no_more):
        raise NotIdle
    return head


def _has_data(connection: socket.socket, no_more: tuple[type[OSError], ...]) -> bool:
    """Whether there is more to read already."""
    connection.settimeout(0)
    try:
        return bool(connection.recv(1))
    except no_more:
        return False


def _parse(head: bytes) -> tuple[int, dict[str, list[str]]]:
    """Return the status and the headers, whose names are in lower case.

    Raises:
        NotIdle: it is anything but plain.
    """
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise NotIdle
    headers: dict[str, list[str]] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise NotIdle
        headers.setdefault(found[1].decode().lower(), []).append(found[2].decode())
    return int(status[1]), headers


def _connect(
    scheme: str, host: str, port: int, timeout: float
) -> tuple[socket.socket, tuple[type[OSError], ...]]:
    """Return a connection, and what it raises when there is nothing to read yet."""
    import socket

    if scheme == "http":
        return socket.create_connection((host, port), timeout), (BlockingIOError,)
    import ssl

    from agent.lean.trust_store import system_trust

    context = system_trust()
    plain = socket.create_connection((host, port), timeout)
    try:
        secure = context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    return secure, (BlockingIOError, ssl.SSLWantReadError)


def _touch(state_dir: str) -> None:
    """Leave the time of this contact."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime())
    # Not blocking: in its place may be a pipe that nobody reads.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(os.path.join(state_dir, LAST_CONTACT), flags, 0o600)
    try:
        os.write(handle, stamp.encode())
    finally:
        os.close(handle)


def write_note(state_dir: str, note: dict[str, object]) -> None:
    """Replace the note in one step."""
    path = os.path.join(state_dir, NOTE)
    handle = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w") as stream:
        json.dump(note, stream)
    os.replace(f"{path}.new", path)


def _log(note: dict[str, object], seconds: float) -> None:
    print(  # noqa: T201 - the one log line of an idle run
        json.dumps(
            {
                "build_id": note["build_id"],
                "run_id": os.urandom(6).hex(),
                "host": note["host"],
                "job": note["job"],
                "durations": {"total": round(seconds, 3)},
                "event": "run.idle",
                "level": "info",
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        ),
        flush=True,
    )
