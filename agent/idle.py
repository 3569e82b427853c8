"""The idle path: learns with one request and the standard library that there is nothing to do.

The last full run that found nothing to do leaves a note: Hydra's newest build, where the host's
links pointed, and a fingerprint of the settings. While all of that holds, and the note is not too
old, the answer is the same. This module may only ever answer "nothing to do"; at the least doubt
it answers None, and the full run begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time

NOTE = "idle.json"
LAST_CONTACT = "last-contact"
LOCK = "agent.lock"
SESSION = "hydra_session"
DEFAULT_CONFIG = "/etc/nixos-hydra-agent/config.toml"
DEFAULT_STATE_DIR = "/var/lib/nixos-hydra-agent"
DEFAULT_MARKS_DIR = "/nix/var/nix/gcroots/nixos-hydra-agent"

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
        content = _read(_config_file(arguments, os.environ))
        state_dir = _path(content, "state_dir", DEFAULT_STATE_DIR, os.environ)
        note = json.loads(_read(os.path.join(state_dir, NOTE)))  # noqa: PTH118 - pathlib costs 5 ms
        _check(note, fingerprint(content, os.environ, arguments))
        cookie = _ask(note)
        with _locked(state_dir):
            # Another agent, or a person, may have been here meanwhile.
            _check(json.loads(_read(os.path.join(state_dir, NOTE))), note["fingerprint"])  # noqa: PTH118
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
        named = _config_file(arguments, os.environ)
        if sys.stdout.isatty() or not {*arguments} <= {"--config", f"--config={named}", named}:
            return False
        marks_dir = _path(_read(named), "marks_dir", DEFAULT_MARKS_DIR, os.environ)
        present = os.listdir(marks_dir)  # noqa: PTH208 - pathlib costs 5 ms
    except Exception:  # noqa: BLE001 - whatever it is, the full command finds out and tells
        return False
    return "confirmed" in present and not any(mark in present for mark in _UNDER_WAY)


def fingerprint(content: bytes, environ: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Return a digest of everything that the settings are made of."""
    own = sorted(item for item in environ.items() if item[0].upper().startswith(_PREFIX))
    made_of = (content, own, list(arguments), os.uname().nodename)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


def fingerprint_now(arguments: Sequence[str]) -> str | None:
    """Return the fingerprint as it is now; None without a file, where every run is a full one."""
    try:
        content = _read(_config_file(arguments, os.environ))
    except (OSError, Doubt):
        return None
    return fingerprint(content, os.environ, arguments)


def _config_file(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    for position, argument in enumerate(arguments):
        if argument == "--config":
            return arguments[position + 1]
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return environ.get(f"{_PREFIX}CONFIG") or DEFAULT_CONFIG


def _path(content: bytes, name: str, default: str, environ: Mapping[str, str]) -> str:
    """Return one of `paths.*`."""
    named = environ.get(f"{_PREFIX}PATHS__{name.upper()}")
    if named is None and name.encode() in content:
        import tomllib  # noqa: PLC0415 - only where the directory is not the usual one

        named = tomllib.loads(content.decode())["paths"][name]
    return str(named or default)


def _read(path: str) -> bytes:
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


def _check(note: dict[str, object], now_fingerprint: str) -> None:
    from agent import __version__  # noqa: PLC0415

    links = note["links"]
    until, interval = note["until"], note["interval"]
    if not (
        note["version"] == __version__
        and note["fingerprint"] == now_fingerprint
        and isinstance(until, float)
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
    with open(os.path.join(state_dir, LAST_CONTACT), "w") as stream:  # noqa: PTH118, PTH123
        stream.write(stamp)
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
