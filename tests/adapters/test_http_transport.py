"""That httpx, as the agent makes its clients, reaches and takes what curl does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading

import httpcore
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.adapters.http.heads import tolerated
from agent.adapters.http.proxies import proxy_for
from agent.adapters.http.transport import Transport, host_header, location_of, transport_for
from agent.fields.values import parse_http_url

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(url, times=1):
    """Return the last of some answers that one client gets, its body read."""

    async def run():
        transport = transport_for(url, NO_TRUST)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            for _ in range(times):
                response = await client.get(url, headers=host_header(url))
            return response

    return asyncio.run(run())


# Header lines. What curl 7.88 does with each was looked at with the same server.


@pytest.mark.parametrize(
    "line",
    [
        b"X-Empty:",
        b"X-Before : a blank",
        b"X Y: a blank within",
        b"X@Y: z",
        b"X(Y): z",
        b"a/b: z",
        b": no name",
        "Überraschung: ja".encode(),
        "X-Value: größer".encode(),
        b"X-Latin: \xe4",
        b"X-Tabs:\ta\tb\x0bc\x0cd",
        b"X-Return: a\rb",
        b"X-Control: \x01\x1b[0m\x7f",
        b"X-Folded: a\r\n\tb",
        b"X Y: left out\r\n with what follows",
        b"X: 1\r\nX: 2",
        b"Set-Cookie: =; ;,",
        b'Content-Type: text/html; charset="x',
        b"Content-Length: 2",
        b"Transfer-Encoding: identity",
        b"Location: http://[x/",
    ],
)
def test_an_answer_with_an_odd_header_line_is_taken(line):
    head = b"HTTP/1.1 200 OK\r\n" + line + b"\r\nX-Last: here\r\n"
    with FaultyServer(faulty.say(head + b"Content-Length: 2\r\n\r\nok")) as server:
        response = get(server.url)
    assert (response.status_code, response.text) == (200, "ok")
    assert response.headers["x-last"] == "here"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"ICY 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: y",
    ],
)
def test_what_curl_refuses_stays_refused(head):
    with FaultyServer(faulty.say(head)) as server, pytest.raises(httpx.RemoteProtocolError):
        get(server.url)


@pytest.mark.parametrize(
    "codings",
    [b"chunked", b"Chunked", b"identity, chunked", b"chunked\r\nTransfer-Encoding: chunked"],
)
def test_chunks_are_put_together_however_their_coding_is_named(codings):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + codings + b"\r\n\r\n"
    with FaultyServer(faulty.say(head + b"2\r\nok\r\n0\r\n\r\n")) as server:
        assert get(server.url).text == "ok"


def test_a_head_may_come_in_pieces_and_after_others():
    text = (
        b"HTTP/1.1 103 Early Hints\r\nX Y: z\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2\r\n\r\nok"
    )
    with FaultyServer(faulty.drip(text, seconds=0)) as server:
        assert get(server.url).text == "ok"


def test_every_answer_of_a_connection_has_a_head_of_its_own():
    whole = b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2\r\n\r\nok"

    def behave(talk):
        talk.send(whole)
        talk.connection.recv(65536)
        talk.send(whole)

    with FaultyServer(behave) as server:
        assert get(server.url, times=2).text == "ok"
    assert len(server.paths) == 1


def test_a_head_that_is_as_it_should_be_stays_as_it_is():
    head = b"HTTP/1.1 200 OK\r\nDate: today\r\nX: a\r\n b\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert tolerated(head) == head


@pytest.mark.parametrize(
    "target", ["mailto:x", "http://xn--a/", "http://a/\x7f", "http://[x/", "/ä"]
)
def test_a_redirect_is_an_answer_wherever_it_points(target):
    said = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 2\r\n\r\nok".encode()
    with FaultyServer(faulty.say(said)) as server:
        response = get(server.url)
    assert response.status_code == 302
    assert location_of(response) == target


# Names


class Remembering(httpcore.AsyncConnectionPool):
    """A pool that answers without a network."""

    asked = None

    async def handle_async_request(self, request):
        self.asked = request
        return httpcore.Response(204, content=b"")


def asked(url, proxy=None):
    """Return host, header Host and the certificate's name (None: the host) of a request."""

    async def run():
        transport = Transport(NO_TRUST, proxy=proxy, limits=httpx.Limits())
        transport._pool = pool = Remembering()
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            await client.get(url, headers=host_header(url))
        return pool.asked

    request = asyncio.run(run())
    header = dict(request.headers).get(b"host", b"").decode()
    return request.url.host.decode(), header, request.extensions.get("sni_hostname")


