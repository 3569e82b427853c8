"""What a failed git command is called: the texts of git and of ssh as kinds.

git fails with 1 or 128 whatever happened, so that its words tell; they are asked for in English.
Sources: git's builtin/push.c, send-pack.c, transport.c, commit.c, gpg-interface.c, ident.c.
"""

from __future__ import annotations

import re
from typing import Final

from agent.domain.errors import GitError, Kind

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
        "somebody has pushed to the branch just now; the next run looks again",
    ),
    (
        Kind.PUSH_REFUSED,
        re.compile(r"\[(?:remote )?rejected\]|protected branch"),
        "may this key push branches to the repository?",
    ),
    (
        Kind.REMOTE_UNAUTHORISED,
        re.compile(
            r"Permission denied \(|Authentication failed|could not read Username"
            r"|Host key verification failed|terminal prompts disabled|returned error: 40[13]"
        ),
        "does the remote know this key, and does this user know the remote's?",
    ),
    (
        Kind.REMOTE_MISSING,
        re.compile(r"No such remote"),
        "see `git remote`, and flake_update.remote",
    ),
    (
        Kind.REMOTE_UNREACHABLE,
        re.compile(
            r"Could not resolve host|Connection (?:refused|timed out|reset|closed)|unable to access"
            r"|does not appear to be a git repository|Could not read from remote repository"
            r"|No route to host|Network is unreachable|remote end hung up unexpectedly"
            r"|remote failed to report status"
        ),
        "is the remote's URL right, and is it up?",
    ),
)


def fault_of(what: str, text: str) -> GitError:
    """Return why `what` could not be done, by what git and ssh said."""
    for kind, pattern, hint in _TEXTS:
        if found := pattern.search(text):
            return GitError(kind, f"cannot {what}: {_line_of(text, found)}", hint=hint)
    return GitError(Kind.GIT_FAILED, f"cannot {what}: {_last_line(text)}")


def _line_of(text: str, found: re.Match[str]) -> str:
    begin = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    line = text[begin : end if end >= 0 else len(text)]
    return line.strip().removeprefix("fatal: ").removeprefix("error: ")[:500]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("fatal: ")[:500] if lines else "git said nothing"
