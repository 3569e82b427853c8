"""A forge that misbehaves, on real sockets: each fault has its own kind and says what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl

import pytest
import trustme

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.adapters.clock import SystemClock
from agent.adapters.forge import ForgeAddress, open_forge
from agent.adapters.forge.transport import MAX_BODY
from agent.adapters.http.retries import Retries
from agent.application import events
from agent.application.flake_update.ports import MergeMethod, Proposal
from agent.domain.errors import ForgeError, Kind
from fakes.events import RememberedEvents

TOKEN = "s3cret-t0ken"
PROPOSAL = Proposal(7, "u", "flake-update-1", "b" * 40, "main", "t", "b")
PULL = {
    "number": 7, "html_url": "http://h/7", "title": "t", "body": "b",
    "head": {"ref": "flake-update-1", "sha": "b" * 40, "repo": {"id": 1}},
    "base": {"ref": "main", "sha": "a" * 40, "repo": {"id": 1}},
}  # fmt: skip
LIST = json.dumps([PULL]).encode()
ONE = json.dumps(PULL).encode()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Scene:
    """A forge at a URL, asked with retries that wait for nothing."""

    def __init__(self, url, *, kind="forgejo", timeout=5.0, attempts=3, repository="o/r"):
        self.url = url
        self.kind = kind
        self.timeout = timeout
        self.attempts = attempts
        self.repository = repository
        self.sink = RememberedEvents()

    def ask(self, question):
        async def run():
            forge = open_forge(
                ForgeAddress(self.kind, self.url, self.repository),
                TOKEN,
                timeout=self.timeout,
                sink=self.sink,
                clock=SystemClock(),
                retries=Retries(attempts=self.attempts, first=0.001, longest=0.001),
            )
            async with forge:
                return await question(forge)

        return asyncio.run(run())

    def fault(self, question=None):
        with pytest.raises(ForgeError) as caught:
            self.ask(question or find)
        error = caught.value
        assert TOKEN not in str(error)
        assert TOKEN not in repr(self.sink.said)
        assert error.hint
        return error


def find(forge):
    return forge.open_proposals("main", "flake-")


def fault_of(behaviour, question=None, **more):
    with FaultyServer(behaviour) as server:
        return Scene(server.url, **more).fault(question)


@pytest.mark.parametrize("kind", ["forgejo", "github"])
@pytest.mark.parametrize(
    ("status", "expected", "advice"),
    [
        (400, Kind.FORGE_STATUS, "flake_update.forge.url"),
        (401, Kind.FORGE_UNAUTHORISED, "new token"),
        (403, Kind.FORGE_FORBIDDEN, "write access"),
        (404, Kind.FORGE_NOT_FOUND, "flake_update.forge.repository"),
        (405, Kind.AUTO_MERGE_REFUSED, "merge"),
        (409, Kind.FORGE_CONFLICT, "open for this branch"),
        (422, Kind.FORGE_UNPROCESSABLE, "own words"),
        (423, Kind.FORGE_FORBIDDEN, "archived"),
        (429, Kind.FORGE_RATE_LIMITED, "less often"),
        (500, Kind.FORGE_SERVER_ERROR, "own log"),
        (502, Kind.FORGE_SERVER_ERROR, "own log"),
        (599, Kind.FORGE_SERVER_ERROR, "own log"),
    ],
)
def test_every_status_has_its_kind_and_advice_and_the_forges_own_words(
    kind, status, expected, advice
):
    body = json.dumps({"message": "what the forge says", "url": "x"}).encode()
    error = fault_of(_answer(status, body), kind=kind)
    assert error.kind is expected
    assert advice in error.hint
    assert "what the forge says" in error.message
    assert str(status) in error.message


def _answer(status, body=b"", **headers):
    phrase = f"HTTP/1.1 {status} Whatever\r\n".encode()
    lines = {"Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return faulty.say(phrase + head.encode() + b"\r\n" + body)


def test_what_each_value_is_refused_for_is_told():
    body = json.dumps(
        {
            "message": "Validation Failed",
            "errors": [
                {"resource": "PullRequest", "field": "head", "code": "invalid"},
                {"message": "No commits between main and x"},
                "plain words",
                7,
            ],
        }
    ).encode()
    message = fault_of(_answer(422, body)).message
    for words in ("Validation Failed", "head invalid", "No commits between", "plain words"):
        assert words in message


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", b'{"message": 7}', b'{"errors": 7}', b"\xff", b"[" * 10000],
    ids=["empty", "html", "list", "number", "errors", "no text", "deep"],
)
def test_a_failure_that_says_nothing_usable_is_a_failure_all_the_same(body):
    error = fault_of(_answer(404, body))
    assert error.kind is Kind.FORGE_NOT_FOUND
    assert error.message.endswith("404 Not Found")


def test_a_failure_quotes_neither_credentials_nor_control_characters_nor_without_end():
    said = f"token {TOKEN} \x1b[31m\n https://u:pw@h/ password=hunter2 " + "x" * 5000
    message = fault_of(_answer(422, json.dumps({"message": said}).encode())).message
    assert message.isprintable()
    assert "hunter2" not in message
    assert "u:pw" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (403, {"Retry-After": "1"}, "You have exceeded a secondary limit"),
        (403, {"X-RateLimit-Remaining": "0"}, ""),
        (403, {}, "API rate limit exceeded for user ID 1."),
        (429, {}, ""),
    ],
)
def test_limits_are_told_apart_from_what_is_forbidden(status, headers, said):
    error = fault_of(_answer(status, json.dumps({"message": said}).encode(), **headers), attempts=1)
    assert error.kind is Kind.FORGE_RATE_LIMITED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_token_goes_elsewhere(status):
    with FaultyServer(faulty.answer(200, LIST)) as other:
        where = f"{other.url}/stolen"
        error = fault_of(_answer(status, b"{}", Location=where))
        assert other.paths == []
    assert error.kind is Kind.FORGE_REDIRECT
    assert where in error.message
    assert "flake_update.forge.url and .repository" in error.hint


@pytest.mark.parametrize(
    "behaviour",
    [
        faulty.answer(200, b"<html>login</html>", faulty.HTML),
        faulty.answer(200, b"[" * 100000),
        faulty.answer(200, b""),
        faulty.answer(200, b'{"message": "no list"}'),
        faulty.answer(200, b'[{"number": "7"}]'),
        faulty.answer(200, json.dumps([{**PULL, "head": None}]).encode()),
        faulty.answer(200, LIST, Content_Encoding="gzip"),
        faulty.flood(MAX_BODY + 65536, announced=True),
        faulty.flood(MAX_BODY + 65536, announced=False),
        faulty.say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        faulty.answer(200, LIST, Link='<http://h/x?page=2>; rel="next"'),
    ],
    ids=["html", "deep", "empty", "object", "type", "null", "gzip", "announced flood", "flood",
         "ssh", "endless list"],
)  # fmt: skip
def test_garbage_is_told_as_such_and_not_asked_for_again(behaviour):
    error = fault_of(behaviour)
    assert error.kind is Kind.FORGE_NONSENSE


def test_where_the_answer_is_wrong_is_told():
    wrong = json.dumps([{**PULL, "head": {**PULL["head"], "sha": 7}}]).encode()
    assert "0.head.sha" in fault_of(faulty.answer(200, wrong)).message


@pytest.mark.parametrize("kind", ["forgejo", "github"])
@pytest.mark.parametrize(
    "behaviour",
    [
        faulty.say_nothing,
        faulty.drip(faulty.whole(200, LIST), at_once=40),
        faulty.drip(faulty.whole(200, LIST), at_once=len(faulty.whole(200, LIST)) - 9),
    ],
    ids=["silent", "dripping headers", "dripping body"],
)
def test_a_slow_forge_is_waited_for_no_longer_than_its_time(kind, behaviour):
    error = fault_of(behaviour, kind=kind, timeout=0.1, attempts=1)
    assert error.kind is Kind.FORGE_TIMEOUT
    assert "0.1 s" in error.message


def test_all_attempts_together_end_with_their_deadline():
    with FaultyServer(faulty.say_nothing) as server:
        scene = Scene(server.url, timeout=0.1, attempts=100)
        assert scene.fault().kind is Kind.FORGE_TIMEOUT
        assert 2 <= len(server.paths) <= 4


@pytest.mark.parametrize(
    "behaviour",
    [faulty.hang_up, faulty.reset, faulty.truncated(b"[", 100)],
    ids=["hang up", "reset", "truncated"],
)
def test_a_connection_that_breaks_is_tried_again_and_then_told(behaviour):
    with FaultyServer(behaviour) as server:
        error = Scene(server.url).fault()
        assert error.kind is Kind.FORGE_UNREACHABLE
        assert "broke" in error.message
        assert len(server.paths) == 3


def test_nobody_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = Scene(f"http://127.0.0.1:{port}").fault()
    assert error.kind is Kind.FORGE_UNREACHABLE
    assert "Connection refused" in error.message


def test_a_name_without_an_address_is_told():
    error = Scene("http://forge.invalid", attempts=1).fault()
    assert error.kind is Kind.FORGE_UNREACHABLE


def test_a_url_of_another_kind_is_told():
    assert Scene("ftp://forge.test", attempts=1).fault().kind is Kind.CONFIG_INVALID


def test_proxies_that_cannot_be_used_are_told(monkeypatch):
    monkeypatch.setenv("all_proxy", "nonsense://x")
    assert Scene("http://forge.test").fault().kind is Kind.CONFIG_INVALID


def test_a_certificate_that_is_not_trusted_is_told():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FaultyServer(faulty.answer(200, LIST), tls=context) as server:
        error = Scene(server.url).fault()
    assert error.kind is Kind.FORGE_TLS


def test_a_certificate_that_is_trusted_is(monkeypatch, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with FaultyServer(faulty.answer(200, LIST), tls=context) as server:
        (found,) = Scene(server.url).ask(find)
    assert found.number == 7


def test_what_can_pass_is_tried_again_and_told():
    turns = faulty.in_turn(_answer(502), _answer(429), faulty.answer(200, LIST))
    with FaultyServer(turns) as server:
        scene = Scene(server.url)
        assert len(scene.ask(find)) == 1
    assert scene.sink.names() == ["forge.request_retried"] * 2
    told = scene.sink.fields_of(events.FORGE_REQUEST_RETRIED)
    assert told["error.kind"] is Kind.FORGE_RATE_LIMITED
    assert told["attempt"] == 2
    assert told["path"].startswith("/api/v1/repos/o/r/pulls")


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
def test_what_cannot_pass_is_asked_once(status):
    with FaultyServer(_answer(status)) as server:
        scene = Scene(server.url)
        scene.fault(lambda forge: forge.refresh(PROPOSAL, "t", "b"))
        assert len(server.paths) == 1
    assert scene.sink.said == []


def test_a_comment_is_never_made_twice():
    with FaultyServer(_answer(502)) as server:
        Scene(server.url).fault(lambda forge: forge.comment(PROPOSAL, "x"))
        assert len(server.paths) == 1


@pytest.mark.parametrize(
    ("kind", "conflict"),
    [
        ("forgejo", _answer(409, b'{"message": "pull request already exists"}')),
        ("github", _answer(422, b'{"errors": [{"message": "A pull request already exists"}]}')),
    ],
)
def test_a_proposal_whose_answer_was_lost_is_found_again(kind, conflict):
    turns = faulty.in_turn(faulty.hang_up, conflict, faulty.answer(200, LIST))
    with FaultyServer(turns) as server:
        found = Scene(server.url, kind=kind).ask(
            lambda forge: forge.open("flake-update-1", "main", "t", " b\r\n")
        )
    assert found.number == 7


@pytest.mark.parametrize(
    ("head", "title"), [("flake-update-1", "other"), ("flake-update", "t")], ids=["title", "head"]
)
def test_a_proposal_that_someone_else_made_is_a_conflict(head, title):
    turns = faulty.in_turn(_answer(409), faulty.answer(200, LIST))
    error = fault_of(turns, lambda forge: forge.open(head, "main", title, "b"))
    assert error.kind is Kind.FORGE_CONFLICT


def test_a_list_may_have_holes():
    with FaultyServer(faulty.answer(200, json.dumps([None, PULL]).encode())) as server:
        assert len(Scene(server.url).ask(find)) == 1


def test_a_proposal_from_a_fork_that_is_gone_is_left_out():
    gone = {**PULL, "head": {**PULL["head"], "repo": None}}
    with FaultyServer(faulty.answer(200, json.dumps([gone]).encode())) as server:
        assert Scene(server.url).ask(find) == ()


def test_whether_a_proposal_can_be_merged_is_waited_for():
    later = _answer(405, b'{"message": "Please try again later"}')
    with FaultyServer(faulty.in_turn(later, faulty.answer(201))) as server:
        Scene(server.url).ask(lambda forge: forge.enable_auto_merge(PROPOSAL, MergeMethod.MERGE))
    error = fault_of(later, lambda forge: forge.enable_auto_merge(PROPOSAL, MergeMethod.MERGE))
    assert error.kind is Kind.FORGE_NOT_READY


def test_a_conflict_with_the_base_is_no_automatic_merge():
    error = fault_of(
        _answer(409, b'{"message": "merge conflict"}'),
        lambda forge: forge.enable_auto_merge(PROPOSAL, MergeMethod.MERGE),
    )
    assert error.kind is Kind.FORGE_CONFLICT


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"message": "Pull request is in clean status"}, Kind.AUTO_MERGE_REFUSED),
        ({"message": "too much", "type": "RATE_LIMITED"}, Kind.FORGE_RATE_LIMITED),
    ],
)
def test_what_github_refuses_with_a_status_of_200_is_refused(fault, expected):
    merging = json.dumps({"node_id": "PR_7", "auto_merge": None}).encode()
    refused = json.dumps({"data": None, "errors": [fault]}).encode()
    turns = faulty.in_turn(faulty.answer(200, merging), faulty.answer(200, refused))
    error = fault_of(
        turns,
        lambda forge: forge.enable_auto_merge(PROPOSAL, MergeMethod.MERGE),
        kind="github",
    )
    assert error.kind is expected
    assert fault["message"] in error.message


def test_a_token_that_may_not_see_organisations_can_still_label():
    ways = [
        ("/orgs/", _answer(403)),
        ("/repos/o/r/labels", faulty.answer(200, b'[{"id": 4, "name": "nix"}]')),
    ]
    with FaultyServer(faulty.by_path(ways, faulty.answer(200, b"[]"))) as server:
        Scene(server.url).ask(lambda forge: forge.add_labels(PROPOSAL, ("nix",)))
        assert server.paths[-1] == "/api/v1/repos/o/r/issues/7/labels"


def test_an_assignment_that_forgejo_passes_over_is_told():
    # So it does where the token may not write to the repository.
    nobody = json.dumps({**PULL, "assignees": None}).encode()
    error = fault_of(faulty.answer(200, nobody), lambda forge: forge.assign(PROPOSAL, ("alice",)))
    assert error.kind is Kind.FORGE_UNPROCESSABLE
    assert "alice" in error.message


def test_labels_that_cannot_be_read_are_told():
    error = fault_of(
        faulty.by_path([("/orgs/", _answer(401))], faulty.answer(200, b"[]")),
        lambda forge: forge.add_labels(PROPOSAL, ("nix",)),
    )
    assert error.kind is Kind.FORGE_UNAUTHORISED


@pytest.mark.parametrize(
    ("kind", "suffix", "path"),
    [
        ("forgejo", "", "/api/v1/repos/o/r/pulls"),
        ("forgejo", "/", "/api/v1/repos/o/r/pulls"),
        ("forgejo", "/sub/api/v1", "/sub/api/v1/repos/o/r/pulls"),
        ("github", "", "/repos/o/r/pulls"),
        ("github", "/api/v3", "/api/v3/repos/o/r/pulls"),
    ],
)
def test_the_api_is_found_below_the_url(kind, suffix, path):
    with FaultyServer(faulty.answer(200, LIST)) as server:
        Scene(server.url + suffix, kind=kind).ask(find)
        assert server.paths[0].partition("?")[0] == path
        assert server.headers[0]["authorization"] == f"token {TOKEN}"


def test_an_enterprise_has_its_graphql_beside_its_rest_api():
    merging = json.dumps({"node_id": "PR_7", "auto_merge": None}).encode()
    with FaultyServer(faulty.answer(200, merging)) as server:
        Scene(f"{server.url}/api/v3", kind="github").ask(
            lambda forge: forge.enable_auto_merge(PROPOSAL, MergeMethod.MERGE)
        )
        assert server.paths == ["/api/v3/repos/o/r/pulls/7", "/api/graphql"]


def test_github_itself_is_known_by_its_own_name():
    from agent.adapters.forge import _origin_of

    origin = _origin_of(ForgeAddress("github", "https://github.com/", "o/r"))
    assert origin == ("https://api.github.com", "")


def test_names_stay_in_their_place_whatever_is_in_them():
    with FaultyServer(faulty.answer(200, LIST)) as server:
        scene = Scene(server.url, kind="github", repository="o/r?x=1")
        scene.ask(lambda forge: forge.open_proposals("a&b=c", "x"))
        assert server.paths[0].startswith("/repos/o/r%3Fx%3D1/pulls?")
        assert "base=a%26b%3Dc&" in server.paths[0]


@pytest.mark.parametrize("fence", ["", "```\n"])
def test_a_report_that_is_too_long_is_cut_between_lines_with_no_fence_left_open(fence):
    from fake_forges.github import GitHubServer

    report = fence + "linux: 6.12.1 → 6.12.9\n" * 5000
    with GitHubServer() as server:
        server.world.token = TOKEN
        scene = Scene(server.url, kind="github", repository=server.repository)
        scene.ask(lambda forge: forge.open("flake-update-1", "main", "t", report))
        body = server.world.pulls[0].body
    assert 65_000 < len(body) <= 65_536
    assert "left out" in body
    assert body.count("```") % 2 == 0
    assert "6.12.9\n" in body
    assert "6.12.9\nlinux: 6.12.1 →\n" not in body
