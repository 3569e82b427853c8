from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from agent.application.facts.run_checks import run_checks
from agent.checks.prober import Probes
from agent.domain.check import HttpCheck, StatusRange
from fakes.events import RememberedEvents

LONG = timedelta(seconds=30)
BRIEFLY = timedelta(seconds=0.3)
WELL = ""


@dataclass
class Server:
    """A server on loopback that gives each request to `answer`, byte for byte."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the test is over: an answer that never comes waits for it."""

    @property
    def paths(self):
        return [request.split(b" ")[1].decode() for request in self.requests]


@pytest.fixture
def serve():
    """Give a function that starts servers, which live as long as the test."""
    with contextlib.ExitStack() as stack:

        def start(answer, *, host="127.0.0.1", tls=None, name=None):
            class Handler(socketserver.BaseRequestHandler):
                def handle(self):
                    with contextlib.suppress(OSError):
                        stream = tls.wrap_socket(self.request, server_side=True) if tls else None
                        with contextlib.closing(stream or self.request.dup()) as connection:
                            talk(connection)

            def talk(connection):
                request = b""
                while b"\r\n\r\n" not in request:
                    block = connection.recv(65536)
                    if not block:
                        return
                    request += block
                server.requests.append(request)
                answer(connection, server)

            class Threads(socketserver.ThreadingTCPServer):
                address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
                request_queue_size = 1000
                allow_reuse_address = True

                def shutdown_request(self, request):
                    request.close()  # as each answer left it: no farewell of its own

            threads = Threads((host, 0), Handler)
            shown = name or (f"[{host}]" if ":" in host else host)
            scheme = "https" if tls else "http"
            server = Server(f"{scheme}://{shown}:{threads.server_address[1]}")
            stack.callback(threads.server_close)
            serving = threading.Thread(target=threads.serve_forever, args=[0.01])
            serving.start()
            stack.callback(serving.join)
            stack.callback(threads.shutdown)
            stack.callback(server.ended.set)
            return server

        yield start


