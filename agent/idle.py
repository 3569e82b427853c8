"""The idle path: learns with one request and the standard library that there is nothing to do.

The last full run that found nothing to do leaves a note: Hydra's newest build, where the host's
links pointed, and a fingerprint of all that the settings were made of. While all of that holds, and
the note is not too old, the answer is the same. What the settings say is in the note, as the full
run has read it: nothing but the place of the note is found out here, and a note of other settings
is none. This module may only ever answer "nothing to do"; at the least doubt it answers None, and
the full run begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time

from agent.places import CONFIG_FILE, HOME_PLACES, STATE_DIR, SURROUNDINGS, user_state

NOTE = "idle.json"
LAST_CONTACT = "last-contact"
LOCK = "agent.lock"
SESSION = "hydra_session"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from http.client import HTTPConnection

_PREFIX = "NIXOS_HYDRA_AGENT_"
_MAX_FILE = 1 << 20
_FOUND = 302
_NOT_IDLE = frozenset({"--dry-run", "--help", "-h"})
_UNDER_WAY = ("pending", "staged", "rolling-back", "rebooting-back", "rolled-back")
"""Marks that give `agent confirm` something to do."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Doubt(Exception):  # noqa: N818 - it is no error
    """Something is not as it was: the full run must look."""


def attempt(arguments: Sequence[str]) -> int | None:
    """Return 0 if there is surely nothing to do, and None otherwise.

    Args:
        arguments: those of `agent upgrade`.
    """
    began = time.monotonic()
    try:
        if sys.stdout.isatty() or not _NOT_IDLE.isdisjoint(arguments):
            return None
        content = read_file(config_file(arguments, os.environ))
        state_dir = _state_dir(content, os.environ)
        note = json.loads(read_file(os.path.join(state_dir, NOTE)))  # noqa: PTH118 - pathlib costs 5 ms
        _check(note, state_dir, fingerprint(content, os.environ, arguments))
        cookie = _ask(note)
        with _locked(state_dir):
            # Another agent, or a person, may have been here meanwhile.
            again = json.loads(read_file(os.path.join(state_dir, NOTE)))  # noqa: PTH118
            _check(again, state_dir, note["fingerprint"])
            _touch(state_dir, note, cookie)
        if note["is_told"]:
            _tell(note, time.monotonic() - began)
    except Exception:  # noqa: BLE001 - whatever it is, the full run finds out and tells
        return None
    return 0


def has_nothing_to_confirm(arguments: Sequence[str]) -> bool:
    """Return whether `agent confirm` surely has nothing to do, as at nearly every boot.

    Args:
        arguments: those of `agent confirm`; with any but the configuration file a person asks.
    """
    try:
        named = config_file(arguments, os.environ)
        plain: tuple[list[str], ...] = ([], ["--config", named], [f"--config={named}"])
        if sys.stdout.isatty() or list(arguments) not in plain:
            return False
        content = read_file(named)
        state_dir = _state_dir(content, os.environ)
        note = json.loads(read_file(os.path.join(state_dir, NOTE)))  # noqa: PTH118
        _check_settings(note, state_dir, fingerprint(content, os.environ, arguments))
        present = os.listdir(note["marks_dir"])  # noqa: PTH208
    except Exception:  # noqa: BLE001 - whatever it is, the full command finds out and tells
        return False
    return "confirmed" in present and not any(mark in present for mark in _UNDER_WAY)


