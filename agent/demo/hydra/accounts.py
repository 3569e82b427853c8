"""Owns the embedded Hydra's users and sessions."""

from __future__ import annotations

import re
import secrets
import threading
from dataclasses import dataclass
from typing import Final

_COOKIE: Final = re.compile(r"(?:^|;)\s*hydra_session=([0-9a-f]{40})\s*(?:;|$)")


@dataclass(frozen=True, slots=True)
class User:
    """A user; the roles that matter here are `admin` and `restart-jobs`."""

    username: str
    password: str
    fullname: str | None = None
    emailaddress: str = ""
    roles: tuple[str, ...] = ()

    @property
    def may_restart(self) -> bool:
        """Whether this user may restart builds."""
        return bool({"admin", "restart-jobs"} & set(self.roles))


class Accounts:
    """Users by name, and who is signed in under which session cookie. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, User] = {}
        self._sessions: dict[str, str | None] = {}

    @property
    def sessions_begun(self) -> int:
        """How many sessions there are; a client that keeps no cookies begins one each time."""
        with self._lock:
            return len(self._sessions)

    def add_user(self, user: User) -> None:
        """Add or replace a user."""
        with self._lock:
            self._users[user.username] = user

    def authenticate(self, username: str, password: str) -> User | None:
        """Return the user if the password is right."""
        with self._lock:
            user = self._users.get(username)
        return user if user is not None and user.password == password else None

    def session(self, cookies: str) -> str:
        """Return the session that a `Cookie` header names, a new one where none is known."""
        sent = _COOKIE.search(cookies)
        with self._lock:
            if sent is not None and sent[1] in self._sessions:
                return sent[1]
            new = secrets.token_hex(20)
            self._sessions[new] = None
            return new

    def user_of(self, session: str) -> User | None:
        """Return who is signed in under a session."""
        with self._lock:
            username = self._sessions.get(session)
            return None if username is None else self._users.get(username)

    def sign_in(self, username: str, session: str | None = None) -> str:
        """Sign a user in under `session`, or under a new one; return the session."""
        session = session or secrets.token_hex(20)
        with self._lock:
            self._sessions[session] = username
        return session

    def open_session(self, session: str) -> None:
        """Make a session known without anybody signed in."""
        with self._lock:
            self._sessions.setdefault(session, None)

    def end_sessions(self) -> None:
        """Forget every session, as an expiry does: cookies sent from now on are stale."""
        with self._lock:
            self._sessions.clear()
