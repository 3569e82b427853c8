"""What a failed git command is called: the texts of git and of ssh as kinds.

git fails with 1 or 128 for every reason, so its messages are read; they are asked for in English.
What the server and ssh print is quoted whole: git's own line mostly repeats that it failed.
Sources: git's builtin/push.c, send-pack.c, transport.c, commit.c, gpg-interface.c, ident.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.adapters.nix.source_faults import SERVER_ERROR, hint_for, words_of_git
from agent.domain.errors import GitError, Kind

if TYPE_CHECKING:
    from agent.adapters.process import Completed

_TEXTS: Final = (
    (
        Kind.NO_SPACE,
        re.compile(r"No space left on device|Disk quota exceeded"),
        "make room where TMPDIR and the repository are",
    ),
    (
        Kind.REPOSITORY_MISSING,
        re.compile(r"not a git repository|dubious ownership|must be run in a work tree"),
        "call it in a checkout that belongs to the user who runs it",
    ),
    (
        Kind.IDENTITY_MISSING,
        re.compile(r"Please tell me who you are|empty ident name|no (?:email|name) was given"),
        "set user.name and user.email in git, or flake_update.author",
    ),
    (
        Kind.SIGNING_FAILED,
        re.compile(
            r"gpg failed to sign|failed to sign the data|Couldn't load public key|ssh-keygen|gpg:"
            r"|user\.signingkey|gpg\.ssh\."
        ),
        "see flake_update.signing_key: is the key there, and usable without a passphrase?",
    ),
    (
        Kind.HOOK_REFUSED,
        re.compile(r"hook declined|pre-receive hook|update hook|hook exited with"),
        "the hook's own words are in the log",
    ),
    (
        Kind.BRANCH_DIVERGED,
        re.compile(r"\[rejected\].*\((?:stale info|fetch first|non-fast-forward|already exists)"),
        "someone has pushed to the branch just now; the next run looks again",
    ),
    (
        Kind.PUSH_REFUSED,
        re.compile(r"\[(?:remote )?rejected\]|protected branch"),
        "may this key push branches to the repository?",
    ),
    (
        Kind.REMOTE_UNAUTHORISED,
        re.compile(
            r"Permission denied \(|Authentication failed|could not read (?:Username|Password)"
            r"|Host key verification failed|terminal prompts disabled|returned error: 40[137]"
            r"|Too many authentication failures|could not be found or you don't have permission"
        ),
        "does the remote know this key, and does this user know the remote's?",
    ),
    (
        Kind.REMOTE_MISSING,
        re.compile(r"No such remote|[Rr]epository not found|repository '[^']*' not found"),
        "see `git remote --verbose`, and flake_update.remote: is its URL right?",
    ),
    (
        Kind.REMOTE_UNREACHABLE,
        re.compile(
            r"Could not resolve host|Connection (?:refused|timed out|reset|closed)"
            rf"|unable to access '[^']*': (?!The requested URL returned error: (?!{SERVER_ERROR})4)"
            r"|does not appear to be a git repository|Could not read from remote repository"
            r"|RPC failed; (?!HTTP 4)|early EOF"
            r"|No route to host|Network is unreachable|remote end hung up unexpectedly"
            r"|remote failed to report status"
        ),
        "is the remote's URL right, and is it up?",
    ),
)
_OF_REMOTE: Final = frozenset(
    {Kind.REMOTE_UNAUTHORISED, Kind.REMOTE_MISSING, Kind.REMOTE_UNREACHABLE}
)
"""What the other side, or the way to it, has to say more than a line about."""


def fault_of(what: str, text: str) -> GitError:
    """Return why `what` could not be done, from what git and ssh printed."""
    for kind, pattern, hint in _TEXTS:
        if not (found := pattern.search(text)):
            continue
        if kind not in _OF_REMOTE:
            return GitError(kind, f"cannot {what}: {_line_of(text, found)}", hint=hint)
        message = words_of_git(text) or _line_of(text, found)
        return GitError(kind, f"cannot {what}: {message}", hint=hint_for(text) or hint)
    return GitError(Kind.GIT_FAILED, f"cannot {what}: {_last_line(text)}")


def _line_of(text: str, found: re.Match[str]) -> str:
    begin = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    line = text[begin : end if end >= 0 else len(text)]
    return line.strip().removeprefix("fatal: ").removeprefix("error: ")[:500]


def _last_line(text: str) -> str:
    """Return the last line by which git gives up, or the last one of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if line.startswith("fatal: ")] or lines
    return lines[-1].removeprefix("fatal: ")[:500] if lines else "git printed nothing"


def fault_of_push(what: str, done: Completed) -> GitError:
    """Return why a push failed; what a hook of this repository refuses is not sent at all."""
    text = f"{done.stdout}\n{done.tail}"
    fault = fault_of(what, text)
    if fault.kind in (Kind.GIT_FAILED, Kind.PUSH_REFUSED) and "failed to push some refs" in text:
        rejected = re.search(r"^!\t|rejected\]", text, re.MULTILINE)
        if rejected is None:
            message = _words_of_hook(done.tail) or fault.message
            return GitError(
                Kind.HOOK_REFUSED, f"cannot {what}: {message}", hint="the pre-push hook refused it"
            )
    if fault.kind is Kind.HOOK_REFUSED and (message := _words_of_hook(done.tail, "remote: ")):
        return GitError(fault.kind, f"cannot {what}: {message}", hint=fault.hint)
    return fault


def _words_of_hook(tail: str, prefix: str = "") -> str:
    """Return the last line that a hook printed; a remote's come with a prefix."""
    of_git = ("error: failed to push", "error: hook declined", "To ")
    lines = tail.splitlines()
    lines = [line.removeprefix(prefix).strip() for line in lines if line.startswith(prefix)]
    return next(
        (line[:500] for line in reversed(lines) if line and not line.startswith(of_git)), ""
    )
