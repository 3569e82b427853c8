"""The `Notifier` port through apprise: ntfy, e-mail, Matrix, webhooks and whatever else it knows.

No service may fail or delay a run: each has a thread of its own, which is left behind when
its time is over, and what went wrong is logged.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from typing_extensions import override

from agent.adapters.net import DaemonThreads
from agent.adapters.secret_file import read_secret, read_secrets
from agent.application import events
from agent.application.notification import Message, Notifier
from agent.application.report import error_fields
from agent.domain.errors import AgentError, Kind, NotifyError
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.ports import EventSink

_MAX_BODY: Final = 3_500
"""Characters: a public ntfy turns what is longer than 4096 bytes into an attachment."""
_MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class NtfyTopic:
    """A topic on an ntfy server, whose URL has no path."""

    server: str
    topic: str
    token_file: Path | None = None

    def url(self) -> str:
        """Return the topic as apprise writes it; ConfigError if there is no reading the token."""
        server = urlsplit(self.server)
        scheme = "ntfys" if server.scheme == "https" else "ntfy"
        user = "" if self.token_file is None else f"{quote(read_secret(self.token_file), safe='')}@"
        # Otherwise ntfy.sh would be asked without its token.
        more = {"mode": "private", **({"auth": "token"} if user else {})}
        return f"{scheme}://{user}{server.netloc}/{self.topic}?{urlencode(more)}"


class AppriseNotifier(Notifier):
    """Notifies an ntfy topic, and the services whose apprise URLs are the lines of `urls_file`.

    `timeout` is in seconds and bounds a whole message, whatever the number of services.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        ntfy: NtfyTopic | None,
        urls_file: Path | None,
        timeout: float,
    ) -> None:
        self._sink = sink
        self._ntfy = ntfy
        self._urls_file = urls_file
        self._timeout = timeout
        self._threads = DaemonThreads()

    @override
    async def notify(self, message: Message) -> None:
        numbered = enumerate(self._urls(message), start=1)
        await asyncio.gather(*(self._notify_one(message, number, url) for number, url in numbered))

    def _urls(self, message: Message) -> list[str]:
        """Return the URLs of all services; those that cannot be had have a line in the log."""
        urls: list[str] = []
        try:
            if self._ntfy is not None:
                urls.append(self._ntfy.url())
        except AgentError as error:
            self._log_fault(message, "ntfy", error)
        try:
            if self._urls_file is not None:
                urls += read_secrets(self._urls_file)
        except AgentError as error:
            self._log_fault(message, "apprise", error)
        return urls

    async def _notify_one(self, message: Message, number: int, url: str) -> None:
        # The scheme is all of a URL that is no secret.
        service = f"{url.partition(':')[0][:20]} #{number}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                await loop.run_in_executor(self._threads, _send, url, message)
        except TimeoutError:
            late = f"{service} has not taken the message within {self._timeout:g} s"
            hint = "is the service overloaded, or notify.timeout too short?"
            self._log_fault(message, service, NotifyError(Kind.NOTIFY_TIMEOUT, late, hint=hint))
        except AgentError as error:
            self._log_fault(message, service, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must fail no run
            what = f"{service}: apprise fails: {type(error).__name__}"
            hint = "try its URL by hand: apprise -b test URL"
            self._log_fault(message, service, NotifyError(Kind.NOTIFY_FAILED, what, hint=hint))
        else:
            self._sink.emit(events.NOTIFICATION_SENT, title=message.title, service=service)

    def _log_fault(self, message: Message, service: str, error: AgentError) -> None:
        self._sink.emit(
            events.NOTIFICATION_FAILED,
            title=message.title,
            service=service,
            **error_fields(error),
        )


class _LogCollector(logging.Handler):
    """What apprise says in this thread: its return value only says whether it succeeded."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.words: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.words.append(record.getMessage())


def _send(url: str, message: Message) -> None:
    """Give a message to one service; blocks.

    Raises:
        NotifyError: NOTIFY_UNUSABLE, NOTIFY_FAILED.
    """
    logger = logging.getLogger("apprise")
    logger.propagate = False
    collector = _LogCollector()
    logger.addHandler(collector)
    try:
        is_sent = _hand_over(url, message)
    finally:
        logger.removeHandler(collector)
    if not is_sent:
        words = str(hide_secrets("; ".join(collector.words)))[:_MAX_WORDS]
        raise NotifyError(
            Kind.NOTIFY_FAILED,
            f"the service has not taken the message: {words or 'it did not say why'}",
            hint="try its URL by hand: apprise -b test URL",
        )


def _hand_over(url: str, message: Message) -> bool:
    try:
        import apprise  # noqa: PLC0415 - an extra, and not for runs without notifications
    except ImportError as error:
        raise NotifyError(
            Kind.NOTIFY_UNUSABLE,
            "apprise is not installed",
            hint="install the agent with its extra: nixos-hydra-agent[notify]",
        ) from error
    asset = apprise.AppriseAsset(app_id="nixos-hydra-agent", app_desc="nixos-hydra-agent")
    service = apprise.Apprise.instantiate(_with_message(url, message), asset=asset)
    if not isinstance(service, apprise.NotifyBase):
        raise NotifyError(
            Kind.NOTIFY_UNUSABLE,
            f"apprise cannot use this {url.partition(':')[0][:20]!r} URL",
            hint="its documentation says how the URL of each service is written",
        )
    # Not by way of `Apprise.notify`: that has threads of its own, which the interpreter waits for.
    return bool(
        service.notify(
            title=message.title,
            body=_fitting(message.body),
            notify_type=apprise.NotifyType(message.tone),
        )
    )


def _with_message(url: str, message: Message) -> str:
    """Return a URL that also says how the message is to be shown; what it says itself it keeps.

    The names are those of apprise's own arguments: `format` of every service, and of ntfy
    `priority`, `xtags`, `click` and `image`.
    """
    wanted = {"format": "text"}
    if url.startswith(("ntfy:", "ntfys:")):
        wanted |= {"priority": message.priority, "xtags": ",".join(message.tags), "image": "no"}
        wanted |= {} if message.link is None else {"click": message.link}
    given = parse_qs(url.partition("?")[2], keep_blank_values=True)
    more = urlencode({name: value for name, value in wanted.items() if name not in given})
    return f"{url}{'&' if '?' in url else '?'}{more}"


def _fitting(body: str) -> str:
    return body if len(body) <= _MAX_BODY else f"{body[:_MAX_BODY]}…"
