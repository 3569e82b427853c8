"""Messages to real servers on loopback: what arrives, and that nothing fails or delays a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from adapters.ntfy_server import NtfyServer, Received
from agent.adapters.notify import AppriseNotifier, NtfyTopic
from agent.application import events
from agent.application.flake_update import messages
from agent.application.flake_update.ports import Proposal
from agent.application.notification import Message, Priority, Tone
from agent.demo.loopback import Answer, LoopbackServer
from agent.domain.errors import FlakeError, Kind
from fakes.events import RememberedEvents

HELLO = Message("Hello", "world")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def tell(tmp_path):
    """Tell someone; return the sink with what was logged of it."""

    def told(message=HELLO, *, ntfy=None, urls=(), timeout=5.0):
        file = None
        if urls:
            file = tmp_path / "urls"
            file.write_text("# who is told\n" + "\n".join(urls) + "\n")
            file.chmod(0o400)
        sink = RememberedEvents()
        notifier = AppriseNotifier(sink, ntfy=ntfy, urls_file=file, timeout=timeout)
        asyncio.run(notifier.notify(message))
        return sink

    return told


@pytest.fixture
def ntfy():
    with NtfyServer() as server:
        yield server


def fault_in(sink):
    return sink.fields_of(events.NOTIFICATION_FAILED)


LINK = "https://forge.example.org/team/nixos/pulls/7"
PROPOSED = Proposal(7, LINK, "flake-update-20251219", "b" * 40, "main", "t", "b")
LOG = "journalctl -u nix-flake-updater"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            messages.success("flake-update-20251219", ("aomi", "sakhalin", "rhea"), PROPOSED),
            Received(
                topic="nix-updates",
                title="✅ Flake Updated Successfully",
                message="Branch flake-update-20251219 created and pushed.\n"
                f"All builds passed: aomi sakhalin rhea\n{LINK}",
                priority="default",
                tags=("flake", "white_check_mark"),
                click=LINK,
                icon=None,
            ),
        ),
        (
            messages.failure(FlakeError(Kind.HOSTS_BROKEN, "rhea"), LOG),
            Received(
                topic="nix-updates",
                title="❌ Flake Update Build Failed",
                message="Builds failed for updated flake.lock.\n"
                f"rhea [hosts-broken]\nCheck logs: {LOG}",
                priority="high",
                tags=("flake", "warning", "x"),
                click=None,
                icon=None,
            ),
        ),
        (
            messages.nothing("flake.lock is already up to date"),
            Received(
                topic="nix-updates",
                title="ℹ️ No Flake Updates",  # noqa: RUF001 - the emoji
                message="flake.lock is already up to date",
                priority="low",
                tags=("flake", "information_source"),
                click=None,
                icon=None,
            ),
        ),
    ],
    ids=["success", "builds failed", "nothing to do"],
)
def test_what_is_told_of_an_update_arrives_with_its_title_tags_and_priority(
    tell, ntfy, message, expected
):
    sink = tell(message, ntfy=NtfyTopic(ntfy.url, "nix-updates"))
    (received,) = ntfy.received
    # apprise sorts them, and ntfy shows the emoji first whatever their place.
    assert received == expected
    assert sink.said == [(events.NOTIFICATION_SENT, {"title": message.title, "service": "ntfy #1"})]


def test_an_ntfy_url_keeps_what_it_says_itself(tell, ntfy):
    address = ntfy.url.removeprefix("http://")
    tell(messages.nothing("x"), urls=[f"ntfy://{address}/t?priority=max&xtags=mine"])
    (received,) = ntfy.received
    assert (received.priority, received.tags) == ("max", ("mine",))


@pytest.mark.parametrize("token", ["tk_abc", "a/b?c@d"])
def test_a_token_is_read_from_its_file(tell, tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o400)
    with NtfyServer(token) as server:
        tell(ntfy=NtfyTopic(server.url, "t", file))
        assert len(server.received) == 1


def test_an_https_server_is_asked_by_https_and_ntfy_sh_with_its_token(tmp_path):
    file = tmp_path / "token"
    file.write_text("tk_abc")
    file.chmod(0o400)
    url = NtfyTopic("https://ntfy.sh", "t", file).url()
    assert url == "ntfys://tk_abc@ntfy.sh/t?mode=private&auth=token"


def test_a_webhook_gets_tone_title_and_text(tell):
    with LoopbackServer(lambda _: Answer(200)) as server:
        address = server.url.removeprefix("http://")
        tell(Message("T", "line\n# no heading", Tone.FAILURE), urls=[f"json://{address}/hook"])
        (request,) = server.requests
    body = json.loads(request.body)
    assert (body["title"], body["message"], body["type"]) == ("T", "line\n# no heading", "failure")


def test_a_matrix_room_is_told(tell):
    def answer(_):
        body = {"room_id": "!room:h", "event_id": "$1", "user_id": "@a:h", "joined_rooms": []}
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    with LoopbackServer(answer) as server:
        address = server.url.removeprefix("http://")
        tell(urls=[f"matrix://s3cret@{address}/!room:h"])
        sent = [json.loads(r.body) for r in server.requests if "m.room.message" in r.path]
    assert sent
    assert "world" in sent[0]["body"]


class MailServer:
    """Takes one mail, with the least of SMTP."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.lines = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._talk(connection)

    def _talk(self, connection):
        with connection, connection.makefile("rwb") as stream:
            stream.write(b"220 h\r\n")
            is_data = False
            while True:
                stream.flush()
                line = stream.readline().decode().rstrip("\r\n")
                self.lines.append(line)
                if is_data:
                    is_data = line != "."
                    stream.write(b"" if is_data else b"250 ok\r\n")
                elif line.upper() == "DATA":
                    is_data = True
                    stream.write(b"354 go on\r\n")
                elif line.upper().startswith("QUIT"):
                    stream.write(b"221 bye\r\n")
                    return
                else:
                    stream.write(b"250 h\r\n")