@pytest.mark.parametrize(
    ("url", "host", "header", "certificate"),
    [
        ("https://a.example/", "a.example", "a.example", None),
        ("https://A.example:443/", "a.example", "a.example", None),
        ("https://a.example.:8443/", "a.example.", "a.example.:8443", "a.example"),
        ("https://[fe80::1%25eth0]/", "fe80::1%eth0", "[fe80::1]", "fe80::1"),
        ("https://[fe80::1%eth0]:8443/", "fe80::1%eth0", "[fe80::1]:8443", "fe80::1"),
        ("https://[fe80::1%252]/", "fe80::1%2", "[fe80::1]", "fe80::1"),
        ("https://[fe80::1%25]/", "fe80::1%25", "[fe80::1]", "fe80::1"),
        ("https://[::1]:8443/", "::1", "[::1]:8443", None),
        ("https://my_host.example/", "my_host.example", "my_host.example", None),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "xn--bcher-kva.example", None),
        # No IDNA of today, but a name all the same.
        ("https://xn--i-7iq.example/", "xn--i-7iq.example", "xn--i-7iq.example", None),
        ("https://xn--a.example/", "xn--a.example", "xn--a.example", None),
    ],
)
def test_a_host_is_looked_up_greeted_and_verified_by_its_name(url, host, header, certificate):
    assert asked(url) == (host, header, certificate)


def test_a_proxy_tunnels_to_a_name_that_a_certificate_can_have():
    assert asked("https://a.example.:8443/", httpx.Proxy("http://p"))[0] == "a.example"


_NAMES = st.lists(
    st.sampled_from(
        ["a", "A1", "xn--", "xn--a", "xn--i-7iq", "-", "_", ".", "..", "%", "%25", "1", "127.0.0.1"]
    )
)
_ADDRESSES = st.tuples(
    st.sampled_from(["[::", "[::1", "[fe80::1", "[FE80::A", "[1.2.3.4", "[v1.x", "[", "::1"]),
    st.sampled_from(["", "%1", "%25", "%251", "%eth0", "%25eth0", "%", "%2", "%/"]),
    st.sampled_from(["]", "]]", "]x"]),
)
_URLS = st.tuples(
    st.sampled_from(["http://", "HTTP://", "http:", "//"]),
    st.one_of(_NAMES, _ADDRESSES).map("".join),
    st.sampled_from(["", ":", ":0", ":80", ":0443", ":65535", ":65536", ":x"]),
    st.sampled_from(
        ["", "/", "//", "?", "#", "/\\", "/|{<^`", "/%zz", "/'\"", "/../..", "/" + "b" * 9000]
    ),
)


@settings(max_examples=150, deadline=None)
@given(_URLS.map("".join))
def test_every_url_that_the_settings_take_can_be_asked(url):
    try:
        parse_http_url(url)
    except ValueError:
        return
    host, header, _ = asked(url)
    assert host
    assert header
    assert proxy_for(url, {"http_proxy": "http://p"}) == "http://p"


# Proxies


def test_what_no_proxy_names_is_asked_directly_and_all_else_through_the_proxy(monkeypatch):
    with FaultyServer(faulty.answer(200)) as server, FaultyServer(faulty.answer(200)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1],127.0.0.0/8")
        get(server.url)
        assert (server.paths, proxy.paths) == (["/"], [])
        monkeypatch.setenv("NO_PROXY", "fd00::/8,[::1],10.0.0.0/8")
        get(server.url)
        assert proxy.paths == [f"{server.url}/"]


@pytest.fixture
def socks():
    """Return a SOCKS proxy's port, and the names that it was asked to connect to."""
    listener = socket.create_server(("127.0.0.1", 0))
    names = []

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(3)
                connection.sendall(b"\x05\x00")
                request = connection.recv(300)
                names.append(request[5 : 5 + request[4]].decode())
                connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 2\r\n\r\nok")

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1], names
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_looks_up_the_name(monkeypatch, socks, scheme):
    port, names = socks
    monkeypatch.setenv("all_proxy", f"{scheme}://127.0.0.1:{port}")
    assert get("http://hydra.invalid/").text == "ok"
    assert names == ["hydra.invalid"]
