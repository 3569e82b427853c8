"""How the embedded Hydra answers where no recording says it, and how it follows its world."""

from __future__ import annotations

import threading

import pytest

from agent.demo.hydra import EmbeddedHydra
from agent.demo.hydra.replies import accepts_json
from demo.asking import JSON, ask
from demo.hydra_changes import disable_project, rename_jobset

PATH = "/nix/store/00000000000000000000000000000000-nixos-system-alpha-1"
LATEST = "/job/p/j/alpha/latest"


@pytest.fixture
def hydra():
    with EmbeddedHydra() as hydra:
        hydra.world.add_jobset("p", "j", flake="git+file:///srv/x?ref=main")
        hydra.world.add_build("alpha", PATH, eval_id=hydra.world.add_eval("p", "j", flake="f"))
        yield hydra


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/json;q=0.9", True),
        ("application/json, */*;q=0.1", True),
        ("text/html;q=0.5, application/json", True),
        ("text/html, application/json", False),
        ("application/json;q=0.5, text/html", False),
        ("application/json;q=high, text/html", False),
        ("application/*", False),
        ("*/*", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_only_who_names_json_gets_it(accept, is_json):
    assert accepts_json(accept) is is_json


def test_a_state_changed_meanwhile_is_answered_at_once(hydra):
    assert ask(hydra.port, LATEST).headers["Location"] == f"{hydra.url}/build/1"
    hydra.world.add_build("alpha", PATH, eval_id=hydra.world.add_eval("p", "j", flake="f"))
    assert ask(hydra.port, LATEST).headers["Location"] == f"{hydra.url}/build/2"


def test_a_session_is_kept_for_who_sends_it_back_and_begun_for_who_does_not(hydra):
    first = ask(hydra.port, LATEST)
    again = ask(hydra.port, LATEST, {"Cookie": f"other=1; {first.session}"})
    assert again.session == first.session
    assert len(hydra.sessions) == 1
    assert ask(hydra.port, LATEST).session != first.session
    assert len(hydra.sessions) == 2


@pytest.mark.parametrize(
    ("sent", "base"),
    [
        ({"Host": "hydra.example.org"}, "http://hydra.example.org"),
        ({"X-Forwarded-Proto": "https", "Host": "h"}, "https://h"),
        ({"X-Forwarded-Host": "a, b"}, "http://b"),
        ({"X-Forwarded-Host": "b", "X-Forwarded-Port": "8443"}, "http://b:8443"),
        ({"X-Forwarded-Host": "b", "X-Forwarded-Port": "443"}, "http://b"),
    ],
)
def test_a_location_is_built_from_what_the_request_says(hydra, sent, base):
    assert ask(hydra.port, LATEST, sent).headers["Location"] == f"{base}/build/1"


def test_a_redirect_drops_the_query_and_keeps_further_segments(hydra):
    found = ask(hydra.port, f"{LATEST}/download/1?x=y").headers["Location"]
    assert found == f"{hydra.url}/build/1/download/1"


def test_a_renamed_jobset_is_redirected_with_its_job_still_quoted(hydra):
    rename_jobset(hydra.world, "p", "j", "k")
    found = ask(hydra.port, "/job/p/j/%22a.b%22/latest?x=y")
    assert found.status == 301
    assert found.headers["Location"] == f"{hydra.url}/job/p/k/%22a.b%22/latest?x=y"
    found = ask(hydra.port, "/jobset/p/j/evals")
    assert (found.status, found.headers["Location"]) == (301, f"{hydra.url}/jobset/p/k/evals")


def test_a_dotted_job_is_found_by_its_quoted_name(hydra):
    hydra.world.add_build('"a.b"', PATH, eval_id=1)
    assert ask(hydra.port, "/job/p/j/%22a.b%22/latest").status == 302
    assert ask(hydra.port, "/job/p/j/a.b/latest").status == 404


def test_evals_come_in_pages_of_twenty(hydra):
    for _ in range(44):
        hydra.world.add_eval("p", "j", flake="f")
    pages = [ask(hydra.port, f"/jobset/p/j/evals?page={n}", JSON).json for n in (1, 2, 3)]
    assert [len(page["evals"]) for page in pages] == [20, 20, 5]
    assert pages[0]["evals"][0]["id"] == 45
    assert [page.get("next") for page in pages] == ["?page=2", "?page=3", None]
    assert [page.get("previous") for page in pages] == [None, "?page=1", "?page=2"]
    assert {page["last"] for page in pages} == {"?page=3"}


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nosuch", 404, "Page not found."),
        ("/api/nosuch", 404, "Page not found."),
        ("/job/p/j/alpha/nosuch", 404, "Page not found."),
        ("/jobset/p/j/nosuch", 404, "Page not found."),
        ("/build/1/nosuch", 404, "Page not found."),
        ("/eval/1/nosuch", 404, "Page not found."),
        ("/jobset/q/j", 404, "Project"),
        ("/project/q", 404, "Project"),
        ("/job/p/j/beta/shield", 404, "No latest build"),
        ("/api/latestbuilds", 500, "Parameter not defined!"),
        ("/api/queue?nr=x", 500, "SELECT"),
        ("/eval/abc", 500, "SELECT"),
        ("/build/99999999999", 500, "out of range for type integer"),
        ("/eval/99999999999", 500, "out of range for type integer"),
    ],
)
def test_a_request_without_an_answer_is_refused_in_hydras_words(hydra, path, status, text):
    found = ask(hydra.port, path, JSON)
    assert found.status == status
    assert text in found.json["error"]


