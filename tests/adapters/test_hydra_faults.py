"""A Hydra that misbehaves, on real sockets: each fault has its own kind and says what to do."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import sys
import textwrap

import httpx
import pytest
import trustme

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.adapters.clock import SystemClock
from agent.adapters.http.retries import Retries
from agent.adapters.http.support import ExchangeProgress
from agent.adapters.hydra import faults
from agent.adapters.hydra.client import HydraClient
from agent.domain.errors import HydraError, Kind
from agent.domain.job import Job, Select
from fakes.events import RememberedEvents

PATH = "/job/p/j/alpha/latest"
BUILD = {
    "id": 7, "project": "p", "jobset": "j", "job": "alpha", "system": "x86_64-linux",
    "finished": 1, "buildstatus": 0, "stoptime": 1, "jobsetevals": [1],
    "buildoutputs": {"out": {"path": "/nix/store/x"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url, question, *, timeout=5.0, deadline=20.0):
    """Run a question of a client that makes each request once."""

    async def run():
        async with HydraClient(
            url,
            timeout=timeout,
            deadline=deadline,
            sink=RememberedEvents(),
            clock=SystemClock(),
            retries=Retries(attempts=1),
        ) as client:
            return await question(client)

    return asyncio.run(run())


def latest(client):
    return client.newest_good_build(Job("", "p", "j", "alpha"), Select.LATEST)


def fault(url, question=latest, **limits) -> HydraError:
    with pytest.raises(HydraError) as caught:
        ask(url, question, **limits)
    assert caught.value.hint
    return caught.value


def fault_of(behaviour, question=latest, **limits) -> HydraError:
    with FaultyServer(behaviour) as server:
        error = fault(server.url, question, **limits)
        assert server.url in error.message
    assert len(server.paths) <= 1
    return error


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# The connection


def test_a_port_where_nothing_listens_is_refused():
    error = fault(f"http://127.0.0.1:{unused_port()}")
    assert error.kind is Kind.HYDRA_REFUSED
    assert "Connection refused" in error.message
    assert PATH in error.message


def test_a_host_with_several_addresses_that_all_refuse_is_refused():
    error = fault(f"http://localhost:{unused_port()}")
    assert error.kind is Kind.HYDRA_REFUSED
    assert "Connection refused" in error.message


def test_of_several_addresses_the_first_ones_reason_is_told():
    # As anyio and httpcore pass it on for a host with an IPv4 and an IPv6 address.
    reasons = [OSError(113, "No route to host"), ConnectionRefusedError(111, "Connection refused")]
    below = OSError("All connection attempts failed")
    below.__cause__ = ExceptionGroup("multiple connection attempts failed", reasons)
    error = httpx.ConnectError(str(below))
    error.__context__ = below
    found = faults.HYDRA.translate("http://h/x", ExchangeProgress(), error)
    assert found.kind is Kind.HYDRA_REFUSED
    assert "No route to host" in found.message


@pytest.mark.parametrize("host", ["hydra.invalid", "a" * 64 + ".invalid", "."])
def test_a_name_without_an_address_is_unresolvable(host):
    assert fault(f"http://{host}:1").kind is Kind.HYDRA_UNRESOLVABLE


@pytest.mark.parametrize("instance", ["http://[::1", "ftp://127.0.0.1", "http://127.0.0.1:x"])
def test_an_instance_that_is_no_url_to_ask_is_a_fault_of_the_settings(instance):
    assert fault(instance).kind is Kind.CONFIG_INVALID


@pytest.mark.parametrize("behaviour", [faulty.hang_up, faulty.reset])
def test_a_connection_closed_before_an_answer_is_disconnected(behaviour):
    assert fault_of(behaviour).kind is Kind.HYDRA_DISCONNECTED


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\x15\x03\x01\x00\x02\x02\x0a", b"\0" * 9]
)
def test_what_does_not_speak_http_is_told_as_such(data):
    error = fault_of(faulty.say(data + b"\r\n\r\n"))
    assert error.kind is Kind.HYDRA_NOT_HTTP
    assert "https" in error.hint


def test_headers_without_end_are_given_up():
    error = fault_of(faulty.say(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000))
    assert error.kind is Kind.HYDRA_NOT_HTTP


# TLS


@pytest.fixture(name="authority", scope="module")
def _authority():
    return trustme.CA()


@pytest.fixture(name="server_tls")
def _server_tls(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(name="bundle")
def _bundle(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(name="trust")
def _trust(monkeypatch):
    """Leave no certificate variable but those given."""

    def only(**variables):
        for name in ("SSL_CERT_FILE", "NIX_SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return only


GOOD = faulty.redirect("/build/7")


def test_a_certificate_nobody_vouches_for_is_a_tls_fault(server_tls, trust):
    trust()
    with FaultyServer(GOOD, tls=server_tls) as server:
        error = fault(server.url)
    assert error.kind is Kind.HYDRA_TLS
    assert "SSL_CERT_FILE" in error.hint
    assert not error.is_retryable


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "NIX_SSL_CERT_FILE"])
def test_the_bundle_that_a_variable_names_is_trusted(server_tls, trust, bundle, variable):
    trust(**{variable: bundle})
    with FaultyServer(GOOD, tls=server_tls) as server:
        assert ask(server.url, latest) == 7


def test_ssl_cert_file_goes_before_nix_ssl_cert_file(server_tls, trust, bundle):
    trust(SSL_CERT_FILE=bundle, NIX_SSL_CERT_FILE="/no-cert-file.crt")
    with FaultyServer(GOOD, tls=server_tls) as server:
        assert ask(server.url, latest) == 7


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_bundle_that_cannot_be_read_is_named_as_the_cause(trust, tmp_path, text):
    path = tmp_path / "bundle.pem"
    if text is not None:
        path.write_text(text)
    trust(SSL_CERT_FILE=path)
    error = fault(f"https://127.0.0.1:{unused_port()}")
    assert error.kind is Kind.HYDRA_TLS
    assert "SSL_CERT_FILE" in error.hint


def test_an_unreadable_bundle_is_no_hindrance_where_no_tls_is_spoken(trust):
    trust(SSL_CERT_FILE="/no-cert-file.crt")
    with FaultyServer(GOOD) as server:
        assert ask(server.url, latest) == 7


def test_a_certificate_for_another_name_is_a_tls_fault(server_tls, trust, bundle):
    trust(SSL_CERT_FILE=bundle)
    with FaultyServer(GOOD, tls=server_tls) as server:
        error = fault(server.url.replace("127.0.0.1", "localhost"))
    assert error.kind is Kind.HYDRA_TLS
    assert "hydra.instance" in error.hint


def test_plain_words_in_place_of_a_handshake_are_a_tls_fault():
    error = _handshake_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert error.kind is Kind.HYDRA_TLS
    assert "https" in error.hint


def test_a_connection_closed_during_the_handshake_is_disconnected_and_may_be_tried_again():
    error = _handshake_with(b"")
    assert error.kind is Kind.HYDRA_DISCONNECTED
    assert error.is_retryable


def _handshake_with(reply: bytes) -> HydraError:
    """Ask by https what reads the start of the handshake and says `reply`."""

    async def run():
        async def behave(reader, writer):
            await reader.read(1)
            writer.write(reply)
            await writer.drain()
            await reader.read(65536)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(behave, "127.0.0.1", 0)
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with HydraClient(
                url, timeout=5, deadline=9, sink=RememberedEvents(), clock=SystemClock(),
                retries=Retries(attempts=1),
            ) as client:  # fmt: skip
                with pytest.raises(HydraError) as caught:
                    await latest(client)
        return caught.value

    return asyncio.run(run())


# Statuses


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.HYDRA_UNAUTHORISED),
        (403, Kind.HYDRA_UNAUTHORISED),
        (407, Kind.HYDRA_UNAUTHORISED),
        (429, Kind.HYDRA_RATE_LIMITED),
        (500, Kind.HYDRA_SERVER_ERROR),
        (502, Kind.HYDRA_SERVER_ERROR),
        (503, Kind.HYDRA_SERVER_ERROR),
        (400, Kind.HYDRA_STATUS),
        (410, Kind.HYDRA_STATUS),
        (204, Kind.HYDRA_STATUS),
        (206, Kind.HYDRA_STATUS),
        (304, Kind.HYDRA_STATUS),
        (404, Kind.HYDRA_STATUS),
    ],
)
def test_each_status_has_its_kind_and_no_body_is_ever_quoted(status, kind):
    secret = b"" if status in (204, 304) else b"<html>DBI connect('host=10.0.0.5')</html>"
    for question in (latest, lambda client: client.build(7)):
        error = fault_of(faulty.answer(status, secret, faulty.HTML), question)
        if status == 404 and question is not latest:
            assert error.kind is Kind.HYDRA_HTML
        else:
            assert error.kind is kind
        assert str(status) in error.message
        assert "DBI" not in str(error)


def test_a_status_nobody_knows_is_told_by_its_number():
    error = fault_of(faulty.say(b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n"))
    assert "799" in error.message


# Bodies


def build(client):
    return client.build(7)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.HYDRA_EMPTY),
        (b" \r\n", Kind.HYDRA_EMPTY),
        (b"<!DOCTYPE html><html></html>", Kind.HYDRA_HTML),
        (b"\n <p>", Kind.HYDRA_HTML),
        (b"null", Kind.HYDRA_WRONG_SHAPE),
        (b"[]", Kind.HYDRA_WRONG_SHAPE),
        (b"7", Kind.HYDRA_WRONG_SHAPE),
        (b"{}", Kind.HYDRA_WRONG_SHAPE),
        (b"sorry", Kind.HYDRA_NOT_JSON),
        (b'{"id": 7', Kind.HYDRA_TRUNCATED),
        (b'{"id": 7}{', Kind.HYDRA_NOT_JSON),
        (b"\xff\xfe", Kind.HYDRA_NOT_JSON),
        (b'{"x": "\xff"}', Kind.HYDRA_NOT_JSON),
        (b"[" * 100_000, Kind.HYDRA_TOO_DEEP),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, Kind.HYDRA_TOO_DEEP),
        (b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", Kind.HYDRA_TOO_DEEP),
    ],
)
def test_a_body_that_is_no_build_has_a_kind_that_says_what_it_is(body, kind):
    assert fault_of(faulty.answer(200, body), build).kind is kind


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "7"),
        ("id", 8),
        ("id", True),
        ("id", 0),
        ("id", 10**30),
        ("project", None),
        ("job", 3),
        ("system", []),
        ("finished", "1"),
        ("finished", 2),
        ("finished", None),
        ("buildstatus", "0"),
        ("buildstatus", 0.5),
        ("stoptime", -1),
        ("stoptime", 10**15),
        ("jobsetevals", None),
        ("jobsetevals", ["17"]),
        ("jobsetevals", [17, None]),
        ("buildoutputs", []),
        ("buildoutputs", {"out": "/nix/store/x"}),
        ("buildoutputs", {"out": {"path": 3}}),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field, value):
    body = json.dumps({**BUILD, field: value}).encode()
    error = fault_of(faulty.answer(200, body), build)
    assert error.kind is Kind.HYDRA_WRONG_SHAPE
    assert field in error.message


@pytest.mark.parametrize("field", ["id", "finished", "buildstatus", "buildoutputs", "jobsetevals"])
def test_a_missing_field_is_named(field):
    body = {key: value for key, value in BUILD.items() if key != field}
    error = fault_of(faulty.answer(200, json.dumps(body).encode()), build)
    assert error.kind is Kind.HYDRA_WRONG_SHAPE
    assert field in error.message


def test_what_is_not_used_may_be_of_any_shape():
    body = json.dumps({**BUILD, "buildproducts": None, "nixname": 4, "new": [[]]}).encode()
    with FaultyServer(faulty.answer(200, body, "text/plain")) as server:
        assert ask(server.url, build).id == 7


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Sign in</html>", Kind.HYDRA_HTML),
        (b"", Kind.HYDRA_EMPTY),
        (b"null", Kind.HYDRA_WRONG_SHAPE),
        (b'{"id": 7}', Kind.HYDRA_WRONG_SHAPE),
    ],
)
def test_an_answer_where_a_redirect_belongs_names_no_build(body, kind):
    assert fault_of(faulty.answer(200, body)).kind is kind


def test_a_body_shorter_than_announced_is_truncated():
    body = json.dumps(BUILD).encode()
    error = fault_of(faulty.truncated(body, len(body) + 1), build)
    assert error.kind is Kind.HYDRA_TRUNCATED
    assert error.is_retryable


def test_a_redirect_whose_body_breaks_off_is_truncated():
    whole = faulty.whole(302, b"<p>Moved</p>", faulty.HTML, Location="/build/7")
    assert fault_of(faulty.say(whole[:-1])).kind is Kind.HYDRA_TRUNCATED


def test_broken_chunks_are_truncated():
    error = fault_of(faulty.broken_chunks(json.dumps(BUILD).encode()), build)
    assert error.kind is Kind.HYDRA_TRUNCATED


def test_a_compressed_body_is_refused_unread():
    body = gzip.compress(json.dumps(BUILD).encode())
    error = fault_of(faulty.answer(200, body, Content_Encoding="gzip"), build)
    assert error.kind is Kind.HYDRA_NOT_JSON
    assert "gzip" in error.message


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_given_up_at_four_mebibytes(announced):
    error = fault_of(faulty.flood(16 * 1024 * 1024, announced=announced), build)
    assert error.kind is Kind.HYDRA_TOO_LARGE


@pytest.mark.parametrize(
    ("announced", "kind"),
    [
        ("4194305", Kind.HYDRA_TOO_LARGE),
        ("99999999999999999999", Kind.HYDRA_TOO_LARGE),
        ("9" * 5000, Kind.HYDRA_NOT_HTTP),
        ("-1", Kind.HYDRA_NOT_HTTP),
    ],
)
def test_a_body_announced_as_huge_is_not_waited_for(announced, kind):
    def announce(talk):
        talk.send(faulty.head(200, {"Content-Length": announced}))
        talk.wait_for_the_end()

    assert fault_of(announce, build, timeout=60, deadline=60).kind is kind


def test_a_body_of_almost_four_mebibytes_is_read():
    body = json.dumps({**BUILD, "more": "x" * (4 * 1024 * 1024 - 1000)}).encode()
    with FaultyServer(faulty.answer(200, body)) as server:
        assert ask(server.url, build).id == 7


_GROWTH = """
    import asyncio, resource, sys
    from agent.adapters.clock import SystemClock
    from agent.adapters.hydra.client import HydraClient
    from agent.adapters.http.retries import Retries
    from agent.domain.errors import HydraError

    class Silent:
        def emit(self, event, /, **fields): pass

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def main(small, large):
        kinds = []
        async def ask(url):
            async with HydraClient(url, timeout=60, deadline=60, sink=Silent(),
                                   clock=SystemClock(), retries=Retries(attempts=1)) as client:
                try:
                    await client.build(7)
                except HydraError as error:
                    kinds.append(error.kind)
        await ask(small)
        before = peak()
        await ask(large)
        print(*kinds, peak() - before)

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_200_megabytes_costs_less_than_ten(announced):
    flood = faulty.flood(200_000_000, announced=announced)
    with FaultyServer(faulty.answer(200)) as small, FaultyServer(flood) as large:
        told = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_GROWTH), small.url, large.url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    assert told[:2] == ["hydra-empty", "hydra-too-large"]
    assert int(told[2]) < 10 * 1024


