"""What the clients of web services share: bounded bodies, Retry-After, and causes of errors."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from datetime import datetime

    import httpx


class ExchangeProgress:
    """How far an exchange has got."""

    def __init__(self) -> None:
        self.is_connected = False
        self.has_answer = False

    async def trace(self, name: str, _info: dict[str, Any]) -> None:
        """Take httpcore's trace events."""
        if name == "http11.send_request_headers.started":
            self.is_connected = True


async def read_bounded(response: httpx.Response, limit: int) -> bytes | None:
    """Return the body as it comes from the wire; None, and no more is read, above `limit` bytes."""
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        return None
    size = 0
    chunks: list[bytes] = []
    async with contextlib.aclosing(raw_chunks(response)) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
    return b"".join(chunks)


def raw_chunks(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Return the body as it comes from the wire; close the generator if you leave it early."""
    # httpx's own iterators would decode, or refuse what a test made. It is a generator, which
    # wants to be closed when it is left early.
    return cast("AsyncGenerator[bytes]", aiter(cast("httpx.AsyncByteStream", response.stream)))


def seconds_to_wait(text: str | None, now: datetime) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, 10.2.3); None where it is neither."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}", text.strip()):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        # TypeError: a date without a zone cannot be compared, and says nothing.
        return None


def is_encoded(response: httpx.Response) -> bool:
    """Return whether a body is compressed, although that was not asked for."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    return encoding not in ("", "identity")


def without_credentials(url: str) -> str:
    """Return a URL for people: without user name and password."""
    # Not by urlsplit: URLs that cannot be split appear in messages, too.
    return re.sub(r"//[^/?#]*@", "//", url)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what led to it, outermost first, into groups as well.

    httpcore raises what it has translated "from None": then only the context knows the cause.
    """
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from causes_of(member)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from causes_of(cause)


def named_cause(error: BaseException) -> BaseException:
    """Return the outermost cause that names a reason; of several addresses, the first's."""
    return next((cause for cause in causes_of(error) if _names_a_reason(cause)), error)


def _names_a_reason(cause: BaseException) -> bool:
    return isinstance(cause, UnicodeError) or (
        isinstance(cause, OSError) and (cause.errno is not None or isinstance(cause, ssl.SSLError))
    )


def reason_of(error: BaseException) -> str:
    """Return an exception's message, or its name where it has none."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:200] or type(error).__name__


def refusal_of(cause: BaseException, error: Exception) -> str:
    """Return why no connection came about."""
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number else reason_of(error)
