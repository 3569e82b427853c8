"""Faults of Hydra as the command line tells them: its kind, its exit code, and nothing changed."""

from __future__ import annotations

import json
import socket
import ssl
import sys

import pytest
import trustme

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from demo.hydra_changes import disable_jobset, fail_evaluation, rename_jobset
from end_to_end.machine import HOST, JOBSET, LATEST, ONCE, PROJECT, assert_fault

BIG = 200_000_000


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# The transport


def test_a_port_where_nothing_listens(machine):
    machine.configure(hydra={"instance": f"http://127.0.0.1:{unused_port()}", **ONCE})
    told = assert_fault(machine.upgrade(), "hydra-refused", 69)
    assert "Connection refused" in told["error.message"]
    assert told["error.hint"]


def test_a_name_without_an_address(machine):
    machine.configure(hydra={"instance": "http://hydra.invalid:1", **ONCE})
    told = assert_fault(machine.upgrade(), "hydra-unresolvable", 69)
    assert "http://hydra.invalid:1" in told["error.message"]


def test_a_certificate_that_nobody_vouches_for(machine):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FaultyServer(faulty.redirect("/build/7"), tls=context) as server:
        machine.configure(hydra={"instance": server.url, **ONCE})
        told = assert_fault(machine.upgrade(), "hydra-tls", 69)
    assert "SSL_CERT_FILE" in told["error.hint"]
    assert server.paths == []


WAIT = {"Retry_After": "100"}
"""The server asks for more patience than the run has, so it is not asked twice."""

FIRST_ANSWERS = {
    "429": (faulty.answer(429, b"", **WAIT), "hydra-rate-limited", 69),
    "500 with JSON": (faulty.answer(500, b'{"error":"x"}', **WAIT), "hydra-server-error", 69),
    "500 with HTML": (
        faulty.answer(500, b"<h1>oops</h1>", faulty.HTML, **WAIT),
        "hydra-server-error",
        69,
    ),
    "empty": (faulty.answer(200), "hydra-empty", 65),
    "HTML with 200": (faulty.answer(200, b"<html>", faulty.HTML), "hydra-html", 65),
    "redirect to itself": (faulty.redirect("{url}"), "hydra-redirect-loop", 65),
    "redirect to another origin": (
        faulty.redirect("https://login.example.org/"),
        "hydra-redirect-origin",
        65,
    ),
}


@pytest.mark.parametrize("case", FIRST_ANSWERS)
def test_a_first_answer_that_is_none_of_hydras(machine, case):
    behaviour, kind, code = FIRST_ANSWERS[case]
    with FaultyServer(behaviour) as server:
        machine.configure(hydra={"instance": server.url, "timeout": "10s", "deadline": "10s"})
        told = assert_fault(machine.upgrade(), kind, code)
    assert f"{machine.settings['hydra']['instance']}{LATEST}" in told["error.message"]
    assert told["error.hint"]


