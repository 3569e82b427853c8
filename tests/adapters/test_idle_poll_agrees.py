"""Where the idle path says that there is nothing to do, the full run says so, too.

Answers, hosts and variables are generated; sockets, links, marks and Hydra's client are real.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import threading
from datetime import timedelta
from typing import NamedTuple

import pytest

from agent.adapters.host import HostFiles
from agent.adapters.http.retries import Retries
from agent.adapters.hydra.client import HydraClient
from agent.adapters.hydra.transport import MAX_BODY
from agent.adapters.state.idle_note import IdleNote
from agent.adapters.state.marks import MarkLinks
from agent.domain.errors import AgentError
from agent.domain.job import Job, Select
from agent.domain.marks import Mark
from agent.domain.outcome import Outcome
from agent.lean import idle_poll
from fakes.events import RememberedEvents, SteppedClock
from fakes.samples import OLD, POLICY, a_candidate
from fakes.world import World, system

NOTED = 7
BODY = b"<html>moved</html>"
EXTRA = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/build/8\r\n\r\n"


class Raw:
    """A server on loopback that writes what it is given: one thing to HEAD, another to GET."""

    def __init__(self):
        self.to_head = self.to_get = b""
        self.asked = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection):
        asked = b""
        try:
            while b"\r\n\r\n" not in asked:
                part = connection.recv(65536)
                if not part:
                    return
                asked += part
            self.asked.append(asked.partition(b" ")[0].decode())
            connection.sendall(self.to_head if asked.startswith(b"HEAD") else self.to_get)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Quiet:
    """A standard output that is no terminal."""

    def isatty(self):
        return False

    def write(self, text):
        return len(text)

    def flush(self):
        pass


class Host:
    """A host that had nothing to do, and what the real adapters see of it."""

    def __init__(self, root, instance):
        self.root = root
        self.store = root / "store"
        self.state_dir, self.marks = root / "state", root / "marks"
        for directory in (self.store, self.state_dir, self.marks):
            directory.mkdir()
        (self.state_dir / "agent.lock").touch()
        self.paths = {
            name: self.store / f"{letter * 32}-nixos-system-h"
            for name, letter in (("ours", "a"), ("other", "b"))
        }
        for path in self.paths.values():
            path.mkdir()
        self.links = {name: root / name for name in ("running", "booted", "profile")}
        self.config = root / "config.toml"
        self.config.write_text(f'[paths]\nstate_dir = "{self.state_dir}"\n')
        self.arguments = ["--config", str(self.config)]
        self.job = Job(instance, "p", "j", "h")
        self.files = HostFiles(
            None,
            current_system=self.links["running"],
            booted_system=self.links["booted"],
            profile=self.links["profile"],
            store_dir=self.store,
            boot=None,
        )
        self.keeper = MarkLinks(self.marks, self.store)
        self.reset()
        self.leave_note()

    def reset(self):
        for link in self.links.values():
            point(link, self.paths["ours"])
        for mark in list(self.marks.iterdir()):
            mark.unlink()
        point(self.marks / "confirmed", self.paths["ours"])
        self.paths["ours"].mkdir(exist_ok=True)

    def leave_note(self):
        IdleNote(
            state_dir=self.state_dir,
            marks_dir=self.marks,
            job=self.job,
            select=Select.LATEST,
            host="h",
            current_system=self.links["running"],
            booted_system=self.links["booted"],
            profile=self.links["profile"],
            timeout=timedelta(seconds=5),
            interval=timedelta(hours=1),
            is_logged=False,
            fingerprint=idle_poll.fingerprint_now(self.arguments),
        ).write(NOTED, self.files.systems())

    def full_run(self, build_id):
        """Let the run of the fakes' world decide on what the real adapters have read."""
        names = {
            str(self.paths["ours"]): OLD,
            str(self.paths["other"]): system(5),
        }
        seen, marks = self.files.systems(), self.keeper.read()
        world = World()
        world.publish(NOTED, OLD)
        if build_id != NOTED:
            world.publish(build_id, system(6))
        world.host.running = names.get(seen.running)
        world.host.booted = names.get(seen.booted)
        world.host.generations = {1: names[seen.profile]} if seen.profile in names else {}
        world.host.generation = 1 if world.host.generations else None
        for mark in Mark:
            target = getattr(marks, mark.replace("-", "_"))
            if target is not None:
                world.marks.links[mark] = names[target]
        before = dict(world.marks.links)
        world.good_builds.builds = (a_candidate(system(5), NOTED - 1),)
        report = world.run(POLICY)
        return report.outcome, world.marks.links == before


def point(link, target):
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def ask_client(instance):
    async def run():
        async with HydraClient(
            instance,
            timeout=5,
            deadline=5,
            sink=RememberedEvents(),
            clock=SteppedClock(),
            retries=Retries(attempts=1),
        ) as client:
            return await client.newest_good_build(Job(instance, "p", "j", "h"), Select.LATEST)

    return asyncio.run(run())