# Time


def test_a_server_that_never_answers_is_a_timeout():
    error = fault_of(faulty.say_nothing, timeout=0.2)
    assert error.kind is Kind.HYDRA_TIMEOUT
    assert "no answer" in error.message


def test_headers_that_drip_are_a_timeout_for_the_whole_request_counts():
    drip = faulty.drip(faulty.whole(302, b"", Location="/build/7"), seconds=0.05)
    assert fault_of(drip, timeout=0.4).kind is Kind.HYDRA_TIMEOUT


def test_a_body_that_drips_is_a_timeout_for_the_whole_request_counts():
    body = json.dumps(BUILD).encode()
    answer = faulty.whole(200, body)
    drip = faulty.drip(answer, at_once=len(answer) - len(body), seconds=0.05)
    error = fault_of(drip, build, timeout=0.4)
    assert error.kind is Kind.HYDRA_TIMEOUT
    assert "did not end" in error.message


def test_a_connection_that_does_not_come_about_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # The backlog of a listener that accepts nothing is soon full: then nobody is answered.
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)  # noqa: FBT003 - its only parameter
                one.connect_ex(address)
            error = fault(f"http://127.0.0.1:{address[1]}", timeout=0.2)
        finally:
            for one in waiting:
                one.close()
    assert error.kind is Kind.HYDRA_TIMEOUT
    assert "no connection" in error.message


