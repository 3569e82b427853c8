"""What nix, git and ssh say when a source could not be had: in their words, and whose fault it is.

nix repeats git's failure as an exit code alone: why is in the lines that git, ssh and the server
have printed before, or beside it. nix's own words are those of its file transfer
(src/libstore/filetransfer.cc) with the answer's body below them, the same from 2.8 to 2.34; git's
those of http.c, connect.c and remote-curl.c, ssh's those of sshconnect.c and packet.c.

A source is unreachable where the network, or a server that is overloaded or broken, kept nix from
it: that passes. A server that says no, a host key that is not the known one, and a revision that is
not there are for a person.
"""

from __future__ import annotations

import json
import re
from collections import deque
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Final

from agent.domain.errors import Kind, NixError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.adapters.process import Completed

_BUILD_LINES: Final = 5
"""How many of the last lines of a failed build an error has."""
_MAX_WORDS: Final = 1000
_MAX_BODY: Final = 300
SERVER_ERROR: Final = r"(?:408|429|5\d\d)"
"""Statuses of a server that is overloaded or broken, as an expression."""

_FAR: Final = re.compile(
    rf"unable to (?:down|up)load '[^']*': (?:HTTP error {SERVER_ERROR}\b|(?!HTTP error))"
    r"|^ssh: (?:connect to|Could not resolve) "
    r"|^(?:kex_exchange_identification|ssh_exchange_identification|client_loop): "
    r"|^Connection (?:to \S+ )?(?:closed|reset|timed out)|^Read from remote host .*: "
    r"|^Timeout, server \S+ not responding"
    r"|^fatal: unable to (?:connect to|look up)"
    rf"|^fatal: unable to access '[^']*': (?:The requested URL returned error: {SERVER_ERROR}\b"
    r"|(?!The requested URL returned error))"
    rf"|^error: RPC failed; (?:HTTP {SERVER_ERROR}\b|(?!HTTP))|^fatal: early EOF"
    r"|^fatal: protocol error: bad line length"
)
"""Lines of which each is enough."""
_PASSING: Final = ("warning:", "evaluation warning:")
"""Of what nix has tried on its own, and may have done without."""
_OUTDATED: Final = "warning: could not update local clone of Git repository"
"""nix goes on with the copy that it has: what git printed before explains this alone."""
_OUT_OF_CACHE: Final = re.compile(
    rf"{_OUTDATED} '(?P<clone>[^']*)'"
    r"|could not get HEAD ref for repository '(?P<head>[^']*)'; using expired cached ref"
    r"|; using cached version$"
)
"""What nix says when it goes on with what it has, in all its fetchers, and exits with 0."""
_GIT_GAVE_UP: Final = re.compile(
    r"^fatal: (?:Could not read from remote|unable to (?:access|connect|look up))"
)
"""What git says of a fetch that nix 2.26 goes on without and does not mention."""
_DOWNLOAD: Final = re.compile(r"unable to download '([^']*)'")
_MAX_BEFORE: Final = 60
_MISSING_REVISION: Final = re.compile(
    r"[Cc]annot find Git (?:revision|commit)|(?:getting|looking up) Git object|object not found"
    r"|not our ref|couldn't find remote ref|no match for id"
)
_RATE_LIMIT: Final = re.compile(r"rate limit", re.IGNORECASE)
_HOST_KEY: Final = re.compile(
    r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|host key is known for"
)
_DENIED: Final = re.compile(
    r"Permission denied \(|Too many authentication failures|no mutual signature"
)
_REFUSED: Final = re.compile(
    r"HTTP error (?:401|403|404|407)\b|returned error: (?:401|403|404|407)\b"
    r"|could not read (?:Username|Password)|Authentication failed|terminal prompts disabled"
    r"|fatal: repository '[^']*' not found|[Rr]epository not found"
    r"|could not be found or you don't have"
)
_WITH_TOKENS: Final = re.compile(r"github|gitlab|sr\.ht|sourcehut|rate limit", re.IGNORECASE)
"""Whose API nix asks with `access-tokens`."""