class Answer(NamedTuple):
    """What is written: a status line, header lines, and what follows them."""

    status: bytes
    headers: list[bytes]
    rest_of_head: bytes = b""
    body: bytes = BODY
    before: bytes = b""
    end: bytes = b"\r\n\r\n"

    def to_head(self):
        lines = b"\r\n".join([self.status, *self.headers])
        return self.before + lines + self.end + self.rest_of_head

    def to_get(self):
        """Return the answer to GET: a body that HEAD cannot know about is as it was announced."""
        if b"Transfer-Encoding: chunked" in self.headers and self.body:
            return self.to_head() + b"12\r\n" + self.body + b"\r\n0\r\n\r\n"
        return self.to_head() + self.body


def locations(port):
    own = f"http://127.0.0.1:{port}"
    good = [
        *(f"{own}/build/7", f"{own}/build/7/", "/build/7", f"https://127.0.0.1:{port}/build/7"),
        *("http://127.0.0.1/build/7", "//127.0.0.1/build/7", "../../../../build/7"),
    ]
    odd = [
        *(f"{own}/x/build/7", f"{own}/job/p/j/h/build/7", f"{own}/login?back=/build/7"),
        *(f"{own}/login#/build/7", f"{own}/build/8#/build/7", f"{own}/build/8?x=/build/7"),
        *("http://elsewhere.example/build/7", "https://elsewhere.example/x/build/7"),
        *(f"{own}//build/7", f"{own}/build/07", f"{own}/build/7;x", f"{own}/build/%37"),
        *(f"http://u:p@127.0.0.1:{port}/build/7", "http://127.0.0.1@elsewhere.example/build/7"),
        *("ftp://127.0.0.1/build/7", "javascript:/build/7", "build/7", "./build/7", "", "/build/"),
        *(f"{own}/build/8", f"{own}/build/17", f"{own}/build/7/../8", f"{own}/build/8/../7"),
        *("http://[::1/build/7", "/build/7 ", "/build/7\t", "\\build\\7", "http:/build/7"),
        *("http:///build/7", "/BUILD/7", "/build/-7", "/build/+7", "/build/7\x7f", "/build/\uff17"),
        *("http://127.0.0.1:99999/build/7", f"{own}/build/7?", f"{own}/build/7#"),
        *("http://127.0.0.1\\@x/build/7", "/eval/7", "/build/7, /build/8", f"{own}/build/7,"),
    ]
    return good, odd


HEADERS = [
    *(b"Content-Type: text/html", b"Server: nginx", b"X-Catalyst: 5.9", b"Connection: close"),
    *(b"Connection: keep-alive", b"Set-Cookie: hydra_session=abc; path=/", b"Vary:"),
    b"Set-Cookie: route=1; Secure",
]
ODD_HEADERS = [
    *(b"Location: /build/8", b"location: /build/7", b"LOCATION: /build/8"),
    *(b"Content-Length: x", b"Content-Length: -1", b"Content-Length: 3", b"Content-Length: 18, 18"),
    *(b"Content-Length: 9999999999999999999", f"Content-Length: {MAX_BODY + 1}".encode()),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: gzip, chunked", b"Content-Encoding: gzip", b"Content-Encoding: br"),
    *(b"Content-Encoding: identity", b"Content-Encoding: ", b"No colon at all", b": no name"),
    *(b"Bad name: x", b"Name : x", b" folded", b"\tfolded", b"X: a\rLocation: /build/8"),
    *(b"X: a\nLocation: /build/8", b"X: \x00", b"X: \x01", b"X: gr\xfcn", b"X: \xff\xfe", b"\r"),
    *(b"From me", b"X: " + b"y" * 200_000, b"X: " + b"y" * 20_000, b"\xc3\xa9: x", b"X(): y"),
    *(b"Set-Cookie: hydra_session=a\x01b", b"Set-Cookie: hydra_session=" + b"z" * 5000),
    *(b"Upgrade: h2c", b"Trailer: Location", b"Link: </build/8>", b"HTTP/1.1 302 Found"),
]
STATUSES = [b"HTTP/1.1 302 Found", b"HTTP/1.0 302 Found", b"HTTP/1.1 302 ", b"HTTP/1.1 302"]
ODD_STATUSES = [
    *(b"HTTP/1.1 301 Moved", b"HTTP/1.1 303 See", b"HTTP/1.1 307 T", b"HTTP/1.1 200 OK"),
    *(b"HTTP/1.1 304 Not", b"HTTP/1.1 404 No", b"HTTP/1.1 503 No", b"HTTP/2 302", b"302 Found"),
    *(b"HTTP/1.1 0302 Found", b"HTTP/1.1 3020 F", b"HTTP/1.1  302 Found", b"http/1.1 302 Found"),
    *(b"HTTP/1.1 302 F\xc3\xb6und", b"HTTP/1.1 302 \x00", b"HTTP/9.9 302 Found", b"", b"\x16\x03"),
    *(b"HTTP/1.1 429 Slowly", b"HTTP/1.1 100 Continue", b"HTTP/1.1 401 Who", b"HTTP/01.1 302 F"),
    b"HTTP/1.1\t302 Found",
]