LIMITS = {
    "never an answer": (faulty.say_nothing, "no answer came"),
    "a byte a second": (
        faulty.drip(faulty.whole(200, b" " * 100), at_once=200),
        "the answer did not end",
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_an_answer_that_does_not_end_in_time(machine, case):
    behaviour, message = LIMITS[case]
    with FaultyServer(behaviour) as server:
        machine.configure(hydra={"instance": server.url, "timeout": "600ms", "deadline": "1s"})
        told = assert_fault(machine.upgrade(), "hydra-timeout", 69)
    assert f"{message} within 0.6 s" in told["error.message"]


def test_all_questions_together_have_a_deadline(machine):
    with FaultyServer(faulty.say_nothing) as server:
        machine.configure(hydra={"instance": server.url, "timeout": "500ms", "deadline": "500ms"})
        told = assert_fault(machine.upgrade(), "hydra-deadline", 69)
    assert "hydra.deadline" in told["error.hint"]


def test_a_fault_that_passes_is_told_as_a_warning_and_forgotten(offered):
    behaviours = faulty.in_turn(
        faulty.answer(502, b""), faulty.redirect(f"{offered.hydra.url}/build/2")
    )
    build = json.dumps(offered.ask("/build/2")).encode()
    evaluation = json.dumps(offered.ask("/eval/2")).encode()
    pages = [("/build/2", faulty.answer(200, build)), ("/eval/2", faulty.answer(200, evaluation))]
    with FaultyServer(faulty.by_path(pages, behaviours)) as server:
        offered.configure(hydra={"instance": server.url})
        run = offered.upgrade()
    assert run.outcome == (0, "confirmed")
    (retried,) = run.named("hydra.request_retried")
    assert (retried["level"], retried["error.kind"]) == ("warning", "hydra-server-error")


# What Hydra says of job and jobset


def rename(machine):
    rename_jobset(machine.world, PROJECT, JOBSET, "trunk")


def be_private(machine):
    machine.world.is_private = True


def lose_database(machine):
    machine.world.is_database_down = True
    machine.configure(hydra=ONCE)


def ask_for(**names):
    return lambda machine: machine.configure(hydra=names)


def fail_build(machine):
    machine.offer(machine.farm.second, status=1)


def queue_build(machine):
    machine.offer(machine.farm.second, status=None)


def disable(machine):
    fail_build(machine)
    disable_jobset(machine.world, PROJECT, JOBSET)


def fail_first_evaluation(machine):
    fail_evaluation(machine.world, PROJECT, JOBSET, "error: undefined variable 'foo'")


def build_another_job(machine):
    machine.offer(machine.farm.second, job="web-2")


ABSENCES = {
    "renamed jobset": (rename, "jobset-renamed", 66, "trunk"),
    "private": (be_private, "hydra-unauthorised", 77, "403"),
    "database down": (lose_database, "hydra-server-error", 69, "500"),
    "no such jobset": (ask_for(jobset="nonesuch"), "jobset-missing", 66, "nonesuch"),
    "no such project": (ask_for(project="nonesuch"), "jobset-missing", 66, "nonesuch"),
    "no such job": (build_another_job, "job-missing", 66, HOST),
    "never good": (fail_build, "job-never-good", 66, "failed"),
    "not built yet": (queue_build, "job-not-built-yet", 75, "first good build"),
    "disabled": (disable, "jobset-disabled", 66, "disabled"),
    "never evaluated": (lambda _machine: None, "jobset-never-evaluated", 66, "not been evaluated"),
    "never evaluated well": (
        fail_first_evaluation,
        "jobset-never-evaluated",
        66,
        "undefined variable 'foo'",
    ),
}


@pytest.mark.parametrize("case", ABSENCES)
def test_a_job_without_a_good_build(machine, case):
    arrange, kind, code, said = ABSENCES[case]
    arrange(machine)
    told = assert_fault(machine.upgrade(), kind, code)
    assert said in told["error.message"]
    assert "connect(" not in told["error.message"]
    assert told["error.hint"]


# Later answers

BODIES = {
    "empty": (b"", "hydra-empty", 65),
    "truncated": (None, "hydra-truncated", 69),
    "HTML": (b"<!DOCTYPE html><title>Hydra</title>", "hydra-html", 65),
    "null": (b"null", "hydra-wrong-shape", 65),
    "wrong types": (b'{"id": "2", "flake": 7}', "hydra-wrong-shape", 65),
    "deeply nested": (b'{"id": ' + b"[" * 100_000, "hydra-too-deep", 65),
}
AT_EVALS = ("null", "wrong types")
CASES = [("/build/2", case) for case in BODIES] + [("/eval/2", case) for case in AT_EVALS]


@pytest.mark.parametrize(("page", "case"), CASES)
def test_a_page_that_is_none_of_hydras(offered, page, case):
    body, kind, code = BODIES[case]
    answer = faulty.truncated(b'{"id": 2', 100) if body is None else faulty.answer(200, body)
    pages = [
        (LATEST, faulty.redirect("/build/2")),
        (page, answer),
        ("/build/2", faulty.answer(200, json.dumps(offered.ask("/build/2")).encode())),
    ]
    with FaultyServer(faulty.by_path(pages, faulty.hang_up)) as server:
        offered.configure(hydra={"instance": server.url})
        if body is None:
            offered.configure(hydra=ONCE)
        told = assert_fault(offered.upgrade(), kind, code)
    assert f"{offered.settings['hydra']['instance']}{page}" in told["error.message"]


# Memory

MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as stream:
    stream.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def peak_kib(machine, behaviour, kind, tmp_path):
    note = tmp_path / "peak"
    with FaultyServer(behaviour) as server:
        machine.configure(hydra={"instance": server.url})
        run = machine.upgrade(wrapped_in=(sys.executable, "-c", MEASURE, str(note)))
        assert_fault(run, kind, 65)
    return int(note.read_text())


@pytest.mark.long
def test_a_body_of_200_mb_costs_no_memory(machine, tmp_path):
    usual = peak_kib(machine, faulty.answer(200, b"{}"), "hydra-wrong-shape", tmp_path)
    flooded = peak_kib(machine, faulty.flood(BIG, announced=False), "hydra-too-large", tmp_path)
    assert flooded <= usual + 10 * 1024
