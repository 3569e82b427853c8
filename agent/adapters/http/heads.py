"""Lets through the odd header lines of answers, which browsers and curl ignore and h11 refuses.

h11 takes a whole answer for none when one line has a blank before its colon or a character that
no header's name may have (RFC 9112, 5.1). Nobody here reads such lines: they are left out, or put
right, before h11 sees them. What decides where an answer ends stays as strict as h11 is, but for
the `identity` of RFC 2616, which says nothing, and for `chunked` that is said twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from agent.lean.lean_imports import without_terminal_libraries

with without_terminal_libraries():
    import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

_LONGEST: Final = 128 * 1024
"""Bytes: h11 takes no longer head."""
_BEGIN: Final = b"HTTP/"
_END: Final = re.compile(rb"\r?\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/1\.[0-9] 1(?!01)[0-9]{2}\b")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BLANKS: Final = re.compile(rb"[\x0b\x0c\r]")


def tolerated(head: bytes) -> bytes:
    """Return an answer's head, from its status line to its empty line, as h11 takes it."""
    first, *lines = re.split(rb"\r?\n", _END.sub(b"", head))
    return b"\r\n".join((first, *_kept(lines), b"", b""))


def _kept(lines: Iterable[bytes]) -> Iterator[bytes]:
    is_kept = True
    is_chunked = False
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if line[:1] in (b" ", b"\t"):  # belongs to the line before
            if is_kept:
                yield _BLANKS.sub(b" ", line)
            continue
        if not colon:  # which curl does not take, either
            yield line
            continue
        is_kept = bool(_TOKEN.fullmatch(name))
        if name.lower() == b"transfer-encoding":
            codings = [one.strip() for one in value.split(b",")]
            codings = [one for one in codings if one.lower() not in (b"", b"identity")]
            is_kept = bool(codings) and not (is_chunked and codings == [b"chunked"])
            is_chunked = is_chunked or codings == [b"chunked"]
            value = b" " + b", ".join(codings)
        if is_kept:
            yield name + b":" + _BLANKS.sub(b" ", value)


class TolerantBackend(httpcore.AsyncNetworkBackend):
    """The network as httpcore has it, with heads that h11 takes."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream)

    @override
    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection: what comes first after something is sent is an answer's head."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._is_head_next = True

    @override
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._is_head_next:
            return await self._inner.read(max_bytes, timeout)
        begun = b""
        while more := await self._inner.read(max_bytes, timeout):
            begun += more
            # Not HTTP, as SOCKS, is handed on at once.
            if begun[: len(_BEGIN)] != _BEGIN[: len(begun)] or len(begun) > _LONGEST:
                break
            if (settled := _settled(begun)) is not None:
                begun = settled
                break
        self._is_head_next = False
        return begun

    @override
    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._is_head_next = True
        await self._inner.write(buffer, timeout)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()

    @override
    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _settled(begun: bytes) -> bytes | None:
    """Return what has come, with corrected heads; None while the answer's own is incomplete."""
    done = b""
    while found := _END.search(begun):
        head, begun = begun[: found.end()], begun[found.end() :]
        done += tolerated(head)
        if not _INTERIM.match(head):
            return done + begun
    return None