_KEY_CHANGED: Final = "if the server has a new key on purpose, replace the old one in known_hosts"
_KEY_UNKNOWN: Final = "name the server's key in the user's known_hosts, or programs.ssh.knownHosts"
_OWN_KEY: Final = "may the ssh key of the user who runs this read from that server?"
_BUSY: Final = "the server is asked too often: ask it less, or later"
_LIMIT: Final = "a token in nix.conf's access-tokens raises the limit"
_PRIVATE: Final = "a private repository wants a token in nix.conf's access-tokens"
_LOGIN: Final = "does the server want a login, in nix's netrc-file or git's credentials?"
_HINTS: Final = (
    (re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED"), _KEY_CHANGED, _KEY_CHANGED),
    (_HOST_KEY, _KEY_UNKNOWN, _KEY_UNKNOWN),
    (_DENIED, _OWN_KEY, _OWN_KEY),
    (_RATE_LIMIT, _LIMIT, _LIMIT),
    (re.compile(r"error:? 429\b"), _LIMIT, _BUSY),
    (_REFUSED, _PRIVATE, _LOGIN),
)
"""What to do, for a forge whose API nix asks with a token, and for any other server."""

_OF_GIT: Final = re.compile(
    r"^(?:ssh: |fatal: |remote: |ERROR: |error: RPC failed|kex_|ssh_exchange|client_loop: "
    r"|Connection |Read from remote host|Timeout, server|Received disconnect|Disconnected from"
    r"|Host key|Host '|No \S+ host key|Load key|Too many authentication|sign_and_send_pubkey"
    r"|Permission denied|\S+@\S+: Permission denied|Unable to negotiate|Bad owner or permissions"
    r"|@ +WARNING: )"
)
_UNSPECIFIC: Final = re.compile(
    r"^fatal: Could not read from remote repository|^fatal: the remote end hung up unexpectedly"
    r"|^remote:[\s=*-]*$|^Host key verification failed"
)
"""Useful only without any other message."""
_CLOSING: Final = ("at ", "(use '--show-trace'", "(stack trace truncated", "…")
_OF_INPUT: Final = re.compile(r"… while (?:fetching|updating) the (?:flake )?input '[^']*'")
_ENDS: Final = (*_CLOSING, "error:", "warning:", "don't know how to build")
"""What nix says after the body of an answer, if that has no blank line of its own."""
_BODY: Final = "response body:"


class CachedSources:
    """Notices in what nix prints which sources it could not fetch and took from its cache."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """Why, in one line, by URL."""
        self._before: deque[str] = deque(maxlen=_MAX_BEFORE)

    def feed(self, line: str) -> None:
        """Take in one line of stderr."""
        self._before.append(line.strip())
        found = _OUT_OF_CACHE.search(line.rstrip())
        if found is None:
            return
        url, why = found["clone"] or found["head"], ""
        if url is None:
            self._before[-1] = self._before[-1].removesuffix("; using cached version")
            downloads = [one for one in self._before if _DOWNLOAD.search(one)] or [line.strip()]
            download = _DOWNLOAD.search(downloads[-1])
            url = download[1] if download else ""
            why = cause_of(
                downloads[-1].removeprefix("warning: ").removeprefix("error: "), self._text
            )
        self.reasons.setdefault(url, why or output_of_git(self._text) or line.strip())
        self._before.clear()

    def end(self) -> None:
        """Take in that nix has ended with 0."""
        if any(_GIT_GAVE_UP.search(line) for line in self._before):
            self.reasons.setdefault("", output_of_git(self._text))

    @property
    def _text(self) -> str:
        return "\n".join(self._before)


def unreachable_source(text: str) -> str:
    """Return the last line that says that a source could not be reached; empty if none does."""
    if is_refused_by_ssh(text):
        return ""
    lines = _lines_of(text)
    found = [line for line in lines if _FAR.search(line) and not line.startswith(_PASSING)]
    # The body has the reason of GitHub's 403; it passes, as a 429 does.
    if not found and _RATE_LIMIT.search(text):
        found = [line for line in lines if re.search(r"HTTP error 403\b", line)]
    return found[-1].removeprefix("error: ") if found else ""


def is_refused_by_ssh(text: str) -> bool:
    """Return whether ssh has reached the server, and one of the two does not trust the other."""
    return bool(_HOST_KEY.search(text) or _DENIED.search(text))


def hint_for(text: str) -> str:
    """Return a hint about a source that nix or git could not fetch; "" without one."""
    has_tokens = bool(_WITH_TOKENS.search(text))
    for pattern, with_tokens, without in _HINTS:
        if pattern.search(text):
            return with_tokens if has_tokens else without
    return ""


def build_fault(what: str, done: Completed) -> NixError:
    """Return why `what`, a build that evaluates a flake before, has failed."""
    printed = [line.strip() for line in done.tail.splitlines() if line.strip()][-_BUILD_LINES:]
    return NixError(
        Kind.FLAKE_UNREACHABLE if unreachable_source(done.tail) else Kind.BUILD_ERROR,
        f"{what} ended with {done.returncode}: {' '.join(printed)}",
        hint=hint_for(done.tail),
    )


def complaint(text: str) -> str:
    """Return what nix's last error says, with the reason of git, ssh and the server, in one line.

    The trace that newer versions put around it is left out, but for the input that it is about.
    """
    lines = _lines_of(text)
    errors = [at for at, line in enumerate(lines) if line.startswith("error:")]
    if not errors:
        printed = _lines_of_git(lines)
        last = next((line for line in reversed(lines) if line), "it printed nothing")
        return " ".join(dict.fromkeys((*printed, last)))[:_MAX_WORDS]
    about = [found[0] for line in lines if (found := _OF_INPUT.search(line))]
    printed = [*(one.removeprefix("… ") + ":" for one in about[-1:]), *_lines_of_git(lines)]
    printed += _message_of(lines[errors[-1] :])
    return " ".join(dict.fromkeys(printed))[:_MAX_WORDS]


def cause_of(line: str, text: str) -> str:
    """Return one line of nix's with what the server has answered, if that is below it."""
    lines = [one.strip() for one in text.splitlines()]
    at = next((at for at, one in enumerate(lines) if one.endswith(line)), len(lines))
    return " ".join((line, *_answer_in(iter(lines[at + 1 :]))))[:_MAX_WORDS]


def output_of_git(text: str) -> str:
    """Return what git, ssh and the server printed, in one line without git's own "fatal: "."""
    printed = dict.fromkeys(_lines_of_git([line.strip() for line in text.splitlines()]))
    return " ".join(line.removeprefix("fatal: ") for line in printed)[:_MAX_WORDS]


def _lines_of(text: str) -> list[str]:
    """Return the lines that the last error is about.

    That a copy could not be brought up to date matters only where the copy lacks the revision.
    """
    lines = [line.strip() for line in text.splitlines()]
    last = next((line for line in reversed(lines) if line.startswith("error:")), "")
    if _MISSING_REVISION.search(last):
        return lines
    at = max((at + 1 for at, line in enumerate(lines) if line.startswith(_OUTDATED)), default=0)
    return lines[at:]


def _lines_of_git(lines: Sequence[str]) -> list[str]:
    printed = [line for line in lines if _OF_GIT.search(line)]
    specific = [line for line in printed if not _UNSPECIFIC.search(line)]
    chosen = specific or printed[:1]
    return [re.sub(r"^@ +(WARNING: .*?)[ @]*$", r"\1", one) for one in chosen]


def _message_of(lines: Sequence[str]) -> Iterator[str]:
    """Yield what an error says, from its first words to a blank line, and the body of an answer."""
    rest = iter(lines)
    has_begun = False
    for whole in rest:
        line = whole.removeprefix("error:").strip()
        is_closing = line.startswith(_CLOSING)
        if has_begun and (not line or is_closing):
            break
        if line and not is_closing and not _OF_GIT.search(line):
            has_begun = True
            yield line
    yield from _answer_in(rest)


def _answer_in(rest: Iterator[str]) -> Iterator[str]:
    """Yield what a server has answered, if that is what the next lines are."""
    if next((line for line in rest if line), "") == _BODY:
        begun = dropwhile(lambda line: not line, rest)
        body = "\n".join(takewhile(lambda line: line and not line.startswith(_ENDS), begun))
        if text := _text_of_body(body):
            yield f"({text})"


def _text_of_body(body: str) -> str:
    """Return what the body of an answer says: the message of JSON, or text without its tags."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        for key in ("message", "error_description", "error"):
            if isinstance(answer.get(key), str):
                body = answer[key]
                break
    plain = " ".join(re.sub(r"<[^<>]{0,1000}>", " ", body).split())
    return plain if len(plain) <= _MAX_BODY else f"{plain[:_MAX_BODY]}…"