def says(status="200 OK", body=b"", **headers):
    """Return an answer; a header's underscores are dashes."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    packet = "\r\n".join([*lines, "", ""]).encode() + body
    return lambda connection, _server: connection.sendall(packet)


def never(_connection, server):
    server.ended.wait()


def check(url, timeout=LONG, name="wiki", **expected):
    return HttpCheck(name, url, timeout, **expected)


def test_an_answer_that_came_in_time_counts_however_late_it_is_read(serve):
    holding, answered = threading.Event(), threading.Event()
    began = time.monotonic()
    loops = []

    def hold_up():
        holding.set()
        answered.wait()
        time.sleep(BRIEFLY.total_seconds() + 0.7)  # longer than the check's time and any grace

    def answer(connection, server):
        loops[0].call_soon_threadsafe(hold_up)
        holding.wait()
        says(body=b"ok")(connection, server)
        answered.set()

    async def play():
        loops.append(asyncio.get_running_loop())
        async with Probes() as prober:
            return await run_checks(prober, [asked], LONG, RememberedEvents())

    asked = check(serve(answer).url, BRIEFLY, body="ok")
    (result,) = asyncio.run(play())
    assert result.reason == WELL
    assert result.latency.total_seconds() < time.monotonic() - began - 0.7


def results_of(*checks):
    async def play():
        async with Probes() as prober:
            return await run_checks(prober, checks, LONG, RememberedEvents())

    return asyncio.run(play())


def reason_of(url, timeout=LONG, **expected):
    (result,) = results_of(check(url, timeout, **expected))
    assert result.is_well == (not result.reason)
    return result.reason


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def tls_of(authority, *names, **settings):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **settings).configure_cert(context)
    return context


# Status


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "399 Custom"])
def test_by_default_every_status_below_400_is_well(serve, status):
    assert reason_of(serve(says(status)).url) == WELL


def test_another_status_is_told_with_what_was_expected(serve):
    assert reason_of(serve(says("503 Busy")).url) == "status 503, expected 200-399"


def test_expected_statuses_are_numbers_and_ranges(serve):
    expected = (StatusRange(200, 204), StatusRange(401, 401))
    assert reason_of(serve(says("401 No")).url, status=expected) == WELL
    assert reason_of(serve(says("404 No")).url, status=expected) == (
        "status 404, expected 200-204, 401"
    )


def test_a_redirect_is_the_answer_and_is_not_followed(serve):
    server = serve(says("301 Moved", location="/elsewhere"))
    assert reason_of(server.url, status=(StatusRange(301, 301),)) == WELL
    assert server.paths == ["/"]


def test_a_well_check_knows_its_latency(serve):
    (result,) = results_of(check(serve(says()).url))
    assert timedelta(0) < result.latency < LONG


# Request


def test_the_method_is_the_checks(serve):
    server = serve(says())
    assert reason_of(server.url, method="HEAD") == WELL
    assert server.requests[0].startswith(b"HEAD / HTTP/1.1\r\n")


def test_a_head_request_does_not_wait_for_the_body_its_answer_announces(serve):
    def announces(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        server.ended.wait()

    assert reason_of(serve(announces).url, method="HEAD", body="ok") == "body lacks 'ok'"


def test_environment_and_netrc_have_no_say(serve, monkeypatch, tmp_path):
    proxy, server = serve(says("502 Proxy")), serve(says())
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    assert reason_of(server.url) == WELL
    assert proxy.requests == []
    assert b"authorization" not in server.requests[0].lower()


def test_no_cookie_goes_from_one_check_to_another(serve):
    server = serve(says(set_cookie="session=1; Path=/"))

    async def play():
        async with Probes() as prober:
            for _ in range(2):
                await prober.probe(check(server.url))

    asyncio.run(play())
    assert len(server.requests) == 2
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_ipv6_is_asked_too(serve):
    assert reason_of(serve(says(), host="::1").url) == WELL


def test_a_method_that_is_none_is_a_failed_check(serve):
    assert reason_of(serve(says()).url, method="NO WAY") == "Illegal method characters"


# Body


def test_the_body_must_hold_the_text(serve):
    server = serve(says(body=b'{"status": "ok"}'))
    assert reason_of(server.url, body='"ok"') == WELL
    assert reason_of(server.url, body="fine") == "body lacks 'fine'"


def test_the_body_must_match_the_expression_somewhere(serve):
    server = serve(says(body=b"replicas: 3\n"))
    assert reason_of(server.url, body_regex=r"replicas: [23]$") == WELL
    assert reason_of(server.url, body_regex=r"^3") == "body does not match '^3'"


def test_text_and_expression_must_both_be_there(serve):
    server = serve(says(body=b"ok 3"))
    assert reason_of(server.url, body="ok", body_regex=r"\d") == WELL
    assert reason_of(server.url, body="ok", body_regex="x") == "body does not match 'x'"


@pytest.mark.parametrize(
    ("expression", "fault"), [("(", "missing )"), ("a{9999999999}", "the repetition number")]
)
def test_an_expression_that_is_none_is_a_failed_check(serve, expression, fault):
    reason = reason_of(serve(says()).url, body_regex=expression)
    assert reason.startswith(f"body_regex is not a regular expression: {fault}")


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        ("(?i)READY", b"all ready"),
        (r"(?m)^ok$", b"first\nok\nlast"),
        (r"(?s)first.*last", b"first\nok\nlast"),
        ("gr(ü|u)n", "grün".encode()),
        (r"^\w+$", "日本語😀".encode()[:-4]),
        ("^12$", b"12"),
        ("\n2", b"1\n2"),
        ("a\0b", b"a\0b"),
        ("", b""),
        ("x$", b"y" * (2**20 - 1) + b"x"),
    ],
)
def test_flags_lines_and_letters_of_every_kind_match(serve, expression, body):
    server = serve(says(body=body))
    assert reason_of(server.url, body_regex=expression) == WELL
    reason = reason_of(server.url, body_regex=f"{expression}(?!)")
    assert reason.startswith("body does not match ")


def test_a_body_that_is_no_proper_text_can_be_searched(serve):
    server = serve(says(body=b"+2AA-ok", content_type="text/plain; charset=utf-7"))
    assert reason_of(server.url, body_regex="^.ok$") == WELL


def children():
    """Return the processes that this one has started and not yet seen end."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(stat.parent.name)
    return found


