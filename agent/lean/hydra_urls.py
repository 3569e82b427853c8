"""What Hydra's URLs are made of: one source for its client and for the idle path.

It imports the standard library alone, so that the idle path stays cheap. Sources: Hydra's
`lib/Hydra/Controller/Job.pm`, and the recorded `location-*.json`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

_BUILD = re.compile(r"/build/([0-9]{1,18})/?", re.ASCII)


def segment(name: str) -> str:
    """Return a name as one segment of a path: whatever is in it, it stays one segment."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return quote(name, safe="")


def job_page(names: tuple[str, str, str], page: str) -> str:
    """Return the path of one page of a job, which is named by project, jobset and job."""
    return "/".join(["/job", *map(segment, names), page])


def target_of(asked: str, location: str | None) -> str | None:
    """Return the absolute URL that `Location` means in the answer for the URL `asked`.

    None where it means none, or has something unprintable.
    """
    if not location or not location.isprintable():
        return None
    try:
        return urljoin(asked, location)
    except ValueError:
        return None


def path_below(instance: str, asked: str, location: str | None) -> str:
    """Return the path that `Location` leads to, as it is below the instance; empty for none.

    Only the path counts: behind a careless proxy the rest of Location names another host or
    scheme (recorded `location-xff-nonlocal.json`).
    """
    try:
        parts = urlsplit(target_of(asked, location) or "")
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https"):
        return ""
    return parts.path.removeprefix(urlsplit(instance).path)


def build_id_in(instance: str, asked: str, location: str | None) -> int | None:
    """Return the id of the build that `Location` leads to, None if that is no build."""
    found = _BUILD.fullmatch(path_below(instance, asked, location))
    return None if found is None else int(found[1])


def is_plain(asked: str, location: str) -> bool:
    """Whether `Location` is as Hydra writes it: this host's name, and nothing behind the path.

    The scheme and the port may be others, as they are behind a careless proxy.
    """
    if not location.isascii() or not set("?#@\\").isdisjoint(location):
        return False
    return urlsplit(urljoin(asked, location)).hostname == urlsplit(asked).hostname
