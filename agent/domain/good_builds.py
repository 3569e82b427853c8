"""The good builds that a host has seen and not taken: what it may take when the newest is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.domain.candidate import Candidate, RefusedBuild

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.domain.path_record import TakenBuild

MOST_KEPT: Final = 24


def remember(
    known: Iterable[Candidate], newest: Candidate | RefusedBuild, taken: TakenBuild | None
) -> tuple[Candidate, ...]:
    """Return the builds to remember, the newest first; `newest` is what Hydra names as that now.

    What Hydra has named before and is newer is good no longer, and kept only if the host is on it;
    what is older than the build that was `taken`, or that the host is on, would be a downgrade.
    Where there are too many the oldest stays, since it has waited longest: the others are thinned
    out evenly.
    """
    measure = 0 if taken is None else taken.build_id
    kept = {
        one.build_id: one
        for one in known
        if one.job == newest.job
        and (measure <= one.build_id < newest.build_id or one.build_id == measure)
    }
    if isinstance(newest, Candidate):
        kept[newest.build_id] = newest
    builds = [kept[number] for number in sorted(kept, reverse=True)]
    while len(builds) > MOST_KEPT:
        del builds[_least_missed(builds)]
    return tuple(builds)


def _least_missed(builds: list[Candidate]) -> int:
    """Return the place of the build whose neighbours are closest to each other."""
    inner = range(1, len(builds) - 1)
    return min(inner, key=lambda at: builds[at - 1].build_id - builds[at + 1].build_id)
