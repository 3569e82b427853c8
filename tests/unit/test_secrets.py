from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import HydraError, Kind
from agent.domain.secrets import LONGEST, bounded, has_secret, hide_secrets, presentable

S = "SeCrEt0"
PUBLIC_KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
STORE_PATH = "/nix/store/00000000000000000000000000000000-secret-1.0"
HASH = "sha256-UROs5vGHM90udW7p3yRQRMgg9ygUyTiJscJawWB2Gg4="


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:hunter2@cache.example.org/x", "https://***@cache.example.org/x"),
        ("s3://b?secret-key=abc&region=eu", "s3://b?secret-key=***&region=eu"),
        (
            ["--option", "access-tokens", "github.com=abc", "-L"],
            ["--option", "access-tokens", "***", "-L"],
        ),
        (["--token", "abc"], ["--token", "***"]),
        (
            [["auth", "no reply"], ["token-service", "x"]],
            [["auth", "no reply"], ["token-service", "x"]],
        ),
        (("nix", "--option"), ["nix", "--option"]),
        ({"a": {"b": "http://u@h/"}}, {"a": {"b": "http://***@h/"}}),
        ({"password": "abc", "token": None}, {"password": "***", "token": None}),
        ({"token_file": "/run/x", "trusted_public_keys": ["k"]},) * 2,
        ({"signing_key": "ABCD", "ssh_key_file": "/run/key"},) * 2,
        ({7: "password: x"}, {7: "password: ***"}),
        ("github:o/r?rev=abc", "github:o/r?rev=abc"),
        (7, 7),
        (None, None),
    ],
)
def test_what_looks_like_a_credential_is_hidden(value, shown):
    assert hide_secrets(value) == shown


@pytest.mark.parametrize(
    "text",
    [
        # As one form quotes another
        f'{{"token": {{"value": "{S}"}}}}',
        f'{{"auth": {{"a": {{"b": "{S}"}}}}, "c": 1}}',
        f'{{"X-Auth-Token": ["{S}", "{S}"]}}',
        f"password=&quot;{S} x&quot;",
        f"token&#34;:&#34;{S}&#34;",
        f"token%22%3A%22{S}%22",
        f"https%3A%2F%2Fh%2Fx%3Fauth%3D{S}%26b%3Dc",
        f"<password>{S}</password>",
        f'<a:Password xml:lang="x">{S}</a:Password>',
        # Other names of keys
        f"psk={S}",
        f"hmac={S}",
        f"encryption_key={S}",
        f"Ocp-Apim-Subscription-Key: {S}",
        f"decryption-key: {S}",
        f"Token {S}789",
        # Forms that only keys have
        f"AGE-SECRET-KEY-1{S.upper() * 8}",
        f"sk_live_{S * 4}",
        f"npm_{S * 6}",
        f"ya29.{S * 4}",
        # URLs
        f"Location: http://u:{S}/x@h/",
        f"http://u:{S}#x@h/",
        f"http://u:{S}?x@h/",
        f"http://u:p@ss@{S}@h/x",
        f"//user:{S}/a/b@h",
        f"https://{S}:x-oauth-basic@github.com/",
        f"https://{S}@github.com/o/r",
        f"git+ssh://git:{S}@h/r",
        f"git+ssh://git%3A{S}@h/r",
        f"https%3A%2F%2Fu%3A{S}%40h%2F",
        f'{{"url": "http:\\/\\/u:{S}@h"}}',
        f"http://h/?auth={S}",
        f"?auth={S}",
        f"http://h/?x=1&sig={S}&se=1",
        f"http://h/?%74oken={S}",
        f"http://h/?access%5Ftoken={S}",
        f"http://h/?key={S}",
        f"http://h/?session={S}",
        f"https://b.s3/x?X-Amz-Signature={S}",
        # Headers
        f"Authorization: Bearer {S}",
        f"authorization: bearer {S}",
        f'{{"Authorization": "Bearer {S}"}}',
        f'Proxy-Authorization: Digest username="{S}", response="{S}"',
        f"curl -H 'Authorization: token {S}' http://h",
        f'curl -H "PRIVATE-TOKEN: {S}"',
        f"Set-Cookie: hydra_session={S}; path=/",
        f"Cookie: a={S}; b={S}",
        f"X-Auth-Token: {S}",
        f"Bearer {S}",
        "Basic dXNlcjpTZUNyRXQw",
        # JSON, within JSON and over lines
        f'{{"password": "{S}"}}',
        f"{{'token': '{S}'}}",
        f'{{"password":"a\\"b {S}"}}',
        f'{{\\"password\\": \\"{S}\\"}}',
        f'"password":\n  "{S}\nmore {S}"',
        f'"password": "{S}',
        f'{{"apiKey": "{S}"}}',
        # Assignments
        f"api_key={S}",
        f"FOO_PASSWORD='{S} x'",
        f"password = {S}",
        f"client_secret: {S}",
        f"hydra_session={S}",
        f"session_id={S}",
        f"JSESSIONID={S}",
        f"sig={S}",
        f"%74oken={S}",
        f"passwd=>{S}",
        f"access-tokens = github.com={S} gitlab.com=PAT:{S}",
        f"--option access-tokens github.com={S}",
        f"--setenv=NIX_CONFIG=access-tokens = github.com={S}",
        f"--password {S}",
        f"--token={S}",
        f"--token {S}",
        # netrc
        f"machine h login u password {S}",
        f"machine h\n  login u\n  password {S}\n",
        "default login u password plain",
        f"password {S}",
        "password plain",
        f"the password {S} was refused",
        f"passphrase '{S}'",
        "token SeCrEt01234567",
        # Forms of their own
        "ghp_0123456789abcdefSeCrEt0",
        "github_pat_0123456789abcdefSeCrEt0",
        "glpat-0123456789abcdefSeCrEt0",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SeCrEt0",
        "cache-1:" + "SeCrEt0aaaaa" * 7 + "aa==",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}\n-----END OPENSSH PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{S}",
        "SeCrEt0/" * 8,
    ],
)
def test_whatever_stands_before_a_credential_it_is_not_shown(text):
    shown = str(hide_secrets(text))

    assert "***" in shown
    assert S not in shown
    assert "plain" not in shown
    assert "dXNlcjpTZUNyRXQw" not in shown


