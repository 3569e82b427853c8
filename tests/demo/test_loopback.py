"""The loopback server: its hooks for tests, its threads, and its silence."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import urllib.request

import pytest

from agent.demo.loopback import Answer, HangUp, LoopbackServer
from demo.asking import ask
from demo.hydra_changes import stay_silent_on


def hello(_):
    return Answer(200, {"Content-Type": "text/plain"}, b"hello")


@pytest.fixture
def server():
    with LoopbackServer(hello) as server:
        yield server


def test_every_request_is_noted_with_its_headers_in_lower_case(server):
    ask(server.port, "/a%2Fb/c?d=e&f=", {"X-Thing": "1"}, method="POST", body="text")
    ask(server.port, "/second")
    first, second = server.requests
    assert (first.method, first.path, first.query_string) == ("POST", "/a%2Fb/c", "d=e&f=")
    assert first.segments == ["a/b", "c"]
    assert first.query == {"d": "e", "f": ""}
    assert first.headers["x-thing"] == "1"
    assert first.body == b"text"
    assert (second.target, first.target) == ("/second", "/a%2Fb/c?d=e&f=")
    server.requests.clear()
    assert server.requests == []


def test_a_path_can_be_answered_otherwise_and_as_usual_again(server):
    server.overrides["/x"] = Answer(418, {"X-Mine": "1"}, b"tea")
    server.overrides["/y"] = lambda request: Answer(200, {}, request.target.encode())
    server.overrides["/x?special"] = Answer(410)
    found = ask(server.port, "/x?any")
    assert (found.status, found.headers["X-Mine"], found.body) == (418, "1", b"tea")
    assert ask(server.port, "/x?special").status == 410
    assert ask(server.port, "/y?q").body == b"/y?q"
    server.overrides.pop("/x", None)
    assert ask(server.port, "/x").body == b"hello"
    server.overrides.clear()
    assert ask(server.port, "/y").body == b"hello"


def test_head_has_the_headers_of_get_and_no_body(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as answer:
            head = answer.read()
    assert b"\r\nContent-Length: 5\r\n" in head
    assert head.endswith(b"\r\n\r\n")


def test_a_connection_serves_many_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
    connection.close()
    assert len(server.requests) == 3


def test_a_hang_up_closes_without_an_answer(server):
    def hang_up(_):
        raise HangUp

    server.overrides["/"] = hang_up
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server.port, "/")


def test_a_stated_length_that_is_too_long_cuts_the_answer(server):
    server.overrides["/"] = Answer(200, {"Content-Length": "100"}, b"only this")
    with pytest.raises(http.client.IncompleteRead):
        ask(server.port, "/")


def test_a_body_in_pieces_is_streamed_to_its_end(server):
    server.overrides["/"] = lambda _: Answer(200, {}, (b"%d," % n for n in range(4)))
    found = ask(server.port, "/")
    assert found.body == b"0,1,2,3,"
    assert "Content-Length" not in found.headers


def test_an_endless_body_ends_when_the_client_hangs_up(server):
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    server.overrides["/"] = lambda _: Answer(200, {}, endless())
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1000)
    assert ended.wait(10)
    assert ask(server.port, "/other").status == 200


def has_ended(client):
    """The kernel resets a connection that the server has not accepted yet."""
    try:
        return client.recv(10) == b""
    except ConnectionResetError:
        return True


def test_closing_ends_silent_idle_and_stuck_connections():
    before = set(threading.enumerate())
    server = LoopbackServer(hello)
    server.start()
    stay_silent_on(server, "/silent")
    server.overrides["/stuck"] = Answer(200, {}, b"x" * 50_000_000)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    try:
        for client, path in zip(clients, ("/silent", "/stuck", ""), strict=True):
            if path:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert clients[1].recv(10)
        server.close()
        assert has_ended(clients[0])
        assert has_ended(clients[2])
    finally:
        for client in clients:
            client.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_server_may_be_closed_twice_or_without_a_start():
    server = LoopbackServer(hello)
    server.close()
    server.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nx",
    ],
)
def test_clients_that_hang_up_or_speak_nonsense_are_survived_in_silence(server, capfd, sent):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(sent)
    assert ask(server.port, "/").body == b"hello"
    server.close()
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_for_any_request(server, capfd):
    for method in ("GET", "HEAD", "POST", "BREW"):
        ask(server.port, "/", method=method)
    assert capfd.readouterr() == ("", "")


def test_a_bug_in_an_answer_is_raised_when_the_server_is_left(capfd):
    def broken(_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"), LoopbackServer(broken) as server:
        assert ask(server.port, "/").status == 500
    assert capfd.readouterr() == ("", "")


def test_a_bug_in_a_streamed_answer_is_raised_too():
    def broken():
        yield b"some"
        raise LookupError("late")

    with (
        pytest.raises(LookupError, match="late"),
        LoopbackServer(lambda _: Answer(200, {}, broken())) as server,
    ):
        assert ask(server.port, "/").body == b"some"


def test_an_error_of_the_test_itself_is_not_hidden_by_a_fault_of_an_answer():
    def broken(_):
        raise LookupError("mine")

    def run():
        with LoopbackServer(broken) as server:
            ask(server.port, "/")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_many_clients_at_once_are_all_answered(server):
    found = []

    def client():
        found.append(ask(server.port, "/").status)

    clients = [threading.Thread(target=client) for _ in range(50)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert found == [200] * 50


def test_its_threads_take_no_signals_that_the_main_thread_waits_for():
    blocked = []

    def answer(_request):
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return Answer()

    with LoopbackServer(answer) as server:
        urllib.request.urlopen(server.url).close()  # noqa: S310 - loopback
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= blocked[0]
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