def test_the_deadline_of_the_conversation_names_what_it_was_busy_with():
    error = fault_of(faulty.say_nothing, timeout=5, deadline=0.2)
    assert error.kind is Kind.HYDRA_DEADLINE
    assert PATH in error.message


# Redirects


def test_a_redirect_to_itself_is_a_loop():
    assert fault_of(faulty.redirect("{url}")).kind is Kind.HYDRA_REDIRECT_LOOP
    assert fault_of(faulty.redirect(PATH)).kind is Kind.HYDRA_REDIRECT_LOOP


def test_a_redirect_to_another_origin_is_not_followed():
    with FaultyServer(GOOD) as elsewhere:
        error = fault_of(faulty.redirect(f"{elsewhere.url}/sign-in"))
        assert elsewhere.paths == []
        assert elsewhere.url in error.message
    assert error.kind is Kind.HYDRA_REDIRECT_ORIGIN


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_the_same_path_by_https_says_what_to_configure(status):
    error = fault_of(faulty.redirect("https://hydra.example.org" + PATH, status))
    assert error.kind is Kind.HYDRA_REDIRECT_ORIGIN
    assert error.hint == "set hydra.instance to https://hydra.example.org"


@pytest.mark.parametrize(
    "location",
    [
        "/login",
        "/build/7/nixlog/1",
        "/build/abc",
        "/build/-1",
        "/build/٣",
        "/evil/build/7",
        "/build/" + "9" * 40,
        "//[",
        "javascript:/build/7",
    ],
)
def test_a_redirect_to_where_no_build_is_names_none(location):
    error = fault_of(faulty.redirect(location))
    assert error.kind in {Kind.HYDRA_REDIRECT, Kind.HYDRA_REDIRECT_ORIGIN}


