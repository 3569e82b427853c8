from __future__ import annotations

import pytest

from agent.domain.secrets import hide_secrets


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:hunter2@cache.example.org/x", "https://***@cache.example.org/x"),
        ("s3://b?secret-key=abc&region=eu", "s3://b?secret-key=***&region=eu"),
        (
            ["--option", "access-tokens", "github.com=abc", "-L"],
            ["--option", "access-tokens", "***", "-L"],
        ),
        (("nix", "--option"), ["nix", "--option"]),
        ({"a": {"b": "http://u@h/"}}, {"a": {"b": "http://***@h/"}}),
        ("github:o/r?rev=abc", "github:o/r?rev=abc"),
        (7, 7),
        (None, None),
    ],
)
def test_what_looks_like_a_credential_is_hidden(value, shown):
    assert hide_secrets(value) == shown
