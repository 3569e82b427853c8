"""The idle path against a server of its own: what it asks, keeps, tells, and doubts."""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from agent.adapters.state.idle_note import IdleNote
from agent.adapters.state.lock import FileLock
from agent.domain.errors import HostError, Kind
from agent.domain.job import Job, Select
from agent.domain.marks import Mark
from agent.domain.systems import Systems
from agent.lean import idle_poll
from agent.lean.hydra_session import FILE

ROOT = Path(__file__).parents[2]
JOB_PATH = "/job/p/j/h%2B/latest"


class Hydra:
    """Answers as the test says: `status`, `headers`, and how slowly."""

    def __init__(self):
        self.status = 302
        self.build_id = 7
        self.location = "{base}/build/{id}"
        self.cookies = ["hydra_session=one; path=/; HttpOnly"]
        self.more = {}
        self.pause = 0.0
        self.asked = []
        self.meanwhile = lambda: None
        self.released = threading.Event()

    def handler(self):
        hydra = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                hydra.asked.append((self.path, dict(self.headers)))
                hydra.meanwhile()
                self.send_response(hydra.status)
                base = f"http://{self.headers['Host']}"
                self.send_header("Location", hydra.location.format(base=base, id=hydra.build_id))
                for name, value in hydra.more.items():
                    self.send_header(name, value)
                for cookie in hydra.cookies:
                    self.send_header("Set-Cookie", cookie)
                content = b"".join(self._headers_buffer) + b"\r\n"
                self._headers_buffer = []
                for byte in content if hydra.pause else ():
                    self.wfile.write(bytes([byte]))
                    if hydra.released.wait(hydra.pause):
                        return
                if not hydra.pause:
                    self.wfile.write(content)

            def log_message(self, *_arguments):
                pass

        return Handler


