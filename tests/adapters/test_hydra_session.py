"""The session with Hydra, which outlives a run."""

from __future__ import annotations

import stat

import pytest

from agent.lean.hydra_session import Session

HYDRA = "https://hydra.example.org"


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "session.json")


def kept(file, instance=HYDRA):
    return Session(instance, file).header()


def test_it_is_the_same_in_the_next_run(file):
    session = Session(f"{HYDRA}/", file)
    assert session.header() == ""
    session.take(["hydra_session=abc; path=/; expires=Tue, 01-Dec-2026 11:00:00 GMT; HttpOnly"])
    session.keep()
    assert kept(file) == "hydra_session=abc"
    assert kept(file, "http://hydra.example.org") == ""
    assert kept(file, f"{HYDRA}:8443") == ""
    assert kept(file, f"{HYDRA}/below") == ""


def test_what_a_proxy_sets_is_sent_back_and_forgotten_after_the_run(file):
    session = Session(HYDRA, file)
    session.take(["route=1; Secure", "hydra_session=abc"])
    assert session.header() == "route=1; hydra_session=abc"
    session.keep()
    assert kept(file) == "hydra_session=abc"


def test_a_cookie_is_replaced_and_taken_back(file):
    session = Session(HYDRA, file)
    session.take(["hydra_session=abc"])
    session.take(["hydra_session=def", "route=1"])
    session.take(["route=; Max-Age=0"])
    assert session.header() == "hydra_session=def"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=x",
        "hydra_session",
        "a b=c",
        'hydra_session="x"',
        "x=a\r\nY: z",
        "x=\x00",
        "x=" + "y" * 5000,
    ],
)
def test_what_is_no_cookie_is_left_out(text):
    session = Session(HYDRA)
    session.take([text])
    assert session.header() == ""


def test_there_are_only_so_many(file):
    session = Session(HYDRA, file)
    session.take(f"c{number}=x" for number in range(1000))
    assert session.header().count("=") == 16


def test_it_is_for_its_owner_alone_and_written_only_when_it_is_new(file, tmp_path):
    session = Session(HYDRA, file)
    session.take(["hydra_session=abc"])
    session.keep()
    made = (tmp_path / "session.json").stat()
    assert stat.S_IMODE(made.st_mode) == 0o600
    for again in (session, Session(HYDRA, file)):
        again.take(["hydra_session=abc"])
        again.keep()
    assert (tmp_path / "session.json").stat().st_ino == made.st_ino


def test_a_run_that_changes_nothing_keeps_none(file, tmp_path):
    session = Session(HYDRA, file, is_kept=False)
    session.take(["hydra_session=abc"])
    session.keep()
    Session(HYDRA).keep()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_or_read_is_no_fault(tmp_path):
    session = Session(HYDRA, str(tmp_path / "missing" / "session.json"))
    session.take(["hydra_session=abc"])
    session.keep()
    (tmp_path / "link").symlink_to("session.json")
    assert kept(str(tmp_path / "link")) == ""
