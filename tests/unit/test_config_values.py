from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fields.values import (
    format_duration,
    format_size,
    parse_duration,
    parse_host,
    parse_http_url,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("3d", 259200),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m ", 5400),
        ("2 d", 172800),
        ("90", 90),
        ("0.5", 0.5),
        (90, 90),
        (0.25, 0.25),
        ("366d", 31622400),
        (timedelta(minutes=1), 60),
    ],
)
def test_a_duration_is_read_as_people_write_it(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "nonsense",
    [
        "", " ", "s", "5x", " 5m", "5 minutes", "-5m", "+5m", "1e3s", "5m!", "5m\0", "5M",
        "٣s", "٣", "\uff15m", "5µs", "0s", "0", "0.0000001s", "367d", "366d1ms", "9" * 400 + "d",
        "1s" * 100_000, "9" * 5000, True, False, 0, -1, 10**12, -(10**400), 10**400, 0.0, -0.5,
        math.nan, math.inf, -math.inf, None, [], {}, b"5m", timedelta(0), timedelta(days=400),
    ],
)  # fmt: skip
def test_nonsense_is_no_duration(nonsense):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(nonsense)


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=366)))
def test_what_is_formatted_as_a_duration_reads_back_as_the_same(duration):
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(86400, "1d"), (7200, "2h"), (5400, "90m"), (61, "61s"), (0.25, "0.25s"), (1e-6, "0.000001s")],
)
def test_a_duration_is_told_in_the_largest_unit_that_fits(seconds, text):
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_whatever_is_given_for_a_duration_is_read_or_refused(anything):
    try:
        found = parse_duration(anything)
    except ValueError:
        return
    assert timedelta(0) < found <= timedelta(days=366)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 << 20),
        ("1GiB", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("5 KiB", 5120),
        ("7B", 7),
        ("2TiB", 2 << 40),
        ("1024", 1024),
        (1024, 1024),
        (0, 0),
        ("0", 0),
        ((1 << 63) - 1, (1 << 63) - 1),
    ],
)
def test_a_size_is_read_as_people_write_it(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "nonsense",
    [
        "", "B", "-1", "-1KiB", "1.5", "1.KiB", "1MB", "1mib", "1 M", "٣KiB", "٣", "1KiB ", " 1KiB",
        "9" * 400 + "TiB", "9" * 5000, "9999999999TiB", 1 << 63, 10**30, -1, True, False, 1.5,
        math.nan, math.inf, None, [], {}, b"1KiB",
    ],
)  # fmt: skip
def test_nonsense_is_no_size(nonsense):
    with pytest.raises(ValueError, match="size"):
        parse_size(nonsense)


@given(st.integers(0, (1 << 63) - 1) | st.integers(0, 1 << 20).map(lambda n: n << 20))
def test_what_is_formatted_as_a_size_reads_back_as_the_same(size):
    assert parse_size(format_size(size)) == size


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_whatever_is_given_for_a_size_is_read_or_refused(anything):
    try:
        found = parse_size(anything)
    except ValueError:
        return
    assert 0 <= found < 1 << 63


@pytest.mark.parametrize(
    "host",
    [
        "web-1",
        "web-1.example.org",
        "web-1.example.org.",
        "_gateway",
        "a",
        "3com.example",
        "xn--bcher-kva.example",
        "192.0.2.1",
        "2001:db8::1",
        "::1",
        "fe80::1%eth0",
        "fe80::1%br-lan.7",
        "a." * 126 + "a",
    ],
)
def test_names_and_addresses_are_hosts(host):
    assert parse_host(host) == host


@pytest.mark.parametrize(
    "nonsense",
    [
        "", ".", "..", "-x", "x-", "--canary", "a..b", ".a", "a b", "a\n", "a\0", "a/b", "a:80",
        "http://a", "bücher.example", "[::1]", "1", "999.1.1.1", "1.2.3", "1.2.3.4.", "192.0.2.1/24",
        "fe80::1%", "fe80::1%a b", "fe80::1%eth0\n", "fe80::1%-\0", "a" * 64, "a." * 127, "user@host",
        "a" * 1_000_000, "a-" * 100_000,
    ],
)  # fmt: skip
def test_what_is_neither_name_nor_address_is_refused(nonsense):
    with pytest.raises(ValueError, match="is neither a host name nor an address"):
        parse_host(nonsense)


@pytest.mark.parametrize(
    "url",
    [
        "https://hydra.example.org",
        "http://hydra.example.org:3000/base/",
        "HTTPS://hydra.example.org./",
        "http://[2001:db8::1]:3000/x?y=z#f",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://my_host.xn--i-7iq.example/",
        "http://192.0.2.1",
        "http://h/@not-a-user",
        "http://h/?mail=a@b",
    ],
)
def test_plain_http_urls_are_accepted_as_they_stand(url):
    assert parse_http_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://user:hunter2@h/", "user name or password"),
        ("https://token@h/", "user name or password"),
        ("ftp://user:hunter2@h/", "user name or password"),
        ("https://user:hunter2@h/ x", "user name or password"),
        ("ftp://h/", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("h", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http:h", "not an http or https URL"),
        ("-http://h", "not an http or https URL"),
        ("http://h h/", "no spaces"),
        ("http://h/\n", "no spaces"),
        ("http://h/\0", "no spaces"),
        ("http://bücher.example/", "no spaces and only ASCII"),
        ("http://h:99999/", "Port out of range"),
        ("http://h:x/", "Port could not be cast"),
        ("http://[::1/", "Invalid IPv6 URL"),
        (
            "http://[v1.x]/",
            "only an IPv6 address may be in brackets|is neither a host name|Invalid IPv6",
        ),
        ("http://[1.2.3.4]/", "only an IPv6 address may be in brackets|An IPv4 address cannot be"),
        (f"http://h/{'x' * 9000}", "at most 8192 characters"),
        ("http://-x/", "is neither a host name"),
        ("http://a..b/", "is neither a host name"),
    ],
)
def test_other_urls_are_refused_and_a_password_is_never_repeated(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_http_url(url)
    assert "hunter2" not in str(caught.value)