def fingerprint(content: bytes, environ: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Return a digest of everything that the settings are made of."""
    own = sorted(item for item in environ.items() if item[0].upper().startswith(_PREFIX))
    around: tuple[object, ...] = ()
    if _may_be_of_a_home(content, own):
        # Which of two profiles is a home's.
        first = HOME_PLACES["profile"][0].format(state=user_state(environ))
        has_it = os.path.isdir(os.path.dirname(first))  # noqa: PTH112, PTH120
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
    except (OSError, Doubt):
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
        import tomllib  # noqa: PLC0415 - only where the directory may not be the usual one

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
        Doubt: it is too large.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:  # noqa: PTH123
        content = stream.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise Doubt
    return content


@contextlib.contextmanager
def _locked(state_dir: str):  # type: ignore[no-untyped-def] # noqa: ANN202 - typing costs 5 ms
    handle = os.open(os.path.join(state_dir, LOCK), os.O_RDWR | os.O_CLOEXEC)  # noqa: PTH118
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _check_settings(note: dict[str, object], state_dir: str, now_fingerprint: str) -> None:
    from agent import __version__  # noqa: PLC0415

    if not (
        note["version"] == __version__
        and note["fingerprint"] == now_fingerprint
        and os.path.normpath(str(note["state_dir"])) == os.path.normpath(state_dir)
    ):
        raise Doubt


def _check(note: dict[str, object], state_dir: str, now_fingerprint: str) -> None:
    _check_settings(note, state_dir, now_fingerprint)
    links = note["links"]
    until, interval = note["until"], note["interval"]
    if not (
        isinstance(until, float)
        and isinstance(interval, float)
        and 0 < until - time.time() <= interval
        and isinstance(links, dict)
        and all(os.path.realpath(link) == target for link, target in links.items())
        and not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES)
    ):
        raise Doubt


def _ask(note: dict[str, object]) -> str:
    """Ask Hydra for its newest build; return the session cookie to send the next time.

    In a thread, which is left behind when the time is over: nothing can end the resolver's wait.
    """
    import threading  # noqa: PLC0415

    answers: list[tuple[int, str, str]] = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # the full run finds out and tells
            answers.append(_request(note))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(float(str(note["timeout"])))
    status, location, cookie = answers[0]
    if status != _FOUND or not location.endswith(f"/build/{note['build_id']}"):
        raise Doubt
    return cookie


def _request(note: dict[str, object]) -> tuple[int, str, str]:
    headers = {"Accept": "application/json", "User-Agent": f"nixos-hydra-agent/{note['version']}"}
    cookie = str(note.get("cookie") or "")
    if cookie:
        headers["Cookie"] = cookie
    connection = _connection(note)
    try:
        connection.request("HEAD", str(note["path"]), headers=headers)
        answer = connection.getresponse()
        new_cookie = _session(answer.headers.get_all("Set-Cookie", []))
        return answer.status, answer.headers.get("Location", ""), new_cookie or cookie
    finally:
        connection.close()


def _session(cookies: list[str]) -> str:
    """Return Hydra's own cookie; a proxy before it may set others."""
    for cookie in cookies:
        if cookie.startswith(f"{SESSION}="):
            return cookie.partition(";")[0]
    return ""


def _connection(note: dict[str, object]) -> HTTPConnection:
    import http.client  # noqa: PLC0415

    timeout = float(str(note["timeout"]))
    authority = str(note["authority"])
    if note["scheme"] == "http":
        return http.client.HTTPConnection(authority, timeout=timeout)
    import ssl  # noqa: PLC0415

    trusted = os.environ.get("NIX_SSL_CERT_FILE") if "SSL_CERT_FILE" not in os.environ else None
    context = ssl.create_default_context(cafile=trusted)
    return http.client.HTTPSConnection(authority, timeout=timeout, context=context)


def _touch(state_dir: str, note: dict[str, object], cookie: str) -> None:
    """Leave the time of this contact, and the cookie if it is a new one."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime())
    # Not blocking: in its place may be a pipe that nobody reads.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(os.path.join(state_dir, LAST_CONTACT), flags, 0o600)  # noqa: PTH118
    try:
        os.write(handle, stamp.encode())
    finally:
        os.close(handle)
    if cookie != note.get("cookie"):
        write_note(state_dir, {**note, "cookie": cookie})


def write_note(state_dir: str, note: dict[str, object]) -> None:
    """Replace the note in one step."""
    path = os.path.join(state_dir, NOTE)  # noqa: PTH118
    handle = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w") as stream:  # noqa: PTH123
        json.dump(note, stream)
    os.replace(f"{path}.new", path)  # noqa: PTH105


def _tell(note: dict[str, object], seconds: float) -> None:
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
