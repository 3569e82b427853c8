"""Notifications, and the port that sends them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Tone(StrEnum):
    """What a message is about; services show it as a colour or an icon."""

    SUCCESS = "success"
    FAILURE = "failure"
    INFO = "info"


class Priority(StrEnum):
    """How urgent a message is, in ntfy's words."""

    LOW = "low"
    DEFAULT = "default"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `tags` are ntfy's: names of emoji become one, others are shown as they are.

    `link` is where to look, if that is a URL.
    """

    title: str
    body: str
    tone: Tone = Tone.INFO
    priority: Priority = Priority.DEFAULT
    tags: tuple[str, ...] = ()
    link: str | None = None


class Notifier(Protocol):
    """Sends notifications."""

    async def notify(self, message: Message) -> None:
        """Send `message` to everybody who is to hear it.

        Never raises, and returns within its own time limit: failures are logged.
        """