@contextmanager
def serving(hydra, context=None):
    """Serve on a port of the kernel's choice and yield the instance's URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), hydra.handler()) as server:
        server.handle_error = lambda *_arguments: None
        if context is not None:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            scheme, name = ("http", "127.0.0.1") if context is None else ("https", "localhost")
            yield f"{scheme}://{name}:{server.server_port}"
        finally:
            hydra.released.set()
            server.shutdown()
            thread.join()


class Settled:
    """A host that had nothing to do: its settings, links, state directory and note."""

    def __init__(self, root, monkeypatch):
        self.hydra = None
        self.state_dir = root / "state"
        self.state_dir.mkdir()
        self.config = root / "config.toml"
        self.link = root / "current-system"
        self.link.symlink_to(root / "system")
        (root / "system").mkdir()
        self.marks = root / "marks"
        self.marks.mkdir()
        (self.marks / "confirmed").symlink_to(root / "system")
        (self.state_dir / "agent.lock").write_text("")
        for name in list(os.environ):
            if name.upper().startswith(("NIXOS_HYDRA_AGENT_", "SSL_CERT", "NIX_SSL")) or (
                name.lower().endswith("_proxy")
            ):
                monkeypatch.delenv(name)
        self.config.write_text(f'[paths]\nstate_dir = "{self.state_dir}"\n')
        self.arguments = ("--config", str(self.config))

    def note(self, instance, **changes):
        given = {
            "state_dir": self.state_dir,
            "marks_dir": self.marks,
            "job": Job(instance, "p", "j", "h+"),
            "select": Select.LATEST,
            "host": "h",
            "current_system": self.link,
            "booted_system": self.link,
            "profile": self.link,
            "timeout": timedelta(seconds=10),
            "interval": timedelta(hours=1),
            "is_logged": True,
            "fingerprint": idle_poll.fingerprint_now(self.arguments),
        }
        return IdleNote(**(given | changes))

    def settle(self, url, build_id=7, **changes):
        """Leave a note of a run that found nothing to do."""
        system = os.path.realpath(self.link)
        self.note(url, **changes).write(build_id, Systems(system, system, system))

    def kept(self):
        return json.loads((self.state_dir / "idle.json").read_text())

    def change_note(self, **facts):
        (self.state_dir / "idle.json").write_text(json.dumps(self.kept() | facts))

    def attempt(self):
        return idle_poll.attempt(self.arguments)


@pytest.fixture
def settled(tmp_path, monkeypatch):
    return Settled(tmp_path, monkeypatch)


@pytest.fixture
def hydra():
    return Hydra()


@pytest.fixture
def idling(settled, hydra):
    """A settled host whose note is good and whose Hydra answers."""
    with serving(hydra) as url:
        settled.settle(url)
        settled.hydra = hydra
        yield settled


def test_while_nothing_has_changed_there_is_nothing_to_do(idling, hydra, capsys):
    assert idling.attempt() == 0
    ((path, headers),) = hydra.asked
    assert path == JOB_PATH
    assert headers["Accept"] == "application/json"
    said = capsys.readouterr().out
    told = json.loads(said)
    assert said.count("\n") == 1
    assert (told["event"], told["level"], told["build_id"]) == ("run.idle", "info", 7)
    assert (told["host"], told["job"]) == ("h", "p:j:h+")
    assert told["durations"]["total"] >= 0


def test_its_line_has_the_fields_that_the_event_declares(idling, capsys):
    from agent.application import events

    idling.attempt()
    told = json.loads(capsys.readouterr().out)
    assert set(told) - {"event", "level", "timestamp"} == set(events.RUN_IDLE.fields)


def test_the_session_is_kept_and_used_the_next_time(idling, hydra):
    assert idling.attempt() == 0
    assert "Cookie" not in hydra.asked[0][1]
    hydra.cookies = []
    assert idling.attempt() == 0
    assert hydra.asked[1][1]["Cookie"] == "hydra_session=one"
    hydra.cookies = ["proxy=x; path=/", "hydra_session=two; path=/"]
    assert idling.attempt() == 0
    assert idling.attempt() == 0
    assert hydra.asked[3][1]["Cookie"] == "hydra_session=two"


def test_a_cookie_that_only_a_proxy_sets_is_not_taken_for_the_session(idling, hydra):
    hydra.cookies = ["proxy=x; path=/"]
    assert idling.attempt() == 0
    assert not (idling.state_dir / FILE).exists()


def test_the_last_contact_is_noted_each_time(idling):
    contact = idling.state_dir / "last-contact"
    before = datetime.now(UTC).replace(microsecond=0)
    assert idling.attempt() == 0
    assert datetime.fromisoformat(contact.read_text().strip()) >= before


def test_a_pipe_in_its_place_keeps_no_idle_run_waiting(idling):
    contact = idling.state_dir / "last-contact"
    contact.unlink(missing_ok=True)
    os.mkfifo(contact)
    assert idling.attempt() is None


def test_the_note_is_not_for_everybody(idling):
    assert (idling.state_dir / "idle.json").stat().st_mode & 0o777 == 0o600
    assert idling.attempt() == 0
    assert (idling.state_dir / "idle.json").stat().st_mode & 0o777 == 0o600


def another_build(settled):
    settled.hydra.build_id = 8


def a_build_that_ends_alike(settled):
    settled.hydra.build_id = 17


def another_path(settled):
    settled.hydra.location = "{base}/job/{id}"


def no_location(settled):
    settled.hydra.location = ""


def moved_link(settled):
    settled.link.unlink()
    settled.link.symlink_to(settled.state_dir)


def missing_link(settled):
    settled.link.unlink()


def a_system_that_is_gone(settled):
    (settled.marks / "confirmed").unlink()
    (settled.marks / "confirmed").symlink_to(settled.state_dir)
    settled.change_note(marks={"confirmed": str(settled.state_dir)})
    (settled.link.parent / "system").rmdir()


def no_mark(settled):
    (settled.marks / "confirmed").unlink()


def no_marks_at_all(settled):
    no_mark(settled)
    settled.marks.rmdir()


def marked(name, where="system"):
    def mark(settled):
        (settled.marks / name).unlink(missing_ok=True)
        (settled.marks / name).symlink_to(settled.link.parent / where)

    return mark


def located(location):
    def locate(settled):
        settled.hydra.location = location

    return locate


def changed_settings(settled):
    settled.config.write_text(settled.config.read_text() + "# a comment\n")


def missing_settings(settled):
    settled.config.unlink()


def huge_settings(settled):
    settled.config.write_text(settled.config.read_text() + "#" * (1 << 20))


def other_arguments(settled):
    settled.arguments = (*settled.arguments, "--json")


def an_argument_without_its_value(settled):
    settled.arguments = ("--config",)


def no_lock_file(settled):
    (settled.state_dir / "agent.lock").unlink()


def read_only_contact(settled):
    contact = settled.state_dir / "last-contact"
    contact.unlink()
    contact.mkdir()


def answered(status):
    def answer(settled):
        settled.hydra.status = status

    return answer


def noted(**facts):
    return lambda settled: settled.change_note(**facts)


def written(content):
    return lambda settled: (settled.state_dir / "idle.json").write_bytes(content)


def asked_for(option):
    def add(settled):
        settled.arguments = (*settled.arguments, option)
        settled.change_note(
            fingerprint=idle_poll.fingerprint(
                settled.config.read_bytes(), os.environ, settled.arguments
            )
        )

    return add


DOUBTS = {
    "another build": another_build,
    "a build whose number ends alike": a_build_that_ends_alike,
    "a redirect elsewhere": another_path,
    "a redirect to nowhere": no_location,
    "a link that was moved": moved_link,
    "a link that is gone": missing_link,
    "a link to what is gone": a_system_that_is_gone,
    "no mark": no_mark,
    "no marks": no_marks_at_all,
    "a mark that leads nowhere": marked("confirmed", "gone"),
    "a mark that leads elsewhere": marked("confirmed", "state"),
    **{f"a mark {name}": marked(name) for name in idle_poll.MARKS if name != "confirmed"},
    "a build below another path": located("{base}/elsewhere/build/{id}"),
    "a build of another origin": located("http://elsewhere.example/build/{id}"),
    "a build in a fragment": located("{base}/login#/build/{id}"),
    "a build in a query": located("{base}/login?back=/build/{id}"),
    "a build with a query": located("{base}/build/{id}?x"),
    "a build with a password": located("http://u:p@127.0.0.1/build/{id}"),
    "other settings": changed_settings,
    "no settings": missing_settings,
    "huge settings": huge_settings,
    "other arguments": other_arguments,
    "an argument without its value": an_argument_without_its_value,
    "a dry run": asked_for("--dry-run"),
    "a question for help": asked_for("-h"),
    "no lock file": no_lock_file,
    "a contact that cannot be noted": read_only_contact,
    "not modified": answered(304),
    "moved for ever": answered(301),
    "fine, but no redirect": answered(200),
    "no good build": answered(404),
    "no right": answered(403),
    "a fault of Hydra": answered(500),
    "another version's note": noted(version="0"),
    "a note of the future": noted(until=4e9),
    "a note of the past": noted(until=1.0),
    "a note without end": noted(until=None),
    "a note with another time": noted(until="soon"),
    "a note with endless patience": noted(interval="9"),
    "a note without links": noted(links=None),
    "a note without marks": noted(marks={}),
    "a note whose marks are none": noted(marks=None),
    "a note for no scheme": noted(scheme="ftp"),
    "a note for a name with odd letters": noted(authority="b\u00fccher.example"),
    "a note for another port": noted(authority="127.0.0.1:1"),
    "a note with another path": noted(path="x\r\nHost: y"),
    "a note that is a list": written(b"[]"),
    "a note that is no JSON": written(b"{"),
    "an empty note": written(b""),
    "a note that is no text": written(b"\xff\xfe"),
    "a deep note": written(b"[" * 100_000),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_at_the_least_doubt_the_full_run_looks(idling, doubt, capsys):
    assert idling.attempt() == 0
    capsys.readouterr()
    DOUBTS[doubt](idling)
    assert idling.attempt() is None
    assert capsys.readouterr().out == "", "only the full run speaks"


@pytest.mark.parametrize("name", ["NIXOS_HYDRA_AGENT_ACTION", "nixos_hydra_agent_action"])
def test_a_variable_of_the_agent_is_a_setting(idling, monkeypatch, name):
    monkeypatch.setenv(name, "boot")
    assert idling.attempt() is None


@pytest.mark.parametrize(
    "location", ["/build/{id}", "{base}/build/{id}/", "//127.0.0.1/build/{id}"]
)
def test_what_the_full_run_takes_for_the_same_build_is_it(idling, hydra, location):
    hydra.location = location
    assert idling.attempt() == 0


def test_behind_a_careless_proxy_scheme_and_port_are_others(idling, hydra):
    hydra.location = "https://127.0.0.1/build/{id}"
    assert idling.attempt() == 0


def test_below_an_instance_with_a_path_a_build_is_below_that_path(settled, hydra):
    hydra.location = "{base}/hydra/build/{id}"
    with serving(hydra) as url:
        settled.settle(f"{url}/hydra/")
        assert settled.attempt() == 0
        assert hydra.asked[0][0] == f"/hydra{JOB_PATH}"


def test_the_marks_are_all_of_them():
    assert set(idle_poll.MARKS) == set(Mark)


def test_what_else_is_beside_the_marks_is_none(idling):
    (idling.marks / ".pending-for").write_text("x")
    (idling.marks / "candidate").symlink_to("/nowhere")
    assert idling.attempt() == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_hydra_with_too_much_to_do_is_reported(idling, hydra, status):
    hydra.status = status
    busy = []
    assert idle_poll.attempt(idling.arguments, busy.append) is None
    assert busy == [0.0]
    assert len(hydra.asked) == 1


def test_a_hydra_that_wants_to_be_left_alone_says_for_how_long(idling, hydra):
    hydra.status, hydra.more = 429, {"Retry-After": "120"}
    busy = []
    assert idle_poll.attempt(idling.arguments, busy.append) is None
    assert busy == [120.0]


@pytest.mark.parametrize("status", [200, 301, 401, 404, 501])
def test_what_is_no_sign_of_trouble_is_not_reported(idling, hydra, status):
    hydra.status = status
    busy = []
    assert idle_poll.attempt(idling.arguments, busy.append) is None
    assert busy == []


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b"\xff", b'{"instance": 7}', b"[" * 100_000])
def test_a_session_that_cannot_be_read_is_begun_anew(idling, hydra, kept):
    (idling.state_dir / FILE).write_bytes(kept)
    assert idling.attempt() == 0
    assert "Cookie" not in hydra.asked[0][1]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a; b=c", "", 7, None])
def test_a_session_that_is_no_cookie_is_begun_anew(idling, hydra, value):
    instance = idling.kept()["instance"]
    kept = json.dumps({"instance": instance, "cookie": value})
    (idling.state_dir / FILE).write_text(kept)
    assert idling.attempt() == 0
    assert hydra.asked[0][1].get("Cookie") in (None, "hydra_session=a")


def test_another_instance_never_sees_the_session(idling, hydra):
    kept = json.dumps({"instance": "https://elsewhere.example", "cookie": "hydra_session=secret"})
    (idling.state_dir / FILE).write_text(kept)
    assert idling.attempt() == 0
    assert "Cookie" not in hydra.asked[0][1]


def test_a_session_that_cannot_be_kept_is_no_doubt(idling):
    (idling.state_dir / f"{FILE}.new").mkdir()
    assert idling.attempt() == 0


@pytest.mark.parametrize(
    "name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "Http_Proxy", "aLL_pRoxy", "NO_PROXY"]
)
def test_with_a_proxy_the_full_run_asks(idling, hydra, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert idling.attempt() is None
    assert hydra.asked == []


def test_while_another_agent_is_at_work_the_full_run_tells_so(idling):
    with FileLock(idling.state_dir).hold():
        assert idling.attempt() is None
    assert idling.attempt() == 0


def test_the_lock_is_nobodys_while_hydra_is_asked(idling, hydra):
    held = []

    def hold():
        with FileLock(idling.state_dir).hold():
            held.append(True)

    hydra.meanwhile = hold
    assert idling.attempt() == 0
    assert held == [True]


def test_a_link_that_moves_while_hydra_is_asked_is_seen(idling, hydra):
    hydra.meanwhile = lambda: (idling.link.unlink(), idling.link.symlink_to(idling.state_dir))
    assert idling.attempt() is None


def test_a_note_is_of_what_was_decided_on_and_not_of_what_came_later(settled, hydra):
    before = idle_poll.fingerprint_now(settled.arguments)
    settled.config.write_text(settled.config.read_text() + "# changed while the run went on\n")
    with serving(hydra) as url:
        settled.settle(url, fingerprint=before)
        assert settled.attempt() is None


def test_where_a_link_is_missing_or_no_file_holds_the_settings_no_note_is_left(settled):
    settled.note("http://127.0.0.1:1").write(7, Systems(None, None, None))
    settled.settle("http://127.0.0.1:1", fingerprint=None)
    assert not (settled.state_dir / "idle.json").exists()
    assert idle_poll.fingerprint_now(("--config", str(settled.state_dir / "none"))) is None


def test_another_host_name_is_another_host(idling, monkeypatch):
    other = os.uname_result(("Linux", "renamed", "6", "1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: other)
    assert idling.attempt() is None


def test_at_a_terminal_the_full_run_shows_everything(idling, hydra, monkeypatch):
    leader, terminal = os.openpty()
    with os.fdopen(leader), os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert idling.attempt() is None
    assert hydra.asked == []


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(settled, hydra):
    hydra.pause = 0.05  # each byte is in time for a time limit of single reads
    with serving(hydra) as url:
        settled.settle(url, timeout=timedelta(seconds=0.4))
        busy = []
        assert idle_poll.attempt(settled.arguments, busy.append) is None
        assert busy == [0.0]


def test_a_note_that_says_nothing_is_heeded_in_silence(settled, hydra, capsys):
    with serving(hydra) as url:
        settled.settle(url, is_logged=False)
        assert settled.attempt() == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "NIX_SSL_CERT_FILE"])
def test_a_private_authority_is_trusted_where_it_is_named(
    settled, hydra, monkeypatch, tmp_path, variable
):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(hydra, context) as url:
        settled.settle(url)
        assert settled.attempt() is None, "nobody trusts it yet"
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        assert settled.attempt() == 0
        assert settled.attempt() == 0


def another_authority(path):
    trustme.CA().cert_pem.write_to_path(str(path))


TRUST = {
    "missing": lambda path: path.unlink(missing_ok=True),
    "empty": lambda path: path.write_text(""),
    "garbage": lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nx\n"),
    "a directory": lambda path: path.mkdir(),
    "another authority's": another_authority,
}


@pytest.fixture(params=["SSL_CERT_FILE", "NIX_SSL_CERT_FILE"])
def variable(request, monkeypatch):
    """A variable that names a bundle; the other one counts after it, or is empty."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    return request.param


