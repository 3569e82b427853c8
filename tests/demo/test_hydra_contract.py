"""The embedded Hydra answers every recorded request as the real one did."""

from __future__ import annotations

import json
import re

import pytest

from demo.asking import Answered, ask
from demo.recorded_world import NEVER_ASKED, Recording, all_recordings, hydra_of

ASKED = [one for one in all_recordings() if not NEVER_ASKED.search(one.path)]


def replay(hydra, one: Recording) -> Answered:
    """Send exactly what was sent, the `Host` included."""
    sent = {"Host": one.host, **one.sent}
    return ask(hydra.port, one.path, sent, method=one.method, body=one.sent_body)


def canonical(body: object) -> object:
    """JSON as text, so that 1 is not true, with the lists sorted that come in no order."""
    if isinstance(body, dict):
        return {
            key: sorted(value) if key in {"jobsetevals", "builds"} else canonical(value)
            for key, value in body.items()
        }
    return [canonical(value) for value in body] if isinstance(body, list) else body


def as_text(body: object) -> str:
    return json.dumps(canonical(body), sort_keys=True, indent=1)


def assert_alike(one: Recording, answered: Answered) -> None:
    assert answered.status == one.status
    assert set(answered.headers) == set(one.headers)
    for name in ("Location", "Vary", "Content-Type", "Connection"):
        assert answered.headers.get(name) == one.headers.get(name), name
    _assert_cookie_alike(one, answered.headers.get("Set-Cookie", ""))
    text = answered.body.decode()
    if one.method == "HEAD":
        assert text == ""
        assert answered.headers["Content-Length"] == one.headers["Content-Length"]
    elif one.headers["Content-Type"] == "application/json":
        assert as_text(json.loads(text)) == as_text(one.body)
        assert answered.headers["Content-Length"] == one.headers["Content-Length"]
    elif one.headers["Content-Type"] == "text/html; charset=UTF-8":
        title = re.search("<title>.*</title>", one.body)
        assert text.startswith("<!DOCTYPE html>")
        assert title
        assert title[0] in text
    else:
        assert text == one.body


def _assert_cookie_alike(one: Recording, cookie: str) -> None:
    if one.session is None:
        assert cookie == ""
        return
    shape = r"hydra_session=([0-9a-f]{40}); path=/; expires=\w{3}, \d\d-\w{3}-\d{4} [\d:]{8} GMT; HttpOnly; SameSite=Lax"
    found = re.fullmatch(shape, cookie)
    assert found, cookie
    assert re.fullmatch(shape, one.headers["Set-Cookie"])
    assert (f"={found[1]}" in one.sent.get("Cookie", "")) == (one.known_session is not None)


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.name)
def test_a_recorded_exchange_is_answered_alike(one):
    with hydra_of(one) as hydra:
        assert_alike(one, replay(hydra, one))


def test_there_are_recordings():
    assert len(ASKED) > 65