def test_an_expression_that_takes_for_ever_ends_with_its_check_and_delays_no_other(serve):
    before = children()
    endless = check(
        serve(says(body=b"a" * 30 + b"!")).url,
        timedelta(seconds=1),
        name="endless",
        body_regex="(a+)+$",
    )
    silent = check(serve(never).url, BRIEFLY, name="silent")
    ready = check(serve(says(body=b"ready")).url, name="ready", body_regex="^ready$")
    sink = RememberedEvents()

    async def play():
        async with Probes() as prober:
            return await run_checks(prober, [endless, silent, ready], LONG, sink)

    reasons = [result.reason for result in asyncio.run(play())]
    assert reasons == [
        "body_regex neither matched nor failed to within 1 s",
        "no answer within 0.3 s",
        WELL,
    ]
    assert [fields["check"] for _, fields in sink.said][-1] == "endless"
    assert children() == before


def test_many_expressions_are_searched_for_at_once(serve):
    server = serve(says(body=b"ready"))
    results = results_of(*[check(server.url, body_regex=f"ready{{{n}}}") for n in range(1, 31)])
    assert [result.is_well for result in results] == [True] + [False] * 29


def test_without_a_python_to_search_with_the_check_fails(serve, monkeypatch, tmp_path):
    server = serve(says(body=b"ready"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert reason_of(server.url, body_regex="ready").startswith(
        f"body_regex could not be searched for: cannot run {tmp_path}/python: No such file"
    )
    monkeypatch.setattr(sys, "executable", "false")
    assert reason_of(server.url, body_regex="ready") == (
        "body_regex could not be searched for: Python ended with 1"
    )


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("text/plain; charset=iso-8859-1", "grün".encode("latin-1")),
        ("text/plain; charset=utf-16", "grün".encode("utf-16")),
        ("text/plain", "grün".encode()),
        ("text/plain; charset=klingon", "grün".encode()),
        ("text/plain; charset=base64", "grün".encode()),
        ("text/plain; charset=undefined", "grün".encode()),
        ("text/plain", b"\xff\xfe" + "grün".encode()),
    ],
)
def test_the_body_is_text_of_the_charset_it_declares_else_utf_8(serve, charset, body):
    assert reason_of(serve(says(body=body, content_type=charset)).url, body="grün") == WELL


def test_the_first_mebibyte_is_searched_and_no_more_is_read(serve):
    def floods(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2**20 - 2) + b"ok")
        connection.sendall(b"too late")
        server.ended.wait()

    server = serve(floods)
    assert reason_of(server.url, body="ok") == WELL
    assert reason_of(server.url, body="too late") == "body lacks 'too late'"


def test_a_body_compressed_all_the_same_is_searched(serve):
    server = serve(says(body=gzip.compress(b"all ok"), content_encoding="gzip"))
    assert reason_of(server.url, body="all ok") == WELL
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_a_body_that_is_not_compressed_as_it_claims_is_a_failed_check(serve):
    server = serve(says(body=b"plain", content_encoding="gzip"))
    assert reason_of(server.url, body="plain").startswith("body cannot be decompressed: ")


def test_without_expectations_the_body_is_not_waited_for(serve):
    def stalls(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        server.ended.wait()

    assert reason_of(serve(stalls).url) == WELL


# Time


def test_a_service_that_never_answers_is_told_with_the_time_it_had(serve):
    assert reason_of(serve(never).url, BRIEFLY) == "no answer within 0.3 s"


def test_a_body_that_never_ends_is_told_apart_from_no_answer(serve):
    def stalls(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok")
        server.ended.wait()

    assert reason_of(serve(stalls).url, BRIEFLY, body="ok") == "body not complete within 0.3 s"


def test_an_answer_drop_by_drop_does_not_stretch_the_time(serve):
    def drips(connection, server):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.ended.wait(0.02):
            connection.sendall(b"x: y\r\n")

    assert reason_of(serve(drips).url, BRIEFLY) == "no answer within 0.3 s"


def test_an_answer_later_than_the_latency_allowed_is_told_with_both(serve):
    server = serve(says())
    assert reason_of(server.url, max_latency=LONG) == WELL
    reason = reason_of(server.url, max_latency=timedelta(0))
    assert reason.startswith("took 0.")
    assert reason.endswith(" s, at most 0 s allowed")


# Faults


def test_a_port_that_nobody_listens_on_is_refused():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert reason_of(f"http://127.0.0.1:{port}/") == "connection refused"


def test_a_name_that_does_not_exist_is_a_failed_check():
    # The resolver refuses an empty label by itself, whatever network there is.
    assert reason_of("http://wiki..example/") in {
        "name does not resolve",
        "not a URL that can be asked: Invalid IDNA hostname: 'wiki..example'",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "name does not resolve"),
        (
            socket.gaierror(socket.EAI_AGAIN, "busy"),
            "name does not resolve: no name server answers",
        ),
    ],
)
def test_the_resolvers_fault_is_the_checks_reason(error, reason):
    class Loop(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *_names, **_hints):
            raise error

    async def play():
        async with Probes() as prober:
            return await prober.probe(check("http://wiki.example/"))

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(play()).reason == reason