def test_a_mail_is_sent(tell):
    with MailServer() as server:
        sink = tell(urls=[f"mailto://{server.address}?from=a@example.org&to=b@example.org"])
    assert sink.names() == ["notification.sent"]
    assert any(line.startswith("Subject:") and "Hello" in line for line in server.lines)
    assert any("b@example.org" in line for line in server.lines if line.upper().startswith("RCPT"))


def test_one_service_that_fails_keeps_no_other_from_hearing(tell, ntfy):
    with FaultyServer(faulty.say_nothing) as silent:
        address = silent.url.removeprefix("http://")
        sink = tell(
            ntfy=NtfyTopic(ntfy.url, "t"), urls=[f"json://{address}/x", "nonsense"], timeout=2.0
        )
    assert len(ntfy.received) == 1
    assert sorted(sink.names()) == ["notification.failed"] * 2 + ["notification.sent"]


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (faulty.answer(403, b'{"code":40301,"http":403,"error":"forbidden"}'), Kind.NOTIFY_FAILED),
        (faulty.answer(500), Kind.NOTIFY_FAILED),
        (faulty.hang_up, Kind.NOTIFY_FAILED),
        (faulty.say(b"nonsense\r\n\r\n"), Kind.NOTIFY_FAILED),
        (faulty.say_nothing, Kind.NOTIFY_TIMEOUT),
        (faulty.drip(faulty.whole(200, b"{}"), at_once=20), Kind.NOTIFY_TIMEOUT),
    ],
    ids=["403", "500", "hang up", "nonsense", "silent", "dripping"],
)
def test_a_service_that_fails_is_logged_and_fails_nothing(tell, behaviour, kind):
    began = time.monotonic()
    with FaultyServer(behaviour) as server:
        # What is answered at once has time enough: the first message loads apprise.
        timeout = 0.3 if kind is Kind.NOTIFY_TIMEOUT else 30.0
        sink = tell(ntfy=NtfyTopic(server.url, "t"), timeout=timeout)
        took = time.monotonic() - began
    told = fault_in(sink)
    assert told["error.kind"] is kind
    assert told["error.hint"]
    assert told["title"] == "Hello"
    assert took < 2 or kind is not Kind.NOTIFY_TIMEOUT