@pytest.mark.parametrize(
    "text",
    [
        STORE_PATH,
        f"missing token: {STORE_PATH}",
        f"narHash={HASH}",
        f"git+https://h/r?ref=main&rev={'a1' * 20}&narHash=sha256-UROs%3D&dir=sub",
        f"github:o/r/{'a1' * 20}?narHash={HASH}",
        f"error: hash mismatch in fixed-output derivation: specified: {HASH} got: {HASH}",
        f"trusted-public-keys = {PUBLIC_KEY}",
        "0123456789abcdef" * 4,
        "git+ssh://git@github.com/o/r",
        "ssh-ng://builder@host",
        "git@github.com:o/r.git",
        "http://hydra:3000/job/p/j/x@y",
        "http://10.0.0.1:8080/a@b",
        "https://h/path@2x.png",
        "token_file = /run/secrets/x",
        '"token_file": "/run/x"',
        "secret-missing: the file does not exist",
        "pam_unix(sudo:session): session opened for user root",
        "Password for 'https://github.com': ",
        "password authentication failed",
        "Basic authentication failed",
        'WWW-Authenticate: Bearer realm="hydra"',
        "libsecret: 0.21.4 → 0.21.5",
        "gnome-session: 46 → 47",
        "pass: 1.7.4 → 1.8",
        "git-credential: ∅ → 1.8, +3 KiB",
        "oauth2-proxy: 7.5 → 7.6",
        "author = Bob",
        "AuthError: no",
        "started session-c1.scope",
        "compass=3 passed=4 assigned=5 bypass=1 design: 2",
        "--no-update-lock-file --option substitute true",
        '"token_file": ["/run/x"], token_file%3D/run/x, <b>fine</b>',
        "github:o/sk-learning-with-nix-2/main",
        "hmac-sha2-256, laptop: ok, otp-service.service failed",
        "syntax error: <token> expected, <session> seen</p>",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@host",
    ],
)
def test_what_is_plain_for_everybody_is_shown(text):
    assert hide_secrets(text) == text
    assert not has_secret(text)


@given(st.text(alphabet="ab:/@?&=%\"\\'- \n", max_size=300))
def test_hiding_ends_for_whatever_text(text):
    once = hide_secrets(text)

    assert isinstance(once, str)


def test_a_text_of_a_stranger_is_cut_in_its_middle():
    text = "begins" + "x" * 4_000_000 + "ends"

    shown = bounded(text)

    assert len(shown) < LONGEST + 100
    assert shown.startswith("begins")
    assert shown.endswith("ends")
    assert f"{4_000_010 - LONGEST} characters" in shown
    assert bounded("short") == "short"


def test_a_credential_at_the_cut_is_hidden_before_it_is_cut():
    text = "x" * (LONGEST // 2 - 4) + " password=" + "k" * 40 + " " + "y" * LONGEST

    assert "kk" not in str(presentable(text))


def test_what_is_presented_is_bounded_in_whatever_holds_it():
    shown = presentable({"a": ["x" * 10_000, 7], "b": list(range(5000))}, longest=100)

    assert isinstance(shown, dict)
    assert len(shown["a"][0]) < 200
    assert shown["a"][1] == 7
    assert shown["b"] == [*range(1000), "…"]


def test_a_fault_keeps_neither_credentials_nor_megabytes():
    fault = HydraError(
        Kind.HYDRA_REDIRECT, f"to http://u:{S}/x@h/" + "x" * 4_000_000, hint=f"token={S}"
    )

    assert len(str(fault)) < 2 * LONGEST
    assert S not in str(fault)
    assert S not in fault.message + fault.hint + repr(fault.args)
