"""The page of a forge that shows the commits between two revisions of an input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.domain.flake_update.lock_file import InputChange

_REVISION: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?")
_PATH: Final = re.compile(r"[\w.~-]+(?:/[\w.~-]+)+", re.ASCII)
_HOST_OF_TYPE: Final = {"github": "github.com", "gitlab": "gitlab.com", "sourcehut": "git.sr.ht"}
_PAGES: Final = {
    "github": "compare/{before}...{after}",
    "gitlab": "-/compare/{before}...{after}",
    # It has no page for a range: the log begins with the new revision.
    "sourcehut": "log/{after}",
    "forgejo": "compare/{before}...{after}",
}
_FORGES: Final = {
    **{host: kind for kind, host in _HOST_OF_TYPE.items()},
    "codeberg.org": "forgejo",
}
"""Forges that many flakes fetch by `git+https` or `git+ssh`; of another host nobody knows which."""


def page_template(locked: Mapping[str, Any]) -> str | None:
    """Return the URL of the page for a locked input, with `{before}` and `{after}`, if known."""
    kind = str(locked.get("type"))
    if kind in _HOST_OF_TYPE:
        host = str(locked.get("host") or _HOST_OF_TYPE[kind])
        # Of a group below another, GitLab's owner has `%2F`.
        path = unquote(f"{locked.get('owner')}/{locked.get('repo')}")
    elif kind == "git":
        try:
            parts = urlsplit(str(locked.get("url")))
        except ValueError:  # what looks like an IPv6 address, and is none
            return None
        host, path = parts.hostname or "", parts.path.strip("/").removesuffix(".git")
        if parts.scheme not in {"https", "ssh"} or host not in _FORGES:
            return None
        kind = _FORGES[host]
    else:
        return None
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or {".", ".."} & {*path.split("/")}:
        return None
    return f"https://{host}/{path}/{_PAGES[kind]}"


def compare_link(change: InputChange) -> str | None:
    """Return the page with the commits between both revisions; None if they have no such page."""
    before, after = change.before, change.after
    if before is None or after is None or after.page is None or before.page != after.page:
        return None
    if not (_REVISION.fullmatch(before.revision) and _REVISION.fullmatch(after.revision)):
        return None
    return after.page.format(before=before.revision, after=after.revision)
