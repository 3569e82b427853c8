from __future__ import annotations

import pytest

from agent.adapters.http.proxies import ProxyError, proxy_for

PROXY = "http://proxy.example.org:3128"

# What curl 7.88 does with each, where it is not said otherwise.
EXEMPT = [
    ("http://a.example.org/", "*"),
    ("http://a.example.org/", "a.example.org"),
    ("http://a.example.org/", "A.EXAMPLE.ORG"),
    ("http://A.Example.org/", "a.example.org"),
    ("http://a.example.org/", "example.org"),
    ("http://a.example.org/", ".example.org"),
    ("http://a.example.org/", "example.org."),
    ("http://a.example.org./", "example.org"),
    ("http://example.org/", ".example.org"),
    ("http://a.example.org/", "org"),
    ("http://a.example.org/", "x,y, example.org"),
    ("http://a.example.org/", "x  example.org\ty"),
    ("http://10.1.2.3/", "10.1.2.3"),
    ("http://10.1.2.3/", "10.0.0.0/8"),
    ("http://10.1.2.3/", "10.1.2.3/32"),
    ("http://10.1.2.3/", "10.9.9.9/8"),
    ("http://[fd00::1]/", "fd00::1"),
    ("http://[fd00::1]/", "fd00::/8"),
    ("http://[fd00::1]/", "FD00:0:0::1"),
    ("http://[fe80::1%25eth0]/", "fe80::/10"),
    ("http://[::1]:3000/", "localhost,127.0.0.1,::1"),
    # curl only takes a lone `*`, no brackets, no ports and no /0; other programs do.
    ("http://a.example.org/", "x, *"),
    ("http://[::1]:3000/", "[::1]"),
    ("http://[::1]:3000/", "[::1]:3000"),
    ("http://[fd00::1]/", "[fd00::]/8"),
    ("http://[fd00::1]/", "[fd00::/8]"),
    ("http://[fe80::1%25eth0]/", "[fe80::1%eth0]"),
    ("http://10.1.2.3/", "0.0.0.0/0"),
    ("http://10.1.2.3:3000/", "10.1.2.3:3000"),
    ("http://a.example.org:3000/", "example.org:3000"),
    ("http://a.example.org/", "example.org:80"),
    ("https://a.example.org/", "example.org:443"),
]
NOT_EXEMPT = [
    ("http://a.example.org/", ""),
    ("http://a.example.org/", "b.example.org"),
    ("http://example.org/", "a.example.org"),
    ("http://myexample.org/", "example.org"),
    ("http://a.example.org/", "*.example.org"),
    ("http://a.example.org/", "..example.org"),
    ("http://a.example.org/", ","),
    ("http://a.example.org/", "."),
    ("http://a.example.org/", "10.0.0.0/8"),
    ("http://a.example.org/", "http://a.example.org"),
    ("http://a.example.org:3001/", "example.org:3000"),
    ("http://10.1.2.3/", "11.0.0.0/8"),
    ("http://10.1.2.3/", "10.1.2.3/33"),
    ("http://10.1.2.3/", "10.0.0.0/x"),
    ("http://10.1.2.3/", ".2.3"),
    ("http://10.1.2.3/", "10.*"),
    ("http://10.1.2.3/", "::/0"),
    ("http://127.0.0.1/", "localhost"),
    ("http://localhost/", "127.0.0.1"),
    ("http://[fd00::1]/", "fe80::/10"),
    ("http://[fd00::1]/", "[]"),
    ("http://[fd00::1]/", "10.0.0.0/8"),
]


@pytest.mark.parametrize(("url", "exempt"), EXEMPT)
def test_what_no_proxy_names_is_asked_directly(url, exempt):
    assert proxy_for(url, {"all_proxy": PROXY, "no_proxy": exempt}) is None


@pytest.mark.parametrize(("url", "exempt"), NOT_EXEMPT)
def test_what_no_proxy_does_not_name_is_asked_through_the_proxy(url, exempt):
    assert proxy_for(url, {"all_proxy": PROXY, "no_proxy": exempt}) == PROXY


@pytest.mark.parametrize(
    ("url", "environment", "chosen"),
    [
        ("http://a/", {}, None),
        ("http://a/", {"http_proxy": "http://p"}, "http://p"),
        ("http://a/", {"HTTP_PROXY": "http://p"}, "http://p"),
        ("http://a/", {"Http_Proxy": "http://p"}, "http://p"),
        ("http://a/", {"HTTP_PROXY": "http://q", "http_proxy": "http://p"}, "http://p"),
        ("http://a/", {"Http_Proxy": "http://q", "HTTP_PROXY": "http://p"}, "http://p"),
        ("http://a/", {"https_proxy": "http://p"}, None),
        ("https://a/", {"https_proxy": "http://p", "http_proxy": "http://q"}, "http://p"),
        ("https://a/", {"https_proxy": "http://p", "all_proxy": "http://q"}, "http://p"),
        ("https://a/", {"https_proxy": "", "ALL_PROXY": "http://q"}, "http://q"),
        ("https://a/", {"https_proxy": " ", "HTTPS_PROXY": "http://q"}, "http://q"),
        ("https://a/", {"https_proxy": ""}, None),
        ("http://a/", {"http_proxy": "http://p", "NO_PROXY": "a"}, None),
        ("http://a/", {"http_proxy": "http://p", "no_proxy": "", "NO_PROXY": "a"}, None),
        ("http://a/", {"http_proxy": "http://p", "no_proxy": "b", "NO_PROXY": "a"}, "http://p"),
        ("HTTP://a/", {"http_proxy": "http://p"}, "http://p"),
    ],
)
def test_the_variable_for_the_scheme_comes_first(url, environment, chosen):
    assert proxy_for(url, environment) == chosen


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("p:3128", "http://p:3128"),
        ("p", "http://p"),
        ("HTTP://P:3128/", "http://P:3128/"),
        ("https://p:3128", "https://p:3128"),
        ("http://user:pass%40word@p:3128", "http://user:pass%40word@p:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("socks5://p:1080", "socks5://p:1080"),
        ("socks5h://p:1080", "socks5://p:1080"),
        (" http://p:3128 ", "http://p:3128"),
    ],
)
def test_a_proxy_is_written_with_or_without_its_scheme(written, used):
    assert proxy_for("http://a/", {"http_proxy": written}) == used


@pytest.mark.parametrize(
    "written",
    [
        "socks4://p",
        "nonsense://p",
        "direct://",
        "http://",
        "http://:3128",
        "http://[::1",
        "http://p:99999",
        "http://p:0",
        "http://p:x",
        "http://p q",
        "http://p\x01q",
    ],
)
def test_what_is_no_proxy_is_refused_by_the_name_of_its_variable_alone(written):
    with pytest.raises(ProxyError, match=r"^HTTP_PROXY: ") as caught:
        proxy_for("http://a/", {"HTTP_PROXY": written.replace("//", "//user:hunter2@")})
    assert "hunter2" not in str(caught.value)
    assert proxy_for("http://a/", {"HTTP_PROXY": written, "no_proxy": "a"}) is None