@pytest.mark.parametrize("state", TRUST)
def test_a_bundle_that_the_full_run_refuses_is_a_doubt(settled, monkeypatch, variable, state):
    """Even where OpenSSL's own choice would do: the named one is the one that counts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    named = settled.link.parent / "named.pem"
    authority.cert_pem.write_to_path(str(named))
    monkeypatch.setenv(variable, str(named))
    with serving(Hydra(), context) as url:
        settled.settle(url)
        assert settled.attempt() == 0
        named.unlink()
        TRUST[state](named)
        assert settled.attempt() is None


def test_a_fingerprint_changes_with_whatever_settings_are_made_of():
    base = (b"x = 1", {"NIXOS_HYDRA_AGENT_HOST": "a", "HOME": "/"}, ["--json"])
    others = [
        (b"x = 2", base[1], base[2]),
        (base[0], {**base[1], "NIXOS_HYDRA_AGENT_HOST": "b"}, base[2]),
        (base[0], {**base[1], "nixos_hydra_agent_action": "boot"}, base[2]),
        (base[0], {"HOME": "/"}, base[2]),
        (base[0], base[1], []),
        (base[0], base[1], ["--json", ""]),
    ]
    prints = {idle_poll.fingerprint(*made) for made in [base, *others]}
    assert len(prints) == 1 + len(others)
    assert idle_poll.fingerprint(base[0], {**base[1], "HOME": "/root"}, ("--json",)) in prints


@pytest.mark.parametrize("of_a_home", [b'target = "home-manager"', b'"t\\u0061rget" = "x"'])
def test_of_a_home_it_changes_with_what_decides_where_its_things_are(of_a_home, tmp_path):
    around = {"HOME": str(tmp_path), "USER": "eve"}
    (tmp_path / "other/nix/profiles").mkdir(parents=True)
    others = [
        {"USER": "eve"},
        {**around, "HOME": "/"},
        {**around, "USER": "adam"},
        {**around, "XDG_STATE_HOME": str(tmp_path / "other")},
        {**around, "NIX_STATE_DIR": "/nix"},
    ]
    prints = [idle_poll.fingerprint(of_a_home, environ, []) for environ in [around, *others]]
    (tmp_path / ".local/state/nix/profiles").mkdir(parents=True)
    prints.append(idle_poll.fingerprint(of_a_home, around, []))
    assert len(set(prints)) == 2 + len(others)


def test_settings_of_variables_alone_leave_no_note(settled):
    settled.config.unlink()
    settled.settle("http://h")
    assert not (settled.state_dir / "idle.json").exists()


def test_a_note_that_cannot_be_written_is_told(settled):
    (settled.state_dir / "idle.json").mkdir()
    with pytest.raises(HostError, match=r"idle\.json") as caught:
        settled.settle("http://h")
    assert caught.value.kind is Kind.STATE_UNUSABLE


def test_a_note_can_be_forgotten_whether_or_not_there_is_one(idling):
    note = idling.note("http://h")
    note.forget()
    assert idling.attempt() is None
    note.forget()


def test_a_note_that_cannot_be_forgotten_is_told(settled):
    (settled.state_dir / "idle.json").mkdir()
    with pytest.raises(HostError, match=r"idle\.json"):
        settled.note("http://h").forget()


def test_the_base_of_an_instance_is_kept_in_the_path(settled):
    settled.settle("https://h.example:8443/sub")
    kept = settled.kept()
    assert (kept["scheme"], kept["authority"]) == ("https", "h.example:8443")
    assert kept["path"] == f"/sub{JOB_PATH}"


def test_nothing_heavy_is_loaded(idling):
    code = (
        "import sys\nfrom agent.lean.idle_poll import attempt\n"
        f"code = attempt({list(idling.arguments)!r})\n"
        "print(*sys.modules, file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert json.loads(done.stdout)["event"] == "run.idle"
    assert "agent.lean.idle_poll" in loaded
    assert not {
        "asyncio", "click", "httpx", "pydantic", "structlog", "sqlite3", "typing_extensions",
        "agent.domain.errors", "agent.cli.main", "dataclasses", "subprocess",
    } & loaded  # fmt: skip