def test_why_a_service_refuses_is_told(tell):
    with NtfyServer("tk_right") as server:
        told = fault_in(tell(ntfy=NtfyTopic(server.url, "t")))
    assert "forbidden" in told["error.message"]


def test_nobody_there_is_logged(tell):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    told = fault_in(tell(ntfy=NtfyTopic(f"http://127.0.0.1:{port}", "t")))
    assert told["error.kind"] is Kind.NOTIFY_FAILED
    assert "onnection" in told["error.message"]


@pytest.mark.parametrize("url", ["nonsense", "nonsense://s3cret@x"])
def test_a_url_that_apprise_does_not_know_is_logged_without_its_secrets(tell, url):
    told = fault_in(tell(urls=[url]))
    assert told["error.kind"] is Kind.NOTIFY_UNUSABLE
    assert "s3cret" not in repr(told)


def test_credentials_that_cannot_be_read_are_logged_and_fail_nothing(tmp_path, ntfy):
    exposed = tmp_path / "token"
    exposed.write_text("tk_x")
    exposed.chmod(0o644)
    sink = RememberedEvents()
    notifier = AppriseNotifier(
        sink,
        ntfy=NtfyTopic(ntfy.url, "t", exposed),
        urls_file=tmp_path / "none",
        timeout=5,
    )
    asyncio.run(notifier.notify(HELLO))
    kinds = [fields["error.kind"] for _, fields in sink.said]
    assert kinds == [Kind.SECRET_EXPOSED, Kind.SECRET_MISSING]
    assert ntfy.received == []


def test_without_apprise_it_is_logged_what_to_install(tell, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    told = fault_in(tell(ntfy=NtfyTopic("http://127.0.0.1:1", "t")))
    assert told["error.kind"] is Kind.NOTIFY_UNUSABLE
    assert "nixos-hydra-agent[notify]" in told["error.hint"]


def test_an_apprise_that_is_not_what_it_should_be_fails_nothing(tell, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", types.ModuleType("apprise"))
    told = fault_in(tell(ntfy=NtfyTopic("http://127.0.0.1:1", "t")))
    assert told["error.kind"] is Kind.NOTIFY_FAILED
    assert "AttributeError" in told["error.message"]


def test_a_service_that_hangs_keeps_no_process_from_ending():
    script = """
import asyncio, sys
from agent.adapters.notify import AppriseNotifier, NtfyTopic
from agent.application.notification import Message
from fakes.events import RememberedEvents
sink = RememberedEvents()
notifier = AppriseNotifier(sink, ntfy=NtfyTopic(sys.argv[1], "t"), urls_file=None, timeout=0.2)
asyncio.run(notifier.notify(Message("T", "b")))
print(*sink.names())
"""
    with FaultyServer(faulty.drip(faulty.whole(200, b"x" * 10_000), seconds=0.5)) as server:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", script, server.url],
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
            env={"PYTHONPATH": ".:tests", "PATH": os.environ["PATH"]},
            cwd=Path(__file__).parents[2],
        )
        took = time.monotonic() - began
    assert (done.stdout, done.stderr) == ("notification.failed\n", "")
    # Its answer would take more than an hour.
    assert took < 10


def test_whoever_has_nobody_to_tell_tells_nobody(tell):
    assert tell().said == []


def test_nothing_is_printed_and_the_loggers_are_left_as_they_were(tell, capfd):
    tell(urls=["nonsense://x"])  # from now on apprise is loaded, which has a handler of its own
    handlers = list(logging.getLogger("apprise").handlers)
    tell(urls=["nonsense://x"])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("apprise").handlers == handlers


def test_a_text_without_end_is_cut(tell, ntfy):
    tell(Message("T", "x" * 100_000, priority=Priority.HIGH), ntfy=NtfyTopic(ntfy.url, "t"))
    assert len(ntfy.received[0].message) < 4_000
