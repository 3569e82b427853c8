"""When a request is made again, how long is waited, and what is told of it."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from agent.adapters.http.retries import Retries
from agent.adapters.hydra.client import HydraClient
from agent.application import events
from agent.application.ports import Outlook
from agent.domain.errors import ExitCode, HydraError, Kind
from agent.domain.job import Job, Select
from fakes.events import RememberedEvents, SteppedClock

JOB = Job("http://hydra.test", "p", "j", "x")
GOOD = httpx.Response(302, headers={"Location": "/build/7"})


class Scripted(httpx.AsyncBaseTransport):
    """Gives one answer after another, the last for ever, and lets time pass at each request."""

    def __init__(self, clock, *answers, seconds=0.0):
        self.clock = clock
        self.answers = list(answers)
        self.seconds = seconds
        self.paths = []
        self.is_asked = asyncio.Event()

    async def handle_async_request(self, request):
        self.paths.append(request.url.path)
        self.is_asked.set()
        self.clock.move(self.seconds)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        if found is None:
            await asyncio.Event().wait()
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


class Scene:
    """A client whose waits move its clock instead of taking time."""

    def __init__(self, *answers, seconds=0.0, attempts=2):
        self.attempts = attempts
        self.clock = SteppedClock()
        self.sink = RememberedEvents()
        self.waits = []
        self.server = Scripted(self.clock, *answers, seconds=seconds)

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.clock.move(seconds)

    def ask(self, question=None, *, timeout=10.0, deadline=60.0):
        async def run():
            async with HydraClient(
                JOB.instance,
                timeout=timeout,
                deadline=deadline,
                sink=self.sink,
                clock=self.clock,
                transport=self.server,
                retries=Retries(self.attempts, first=1.0, longest=4.0, sleep=self.sleep),
            ) as client:
                if question is not None:
                    return await question(client)
                return await client.newest_good_build(JOB, Select.LATEST)

        return asyncio.run(run())

    def fault(self, *arguments, **limits):
        with pytest.raises(HydraError) as caught:
            self.ask(*arguments, **limits)
        return caught.value


def test_a_fault_that_passes_is_overcome_and_each_further_attempt_is_told():
    scene = Scene(httpx.Response(503), GOOD)
    assert scene.ask() == 7
    assert scene.sink.names() == ["hydra.request_retried"]
    told = scene.sink.fields_of(events.REQUEST_RETRIED)
    assert told["path"] == "/job/p/j/x/latest"
    assert told["attempt"] == 1
    assert told["wait"] == round(scene.waits[0], 3)
    assert told["error.kind"] is Kind.HYDRA_SERVER_ERROR
    assert "503" in told["error.message"]


def unreached(number):
    """Return what httpx raises where no connection comes about."""
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = OSError(number, "no")
    return error


NO_NAME = httpx.ConnectError("no name")
NO_NAME.__cause__ = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNREACHED = [
    *map(unreached, (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENETDOWN)),
    NO_NAME,
]


@pytest.mark.parametrize("fault", UNREACHED)
def test_a_hydra_that_is_reached_at_last_is_asked_until_then(fault):
    scene = Scene(*[fault] * 9, GOOD)
    assert scene.ask() == 7
    assert 25 < sum(scene.waits) < 60


@pytest.mark.parametrize("fault", UNREACHED)
def test_a_hydra_that_is_never_reached_is_asked_until_the_deadline(fault):
    scene = Scene(fault)
    assert scene.fault(deadline=60).kind in (Kind.HYDRA_REFUSED, Kind.HYDRA_UNRESOLVABLE)
    assert 54 < sum(scene.waits) < 60
    for wait, least in zip(scene.waits, (1, 2, *[4] * 20), strict=False):
        assert least <= wait <= least + 1


BROKE_OFF = (
    b"Content-Type application/json had a problem with your request.\n***ERROR***\n"
    b"DBIx::Class::Storage::DBI::dbh_do(): DBI Connection failed: DBI connect("
    b"'host=db.example.org;port=5442;dbname=hydra;password=s3cret','hydra',...) failed"
)
"""What Hydra says when its database goes away while it writes an answer."""
ANSWERS = [
    httpx.Response(400, content=BROKE_OFF),
    httpx.Response(400, json={"error": "DBIx::Class::Row::update(): DBI Exception: DBD::Pg::st"}),
    httpx.Response(404, json={"error": "DBI connect('host=db;dbname=hydra','hydra',...) failed"}),
    httpx.Response(408),
    httpx.Response(422, content=BROKE_OFF),
    httpx.Response(200, content=BROKE_OFF),
    httpx.Response(200, content=b"<html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1>"),
    httpx.Response(404, content=b"<!doctype html><h1>Service\nTemporarily Unavailable</h1>"),
    httpx.Response(200, content=b'{"id": 7, "finished'),
    httpx.Response(500),
    httpx.Response(502),
    httpx.Response(504),
    httpx.Response(429),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_hydra_that_does_not_answer_well_is_asked_twice(answer):
    scene = Scene(answer)
    assert scene.fault().exit_code is ExitCode.UNREACHABLE
    assert len(scene.server.paths) == 2


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_failing_server_says_reaches_no_log(answer):
    scene = Scene(answer)
    told = f"{scene.fault()} {scene.sink.said}"
    assert not re.search("DBI|host=|s3cret|Gateway</|problem with your", told)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400),
        httpx.Response(400, content=b"<html><title>400 Bad Request</title>"),
        httpx.Response(400, json={"error": "Parameter not defined!"}),
        httpx.Response(410, content=b"gone"),
    ],
)
def test_a_status_that_means_the_request_is_not_the_servers_trouble(answer):
    scene = Scene(answer)
    assert scene.fault().kind is Kind.HYDRA_STATUS
    assert len(scene.server.paths) == 1


def test_what_an_evaluation_or_a_page_quotes_is_no_trouble_of_the_server():
    log = "error: DBI Connection failed, 502 Bad Gateway, had a problem with your request"
    told = Scene(httpx.Response(200, json={"enabled": 1, "errormsg": log})).ask(
        lambda client: client.outlook(JOB, None)
    )
    assert told.evaluation_error == log
    page = b"<html><title>Sign in</title><p>503 Service Unavailable is what you saw before</p>"
    fault = Scene(httpx.Response(200, content=page)).fault(lambda client: client.build(7))
    assert fault.kind is Kind.HYDRA_HTML


def test_a_hydra_that_does_not_answer_in_time_is_asked_twice():
    scene = Scene(None)
    assert scene.fault(timeout=0.01).kind is Kind.HYDRA_TIMEOUT
    assert len(scene.server.paths) == 2


def test_times_when_it_was_not_reached_do_not_count():
    scene = Scene(UNREACHED[0], httpx.Response(503), UNREACHED[0], httpx.Response(503), GOOD)
    assert scene.fault().kind is Kind.HYDRA_SERVER_ERROR
    assert len(scene.server.paths) == 4


def test_of_all_requests_one_is_made_again():
    scene = Scene(httpx.Response(503), GOOD, httpx.Response(503), GOOD)

    async def two(client):
        assert await client.newest_good_build(JOB, Select.LATEST) == 7
        return await client.build(7)

    assert scene.fault(two).kind is Kind.HYDRA_SERVER_ERROR
    assert len(scene.server.paths) == 3


def test_one_attempt_means_one_whatever_happens():
    for answer in (UNREACHED[0], httpx.Response(503)):
        scene = Scene(answer, attempts=1)
        scene.fault()
        assert len(scene.server.paths) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_cannot_pass_is_asked_once(status):
    scene = Scene(httpx.Response(status))
    scene.fault()
    assert (len(scene.server.paths), scene.waits) == (1, [])


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"[" * 1000, b"x"], ids=["empty", "html", "null", "deep", "x"]
)
def test_an_answer_of_no_sense_is_asked_once(body):
    scene = Scene(httpx.Response(200, content=body))
    scene.fault(lambda client: client.build(7))
    assert len(scene.server.paths) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_the_seconds_that_a_server_asks_for_are_waited(status):
    scene = Scene(httpx.Response(status, headers={"Retry-After": "17"}), GOOD)
    assert scene.ask() == 7
    assert scene.waits == [17.0]


def test_the_date_that_a_server_names_is_waited_for():
    scene = Scene(GOOD)
    until = format_datetime(scene.clock.now() + timedelta(seconds=23), usegmt=True)
    scene.server.answers.insert(0, httpx.Response(429, headers={"Retry-After": until}))
    assert scene.ask() == 7
    assert scene.waits == [23.0]


@pytest.mark.parametrize(
    "text",
    ["soon", "", "-5", "1.5", "Sat, 99 Nov 2026 04:40:00 GMT", "Sat, 21 Nov 2020 04:40:00 GMT",
     "Sat, 21 Nov 2026 23:40:00 -0000", "9" * 400 + "x"],
)  # fmt: skip
def test_what_a_server_asks_for_in_vain_leaves_the_usual_wait(text):
    scene = Scene(httpx.Response(429, headers={"Retry-After": text}), GOOD)
    assert scene.ask() == 7
    assert 1 <= scene.waits[0] <= 2


@pytest.mark.parametrize("text", ["60", "3600", "999999999999"])
def test_a_server_that_asks_for_more_than_is_left_is_left_alone_at_once(text):
    scene = Scene(httpx.Response(429, headers={"Retry-After": text}), GOOD)
    error = scene.fault(deadline=60)
    assert error.kind is Kind.HYDRA_RATE_LIMITED
    assert error.retry_after == float(text)
    assert text in error.message
    assert (scene.waits, scene.sink.said) == ([], [])


def test_when_the_deadline_would_end_during_the_wait_the_real_fault_is_told():
    scene = Scene(httpx.Response(500), seconds=2.0)
    error = scene.fault(deadline=6)
    # 2 s asked, 1 to 2 s waited, 2 s asked: another wait of at least 2 s is too much.
    assert error.kind is Kind.HYDRA_SERVER_ERROR
    assert len(scene.server.paths) == 2


def test_when_the_deadline_ends_a_retry_the_real_fault_is_told():
    scene = Scene(httpx.Response(500), None)
    error = scene.fault(timeout=10, deadline=2.05)
    assert error.kind is Kind.HYDRA_SERVER_ERROR


def test_the_deadline_counts_from_the_first_request_over_all_of_them():
    scene = Scene(httpx.Response(404, json={"error": "Evaluation 1 doesn't exist."}), seconds=4.0)

    async def long_talk(client):
        for _ in range(3):
            with pytest.raises(HydraError, match="does not exist"):
                await client.build(7)
        await client.build(8)

    error = scene.fault(long_talk, deadline=12)
    assert error.kind is Kind.HYDRA_DEADLINE
    assert "/build/8" in error.message
    assert len(scene.server.paths) == 3


def test_time_before_the_first_request_does_not_count():
    scene = Scene(GOOD)
    scene.clock.move(1000)
    assert scene.ask(deadline=1) == 7


def test_a_request_never_takes_longer_than_what_is_left():
    scene = Scene(None)
    error = scene.fault(timeout=10, deadline=0.05)
    assert error.kind is Kind.HYDRA_DEADLINE
    assert len(scene.server.paths) == 1


def test_an_outlook_makes_each_request_once():
    scene = Scene(httpx.Response(500))
    outlook = scene.ask(lambda client: client.outlook(JOB, None))
    assert outlook.fault.kind is Kind.HYDRA_SERVER_ERROR
    assert len(scene.server.paths) == 2
    assert scene.waits == []


def test_a_cancelled_question_is_not_asked_again():
    scene = Scene(None)

    async def cancelled(client):
        task = asyncio.ensure_future(client.build(7))
        await scene.server.is_asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    scene.ask(cancelled)
    assert len(scene.server.paths) == 1


def spared(scene, wait, *, deadline=60.0):
    """Ask for the newest build, and the outlook if there is one."""

    async def ask(client):
        client.back_off(wait)
        client.back_off(wait)
        found = await client.newest_good_build(JOB, Select.LATEST)
        assert await client.outlook(JOB, None) == Outlook()
        return found

    return lambda: scene.ask(ask, deadline=deadline)


def test_a_hydra_that_is_spared_is_asked_once():
    scene = Scene(GOOD)
    assert spared(scene, None)() == 7
    assert scene.server.paths == ["/job/p/j/x/latest"]
    assert scene.waits == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_hydra_that_is_spared_is_not_asked_again(status):
    scene = Scene(httpx.Response(status), GOOD)
    with pytest.raises(HydraError):
        spared(scene, None)()
    assert len(scene.server.paths) == 1


def test_after_an_answer_of_a_moment_ago_it_is_left_alone_for_a_moment():
    scene = Scene(GOOD)
    assert spared(scene, 0.0)() == 7
    (wait,) = scene.waits
    assert 1 <= wait <= 2
    others = {spared_wait() for _ in range(5)}
    assert len(others) > 1, "a fleet would come back all at once"


def spared_wait():
    scene = Scene(GOOD)
    spared(scene, 0.0)()
    return scene.waits[0]


def test_it_is_left_alone_for_as_long_as_it_asks_for():
    scene = Scene(GOOD)
    assert spared(scene, 20.0)() == 7
    assert scene.waits == [20.0]


def test_a_wish_that_is_longer_than_the_deadline_ends_the_run_without_a_request():
    scene = Scene(GOOD)
    with pytest.raises(HydraError) as caught:
        spared(scene, 120.0)()
    assert (caught.value.kind, caught.value.retry_after) == (Kind.HYDRA_RATE_LIMITED, 120.0)
    assert scene.server.paths == []
    assert scene.waits == []


def test_a_spared_hydra_that_is_not_reached_is_asked_until_it_is():
    scene = Scene(*[UNREACHED[0]] * 3, GOOD)
    assert spared(scene, None)() == 7


@pytest.mark.parametrize("answer", [httpx.Response(429), None])
def test_who_is_too_busy_for_one_question_is_not_asked_the_next(answer):
    scene = Scene(answer)
    outlook = scene.ask(lambda client: client.outlook(JOB, None), timeout=0.05)
    assert outlook.fault is not None
    assert len(scene.server.paths) == 1