def test_a_resolver_that_hangs_ends_with_the_checks_time():
    class Loop(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *_names, **_hints):
            await asyncio.Event().wait()

    async def play():
        async with Probes() as prober:
            return await prober.probe(check("http://wiki.example/", BRIEFLY))

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(play()).reason == "no answer within 0.3 s"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "wiki", "http://", "http://127.0.0.1:99999/"])
def test_what_is_no_url_of_http_is_a_failed_check(url):
    assert reason_of(url).startswith("not a URL that can be asked: ")


def test_a_service_of_another_kind_is_told(serve):
    def greets(connection, _server):
        connection.sendall(b"220 mail.example ESMTP\r\n")

    assert reason_of(serve(greets).url).startswith("not a valid HTTP answer: ")


def test_a_service_that_hangs_up_is_told(serve):
    assert reason_of(serve(lambda _connection, _server: None).url) == (
        "not a valid HTTP answer: Server disconnected without sending a response"
    )


def test_a_body_that_breaks_off_is_told(serve):
    def breaks_off(connection, _server):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok")

    assert reason_of(serve(breaks_off).url, body="ok").startswith("not a valid HTTP answer: ")


def test_a_connection_that_is_reset_broke(serve):
    def resets(connection, _server):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert reason_of(serve(resets).url) == "connection broke"


# TLS


def test_a_private_authority_is_trusted_by_its_file(serve, authority, ca_file):
    server = serve(says(), tls=tls_of(authority, "127.0.0.1"))
    assert reason_of(server.url, ca_file=ca_file) == WELL


def test_the_file_adds_to_what_the_system_trusts(serve, authority, ca_file, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    another = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(str(another))
    server = serve(says(), tls=tls_of(authority, "127.0.0.1"))
    assert reason_of(server.url) == WELL
    assert reason_of(server.url, ca_file=str(another)) == WELL


def test_one_checks_authority_is_not_trusted_by_another(serve, authority, ca_file):
    server = serve(says(), tls=tls_of(authority, "127.0.0.1"))
    trusting, doubting = results_of(check(server.url, ca_file=ca_file), check(server.url))
    assert trusting.is_well
    assert doubting.reason == ("certificate not trusted: unable to get local issuer certificate")


def test_a_certificate_for_another_name_is_not_trusted(serve, authority, ca_file):
    server = serve(says(), tls=tls_of(authority, "wiki.example"))
    assert reason_of(server.url, ca_file=ca_file) == (
        "certificate not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'"
    )


def test_an_expired_certificate_is_told(serve, authority, ca_file):
    expired = tls_of(authority, "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    assert reason_of(serve(says(), tls=expired).url, ca_file=ca_file) == (
        "certificate not trusted: certificate has expired"
    )


@contextlib.contextmanager
def greeted_with(answer):
    """Take a TLS hello, answer it so, and hang up; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_service_without_tls_is_told():
    with greeted_with(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert reason_of(url).startswith("no TLS: ")


def test_a_service_that_hangs_up_on_tls_is_told():
    with greeted_with(b"") as url:
        assert reason_of(url) == "no TLS: the connection was closed"


def test_an_authority_file_that_is_missing_is_told(tmp_path):
    missing = tmp_path / "missing.pem"
    assert reason_of("https://127.0.0.1/", ca_file=str(missing)) == (
        f"ca_file {missing}: no such file or directory"
    )


def test_an_authority_file_without_a_certificate_is_told(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert reason_of("https://127.0.0.1/", ca_file=str(empty)) == (
        f"ca_file {empty}: no certificate in it"
    )


# Many


def test_three_hundred_checks_at_once_are_all_answered(serve):
    server = serve(says(body=b"ok"))
    checks = [check(f"{server.url}/{number}", body="ok") for number in range(300)]
    assert [result.reason for result in results_of(*checks)] == [WELL] * 300
    assert sorted(server.paths) == sorted(f"/{number}" for number in range(300))