def test_a_database_that_goes_away_while_an_answer_is_written_is_told_with_a_400(hydra):
    hydra.world.breaks_off = 1
    assert ask(hydra.port, LATEST).status == 302
    found = ask(hydra.port, "/build/1", JSON)
    assert found.status == 400
    assert b"had a problem with your request.\n***ERROR***" in found.body
    assert ask(hydra.port, "/build/1", JSON).status == 200


def test_a_disabled_project_leaves_its_jobsets_enabled(hydra):
    disable_project(hydra.world, "p")
    project = ask(hydra.port, "/project/p", JSON).json
    assert (project["enabled"], project["jobsets"]) == (False, ["j"])
    assert ask(hydra.port, "/jobset/p/j", JSON).json["enabled"] == 1
    assert "declarative" not in project
    hydra.world.declarative_projects.add("p")
    assert ask(hydra.port, "/project/p", JSON).json["declarative"]["file"] == "spec.json"


def test_a_jobset_that_never_finished_an_eval_has_no_latest_eval(hydra):
    hydra.world.add_jobset("p", "new")
    assert ask(hydra.port, "/jobset/p/new/latest-eval", JSON).json == {
        "error": "No evaluation found."
    }


@pytest.mark.parametrize(("status", "color"), [(0, "green"), (1, "red"), (4, "yellow")])
def test_the_shield_shows_how_the_last_build_ended(hydra, status, color):
    hydra.world.add_build("alpha", PATH, eval_id=1, status=status)
    assert ask(hydra.port, "/job/p/j/alpha/shield").json["color"] == color


def test_the_list_of_builds_is_narrowed_by_every_parameter(hydra):
    hydra.world.add_build("alpha", PATH, eval_id=1, system="aarch64-linux")
    hydra.world.add_build("beta", PATH, eval_id=1)
    hydra.world.add_build("alpha", PATH, eval_id=1, status=None)

    def ids(query: str) -> list[int]:
        return [build["id"] for build in ask(hydra.port, f"/api/latestbuilds?{query}").json]

    assert ids("nr=9") == [3, 2, 1]
    assert ids("nr=2&job=") == [3, 2]
    assert ids("nr=9&project=p&jobset=j&job=alpha&system=aarch64-linux") == [2]
    assert ids("nr=9&jobset=other") == []


def test_a_private_hydra_answers_nobody_without_a_login_its_cache_included(hydra):
    hydra.world.is_private = True
    assert ask(hydra.port, LATEST).status == 403
    assert ask(hydra.port, "/nix-cache-info").status == 403


def test_a_directory_is_served_as_the_cache_of_a_hydra(hydra, tmp_path):
    (tmp_path / "nix-cache-info").write_text("StoreDir: /elsewhere\n")
    (tmp_path / f"{'1' * 32}.narinfo").write_text("StorePath: x\n")
    assert ask(hydra.port, "/nix-cache-info").body.startswith(b"StoreDir: /nix/store\n")
    cache = hydra.serve_cache(tmp_path)
    assert ask(hydra.port, "/nix-cache-info").body == b"StoreDir: /elsewhere\n"
    assert ask(hydra.port, f"/{'1' * 32}.narinfo").body == b"StorePath: x\n"
    cache.missing.add("1" * 32)
    assert ask(hydra.port, f"/{'1' * 32}.narinfo").status == 404
    assert ask(hydra.port, LATEST).status == 302
    hydra.world.is_database_down = True
    assert ask(hydra.port, "/nix-cache-info").status == 500


def test_a_world_that_changes_is_never_seen_half_changed(hydra):
    """Each eval has exactly two builds whenever it is seen, since the lock is held over both."""
    done = threading.Event()

    def evaluate() -> None:
        for _ in range(60):
            with hydra.world.lock:
                eval_id = hydra.world.add_eval("p", "j", flake="f")
                for job in ("alpha", "beta"):
                    hydra.world.add_build(job, PATH, eval_id=eval_id)
        done.set()

    writer = threading.Thread(target=evaluate)
    writer.start()
    sizes = set()
    while True:
        is_last = done.is_set()
        sizes |= {
            len(e["builds"]) for e in ask(hydra.port, "/jobset/p/j/evals", JSON).json["evals"]
        }
        if is_last:
            break
    writer.join()
    assert sizes - {1} == {2}
