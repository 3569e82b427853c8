"""The errors of failed git commands, by exit code, status, and what git and ssh print.

git exits with 128 where it gives up itself, and with 1 where a hook or the server refuses; what a
server refuses is in the status of the branch. Only after these its messages are parsed, which are
in English (LC_ALL). What the server and ssh print is quoted whole: git's own line mostly repeats
that it failed.
Sources: git's builtin/push.c, send-pack.c, transport.c, commit.c, gpg-interface.c, ident.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.adapters.nix.source_faults import SERVER_ERROR, hint_for, output_of_git
from agent.domain.errors import GitError, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.adapters.process import Completed

_Texts = tuple[tuple[Kind, re.Pattern[str], str], ...]
_GAVE_UP: Final = 128
"""git's own exit code."""
_REFUSED: Final = 1
"""The one after a hook has refused."""
_OF_REPOSITORY: Final[_Texts] = (
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
)
_OF_REMOTE: Final[_Texts] = (
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
_UNWRITTEN: Final = "fatal: failed to write commit object"
_OF_OBJECTS: Final = re.compile(
    r"^error: (?:insufficient permission|unable to|file write)", re.MULTILINE
)
"""Of where git keeps commits; all else that keeps it from writing one is the signature."""
_NO_KEY: Final = re.compile(r"^fatal: .*(?:user\.signing[kK]ey|gpg\.ssh\.)", re.MULTILINE)
_SIGNING: Final = (
    "see flake_update.signing_key: is the key there, without a passphrase, and readable by this"
    " user alone (mode 0600)?"
)
_STATUS: Final = re.compile(r"^ ?!\s.*\[(?P<who>[a-z ]+)\] .*?\((?P<why>.*)\)$", re.MULTILINE)
"""What has become of a branch, by `git push --porcelain`."""
_MOVED: Final = re.compile(r"stale info|fetch first|non-fast-forward|already exists")
_BROKE_OFF: Final = re.compile(
    r"^(?:error: RPC failed|send-pack: unexpected disconnect|fatal: the remote end hung up)",
    re.MULTILINE,
)
_LINES_OF_HOOK: Final = 5
_MAX_MESSAGE: Final = 500


def fault_of(what: str, text: str) -> GitError:
    """Return why `what` could not be done, from what git and ssh printed."""
    # A server's own lines are about the server: it may be its disk that is full.
    here = "\n".join(line for line in text.splitlines() if not line.startswith("remote:"))
    for kind, pattern, hint in _OF_REPOSITORY:
        if found := pattern.search(here):
            return GitError(kind, f"cannot {what}: {_line_of(here, found)}", hint=hint)
    for kind, pattern, hint in _OF_REMOTE:
        if found := pattern.search(text):
            message = output_of_git(text) or _line_of(text, found)
            return GitError(kind, f"cannot {what}: {message}", hint=hint_for(text) or hint)
    return GitError(Kind.GIT_FAILED, f"cannot {what}: {_last_line(text)}")


def _line_of(text: str, found: re.Match[str]) -> str:
    begin = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    line = text[begin : end if end >= 0 else len(text)]
    return line.strip().removeprefix("fatal: ").removeprefix("error: ")[:_MAX_MESSAGE]


def _last_line(text: str) -> str:
    """Return the last line by which git gives up, or the last one of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if line.startswith("fatal: ")] or lines
    return lines[-1].removeprefix("fatal: ")[:_MAX_MESSAGE] if lines else "git printed nothing"


def fault_of_commit(what: str, done: Completed) -> GitError:
    """Return why a commit failed: git itself, the signature, or a hook of this repository."""
    if done.returncode == _REFUSED:
        return _refused_by_hook(what, done)
    printed, is_unwritten, _ = done.tail.partition(_UNWRITTEN)
    fault = fault_of(what, done.tail)
    is_unsigned = is_unwritten and not _OF_OBJECTS.search(printed)
    if (is_unsigned and fault.kind is not Kind.NO_SPACE) or _NO_KEY.search(done.tail):
        message = _output_of_signer(printed) or fault.message
        return GitError(Kind.SIGNING_FAILED, f"cannot {what}: {message}", hint=_SIGNING)
    return fault


def _output_of_signer(printed: str) -> str:
    """Return what gpg or ssh-keygen printed, of which git repeats line breaks as `?`."""
    text = printed.rpartition("error: ")[2].replace("Enter passphrase: ", "")
    lines = [line.removesuffix("?").strip("@ ") for line in text.splitlines()]
    return " ".join(line for line in lines if line)[:_MAX_MESSAGE]


def fault_of_push(what: str, done: Completed) -> GitError:
    """Return why a push failed; what a hook of this repository refuses is not sent at all."""
    text = f"{done.stdout}\n{done.tail}"
    status = _STATUS.search(done.stdout)
    if status is None:
        is_refused_here = done.returncode == _REFUSED and not _BROKE_OFF.search(done.tail)
        return _refused_by_hook(what, done) if is_refused_here else fault_of(what, text)
    why = status["why"]
    if status["who"] == "rejected" and _MOVED.search(why):
        hint = "someone has pushed to the branch just now; the next run looks again"
        return GitError(Kind.BRANCH_DIVERGED, f"cannot {what}: {why}", hint=hint)
    if status["who"] == "remote failure":
        return fault_of(what, text)
    printed = _last_lines(line for line in done.tail.splitlines() if line.startswith("remote:"))
    message = f"cannot {what}: {printed or why}"
    if "hook declined" in why:
        return GitError(Kind.HOOK_REFUSED, message, hint="the hook's own output is in the log")
    message = message if why in message else f"{message} ({why})"
    return GitError(
        Kind.PUSH_REFUSED, message, hint="may this key push branches to the repository?"
    )


def _refused_by_hook(what: str, done: Completed) -> GitError:
    lines = [*done.stdout.splitlines(), *done.tail.splitlines()]
    printed = _last_lines(one for one in lines if not one.startswith(_OF_PUSH))
    message = f"cannot {what}: {printed or 'a hook printed nothing'}"
    return GitError(Kind.HOOK_REFUSED, message, hint="a hook of the repository refused it")


_OF_PUSH: Final = ("error: failed to push", "To ", "Done")
"""What git prints itself besides."""


def _last_lines(lines: Iterable[str]) -> str:
    """Return the last lines that a hook printed; a remote's come with a prefix."""
    printed = [line.removeprefix("remote:").strip() for line in lines]
    return " ".join([line for line in printed if line][-_LINES_OF_HOOK:])[-_MAX_MESSAGE:]