def make_answer(choice, port):
    """Return an answer that is often good, and often has one or two things that are odd."""
    good, odd = locations(port)
    is_odd = [choice.random() < share for share in (0.3, 0.2, 0.35, 0.15)]
    location = choice.choice(odd if is_odd[0] else good).encode()
    headers = choice.sample(HEADERS, choice.randrange(5))
    headers.insert(choice.randrange(len(headers) + 1), b"Location: " + location)
    if choice.random() < 0.4:
        headers.append(b"Content-Length: 18")
    if is_odd[2]:
        headers.insert(choice.randrange(len(headers) + 1), choice.choice(ODD_HEADERS))
    answer = Answer(choice.choice(ODD_STATUSES if is_odd[1] else STATUSES), headers)
    if is_odd[3]:
        answer = answer._replace(
            **choice.choice(
                [
                    {"rest_of_head": EXTRA, "body": b""},
                    {"rest_of_head": BODY, "body": b""},
                    {"rest_of_head": b"\r\n"},
                    {"before": b"HTTP/1.1 100 Continue\r\n\r\n"},
                    {"before": b"HTTP/1.1 103 Early\r\nLocation: /build/8\r\n\r\n"},
                    {"before": b"\r\n"},
                    {"before": EXTRA},
                    {"end": b"\n\n"},
                    {"end": b"\r\n"},
                    {"end": b""},
                ]
            )
        )
    return answer


def leave(host, choice):
    """Change the host in none of the ways, or in one of many."""
    link = choice.choice(list(host.links.values()))
    mark = host.marks / choice.choice(list(Mark))
    changes = [
        link.unlink,
        lambda: point(link, host.paths["other"]),
        lambda: point(link, host.store / "gone"),
        lambda: point(link, link),
        lambda: point(link, host.root),
        lambda: mark.unlink(missing_ok=True),
        lambda: point(mark, host.paths["ours"]),
        lambda: point(mark, host.paths["other"]),
        lambda: point(mark, host.store / f"{'c' * 32}-gone"),
        lambda: point(mark, "relative"),
        (host.marks / "confirmed").unlink,
        host.paths["ours"].rmdir,
        lambda: point(host.marks / ".confirmed.new", host.paths["other"]),
        lambda: (host.marks / "candidate").symlink_to(host.paths["other"]),
    ]
    if choice.random() < 0.25:
        choice.choice(changes)()


PROXIES = ("Http_Proxy", "http_proxy", "HTTP_PROXY", "All_Proxy", "ALL_PROXY", "https_PROXY")
EXCEPTIONS = ("NO_PROXY", "no_proxy", "No_Proxy")


def set_proxies(patch, choice):
    if choice.random() < 0.85:
        return
    if choice.random() < 0.7:
        value = choice.choice(["http://127.0.0.1:9", "", "127.0.0.1:9", "socks5h://x", "nonsense:"])
        patch.setenv(choice.choice(PROXIES), value)
    if choice.random() < 0.6:
        values = ["*", "127.0.0.1", "fe80::/10", "[::1]", "10.0.0.0/8", "", "elsewhere.example"]
        patch.setenv(choice.choice(EXCEPTIONS), choice.choice(values))


@pytest.fixture
def server():
    server = Raw()
    yield server
    server.close()


@pytest.fixture
def host(tmp_path, server, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.upper().startswith("NIXOS_HYDRA_AGENT_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdout", Quiet())
    return Host(tmp_path.resolve(), f"http://127.0.0.1:{server.port}")


def try_situations(host, server, count, seed):
    """Return how often the idle path has answered."""
    answered = 0
    for number in range(count):
        choice = random.Random(f"{seed} {number}")
        answer = make_answer(choice, server.port)
        server.to_head, server.to_get = answer.to_head(), answer.to_get()
        host.reset()
        leave(host, choice)
        with pytest.MonkeyPatch.context() as patch:
            set_proxies(patch, choice)
            if idle_poll.attempt(host.arguments) is None:
                continue
            answered += 1
            try:
                build_id = ask_client(host.job.instance)
                outcome = host.full_run(build_id)
            except AgentError as error:
                pytest.fail(f"{seed} {number}: {answer}: the full run: {error}")
            assert build_id == NOTED, (seed, number, answer)
            assert outcome == (Outcome.NOTHING_TO_DO, True), (seed, number)
    return answered


def test_where_the_idle_path_answers_the_full_run_agrees(host, server):
    assert try_situations(host, server, 500, "plain") > 50


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_where_the_idle_path_answers_the_full_run_agrees_in_many_more(host, server, seed):
    assert try_situations(host, server, 4000, seed) > 500
