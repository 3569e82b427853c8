"""What people are told of an update: titles, tags and priorities.

ntfy shows the first tags as emoji; `flake` is there to be filtered by.
"""

from __future__ import annotations

from typing import Final

from agent.application.notification import Message, Priority, Tone

_FLAKE: Final = "flake"


def updated(branch: str, hosts: tuple[str, ...], link: str | None = None) -> Message:
    """Return what is told of a branch that has been pushed; `hosts` are those that were built."""
    return Message(
        title="✅ Flake Updated Successfully",
        body=f"Branch {branch} created and pushed.\nAll builds passed: {' '.join(hosts)}",
        tone=Tone.SUCCESS,
        tags=("white_check_mark", _FLAKE),
        link=link,
    )


def builds_failed(where: str, hosts: tuple[str, ...], link: str | None = None) -> Message:
    """Return what is told of hosts that cannot be built; `where` is where their logs are."""
    return _failure(
        "❌ Flake Update Build Failed",
        f"Builds failed for updated flake.lock: {' '.join(hosts)}\nCheck logs: {where}",
        link,
    )


def failed(what: str, where: str, link: str | None = None) -> Message:
    """Return what is told of any other fault."""
    return _failure("❌ Flake Update Failed", f"{what}\nCheck logs: {where}", link)


def _failure(title: str, body: str, link: str | None) -> Message:
    return Message(
        title=title,
        body=body,
        tone=Tone.FAILURE,
        priority=Priority.HIGH,
        tags=("x", _FLAKE, "warning"),
        link=link,
    )


def nothing_to_do(why: str = "flake.lock is already up to date") -> Message:
    """Return what is told of an update that would change nothing."""
    return Message(
        title="ℹ️ No Flake Updates",  # noqa: RUF001 - the emoji
        body=why,
        priority=Priority.LOW,
        tags=("information_source", _FLAKE),
    )
