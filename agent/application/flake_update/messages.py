"""The notifications about an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.application.notification import Message, Priority, Tone
from agent.domain.errors import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.flake_update.ports import Proposal
    from agent.domain.errors import AgentError

_BUILD_FAULTS: Final = frozenset({Kind.HOSTS_BROKEN, Kind.JOBS_RED, Kind.EVALUATION_RED})


def success(
    branch: str, built: Sequence[str], proposal: Proposal | None, broken: Sequence[str] = ()
) -> Message:
    """Return the message of an update that is on its branch, and perhaps proposed.

    `broken` are the hosts that were broken before, and still are.
    """
    which = "Builds passed" if broken else "All builds passed"
    text = f"Branch {branch} created and pushed.\n{which}: {' '.join(built)}"
    if broken:
        text += f"\nBroken as before: {' '.join(broken)}"
    return Message(
        title="✅ Flake Updated Successfully",
        body=f"{text}\n{proposal.url}" if proposal else text,
        tone=Tone.SUCCESS,
        tags=("white_check_mark", "flake"),
        link=proposal.url if proposal else None,
    )


def failure(error: AgentError, look_at: str) -> Message:
    """Return the message of an update that failed; `look_at` is where there is more to read."""
    is_build = error.kind in _BUILD_FAULTS
    what = "Flake Update Build Failed" if is_build else "Flake Update Failed"
    prefix = "Builds failed for updated flake.lock.\n" if is_build else ""
    return Message(
        title=f"❌ {what}",
        body=f"{prefix}{error} [{error.kind}]\nCheck logs: {look_at}",
        tone=Tone.FAILURE,
        priority=Priority.HIGH,
        tags=("x", "flake", "warning"),
        link=look_at if look_at.startswith(("https://", "http://")) else None,
    )


def nothing(why: str, link: str | None = None) -> Message:
    """Return the message of a run that found nothing to do."""
    return Message(
        title="ℹ️ No Flake Updates",  # noqa: RUF001 - the sign is meant
        body=why,
        priority=Priority.LOW,
        tags=("information_source", "flake"),
        link=link,
    )


def branch_left(branch: str, look_at: str) -> Message:
    """Return the message about a branch that nobody has proposed, and nobody could remove."""
    return Message(
        title="❌ Flake Update Left A Branch",
        body=f"Branch {branch} is perhaps on the remote without a proposal: remove it, or let the"
        f" next run take it up.\nCheck logs: {look_at}",
        tone=Tone.FAILURE,
        priority=Priority.HIGH,
        tags=("x", "flake", "warning"),
    )
