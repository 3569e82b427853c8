"""What the age of a build says of a path that is in no cache."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from agent.domain.errors import Kind, NixError

if TYPE_CHECKING:
    from datetime import datetime

    from agent.domain.candidate import Candidate

_UPLOADED_BY: Final = timedelta(days=1)
"""How long after a build its upload to a cache may take, generously."""


def aged(error: NixError, found: Candidate | None, now: datetime) -> NixError:
    """Return the fault of a path that is in no cache with what the age of its build says of it."""
    finished = None if found is None else found.finished_at
    if error.kind is not Kind.PATH_NOT_CACHED or found is None or finished is None:
        return error
    age = now - finished
    if age <= _UPLOADED_BY:
        return error
    return NixError(
        error.kind,
        f"{error.message}, although build {found.build_id} was finished {age.days} day(s) ago,"
        f" on {finished:%Y-%m-%d}",
        hint="the cache has never received it, or has removed it as garbage since: have Hydra build"
        " it again, and let the cache keep what hosts still need",
    )