def test_a_redirect_to_nowhere_is_told():
    assert fault_of(faulty.answer(302)).kind is Kind.HYDRA_REDIRECT
    assert fault_of(faulty.answer(302, Location="")).kind is Kind.HYDRA_REDIRECT


def test_a_renamed_jobset_is_named():
    error = fault_of(faulty.redirect("/job/p/new%20name/alpha/latest", 301))
    assert error.kind is Kind.JOBSET_RENAMED
    assert "'new name'" in error.message


@pytest.mark.parametrize("location", ["/job/other/j/alpha/latest", "/job/p/new/beta/latest"])
def test_a_redirect_that_changes_more_than_the_jobset_is_no_renaming(location):
    assert fault_of(faulty.redirect(location, 301)).kind is Kind.HYDRA_REDIRECT


def test_a_build_that_redirects_is_not_followed():
    assert fault_of(faulty.redirect("/build/8"), build).kind is Kind.HYDRA_REDIRECT


# Proxies and credentials


def test_the_proxy_of_the_environment_is_used(monkeypatch):
    with FaultyServer(faulty.redirect("http://hydra.invalid/build/7")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask("http://hydra.invalid", latest) == 7
    assert proxy.paths == [f"http://hydra.invalid{PATH}"]


def test_a_proxy_that_refuses_to_connect_is_named_as_the_cause(monkeypatch):
    with FaultyServer(faulty.answer(407)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = fault("https://hydra.invalid")
    assert error.kind is Kind.HYDRA_REFUSED
    assert "proxy" in error.message


@pytest.mark.parametrize("value", ["socks4://127.0.0.1:1", "nonsense://127.0.0.1:1", "http://[::1"])
def test_proxy_variables_that_cannot_be_used_are_named(monkeypatch, value):
    monkeypatch.setenv("http_proxy", value)
    error = fault("http://hydra.invalid")
    assert error.kind is Kind.CONFIG_INVALID
    assert "http_proxy" in error.hint


def test_credentials_of_netrc_are_not_sent(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login root password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultyServer(GOOD) as server:
        ask(server.url, latest)
    assert "authorization" not in server.headers[0]


def test_credentials_in_the_instance_are_never_told():
    error = fault(f"http://user:secret@127.0.0.1:{unused_port()}")
    assert "secret" not in str(error)
    assert "user" not in str(error)
