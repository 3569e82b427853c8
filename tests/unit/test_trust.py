"""What nix may fetch, judged by names alone: references, lock files, declarations, prefixes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from agent.application.facts.fetchable import require_fetchable
from agent.domain.errors import Kind, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.origin import Origin, UrlPrefix, parse_url_prefix, source_of_reference
from agent.domain.outcome import Outcome
from agent.domain.policy import Strategy
from agent.domain.trust import FlakeSource, refusals_of_update, wanted_of_source
from fakes.samples import OLD
from fakes.world import WATCHFUL, World, flake_of, system

REV = "f3ed865737b93fca3fb8dbdb6c9e001e8dc25611"
HASH = "narHash=sha256-UROs5vGHM90udW7p3yRQRMgg9ygUyTiJscJawWB2Gg4%3D"
GOOD = f"github:o/r/{REV}"
GIT = {"type": "git", "url": "https://h.example/r", "rev": REV}
TWICE = (
    '{"nodes": {"root": {}, "a": {"locked": {"type": "path", "path": "/x", "type": "git",'
    ' "url": "https://h.example/r"}}}, "root": "root"}'
)


def lock(*nodes: dict, **more) -> str:
    named = {f"n{at}": node for at, node in enumerate(nodes)}
    root = {"inputs": {name: name for name in named}}
    return json.dumps({"nodes": {"root": root, **named}, "root": "root", "version": 7, **more})


def fault_of(
    flake: str, source: FlakeSource | None = None, allowed: tuple[str, ...] = (), **known
) -> NixError | None:
    world = World()
    world.resolver.known.update(known)
    if source is not None:
        world.nix.sources[flake] = source
    prefixes = tuple(parse_url_prefix(prefix) for prefix in allowed)
    try:
        asyncio.run(require_fetchable(world.ports, prefixes, LockedFlakeReference(flake)))
    except NixError as error:
        return error
    return None


def fault_of_lock(*nodes: dict, allowed: tuple[str, ...] = (), **known) -> NixError | None:
    return fault_of(GOOD, FlakeSource(lock(*nodes), "{}"), allowed, **known)


@pytest.mark.parametrize(
    "flake",
    [
        GOOD,
        f"gitlab:group%2Fsub/r/{REV}?host=gitlab.example.org",
        f"sourcehut:~user/r/{REV}",
        f"git+https://forge.example.org/o/r?rev={REV}",
        f"git+https://forge.example.org:8443/o/r?rev={REV}",
        f"git+ssh://git@forge.example.org/o/r?rev={REV}",
        f"hg+https://hg.example.org/r?rev={REV}",
        f"hg+ssh://hg@hg.example.org/r?rev={REV}",
        f"https://example.org/f.tar.gz?{HASH}",
        f"tarball+https://example.org/f?{HASH}",
        f"file+https://example.org/f?{HASH}",
        f"git+https://10.0.0.7/r?rev={REV}",
        f"git+https://192.168.1.7/r?rev={REV}",
        f"git+https://[fd00::7]/r?rev={REV}",
        f"git+https://[2001:db8::1]:8443/r?rev={REV}",
        f"git+https://7.example.org/r?rev={REV}",
    ],
)
def test_what_is_remote_and_comes_over_tls_or_ssh_is_fetched(flake):
    assert fault_of(flake) is None


@pytest.mark.parametrize(
    "flake",
    [
        f"path:/root/.ssh?{HASH}",
        f"path:///root/.ssh?{HASH}",
        f"path://localhost/root/.ssh?{HASH}",
        f"path:/root/%2Essh?{HASH}",
        f"path:.?{HASH}",
        f"/root/.ssh?{HASH}",
        f"file:///root/x.tar.gz?{HASH}",
        f"file:/root/x.tar.gz?{HASH}",
        f"tarball+file:///root/x?{HASH}",
        f"file+file:///root/x?{HASH}",
        f"git+file:///root/r?rev={REV}",
        f"git+file:/root/r?rev={REV}",
        f"git+file:.?rev={REV}",
        f"hg+file:///root/r?rev={REV}",
        f"http://127.0.0.1/x.tar.gz?{HASH}",
        f"http://example.org/x.tar.gz?{HASH}",
        f"tarball+http://example.org/x?{HASH}",
        f"file+http://example.org/x?{HASH}",
        f"git+http://example.org/r?rev={REV}",
        f"git://example.org/r?rev={REV}",
        f"git:example.org/r?rev={REV}",
        f"git+git://example.org/r?rev={REV}",
        f"hg+http://example.org/r?rev={REV}",
        f"git+ext::sh?rev={REV}",
        f"ftp://example.org/x.tar.gz?{HASH}",
        f"s3://bucket/x.tar.gz?{HASH}",
        f"ssh://example.org/r?rev={REV}",
        f"PATH:/root/.ssh?{HASH}",
        f"GIT+https://example.org/r?rev={REV}",
        f"flake:nixpkgs/{REV}",
        f"nixpkgs/{REV}",
    ],
)
def test_what_is_local_plain_or_unknown_is_not(flake):
    fault = fault_of(flake)

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain"),
        *("127.0.0.1", "127.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7F.1"),
        *("017700000001", "0177.0.0.1", "127.0.0.1.", "0", "0.0.0.0", "0.1.2.3"),
        *("169.254.169.254", "169.254.1.1", "0xa9fea9fe", "224.0.0.1", "255.255.255.255"),
        *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[ff02::1]"),
        *("ip6-localhost", "ip6-loopback"),
        # No address at all, and yet the resolver would try to read one.
        *("999.1", "1.2.3.4.5", "08.1", "256", "1.2.3.256", "4294967296", "[:::]"),
        *("-oProxyCommand", "", "a%2fb", "127.0.0.1%2f", "[fe80::1%25eth0]"),
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        "git+https://{}/r?rev=" + REV,
        "git+ssh://git@{}:2222/r?rev=" + REV,
        "https://{}:443/x.tar.gz?" + HASH,
        "github:o/r/" + REV + "?host={}",
    ],
)
def test_a_host_that_is_this_one_or_none_is_not_asked_however_it_is_spelt(form, host):
    if host == "" and "host=" in form:
        host = "%6c%6f%63%61%6c%68%6f%73%74"  # an empty one is as good as none
    fault = fault_of(form.format(host))

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


def test_one_of_two_hosts_is_not_taken_for_the_host():
    fault = fault_of(f"github:o/r/{REV}?host=github.com&host=localhost")

    assert fault is not None
    assert "several hosts" in fault.message


def test_a_name_that_leads_to_this_host_is_not_asked():
    for leads_to in ("127.0.0.2", "::1", "fe80::1%2", "::ffff:169.254.169.254"):
        known = {"forge.example.org": ("192.0.2.7", leads_to)}
        fault = fault_of(f"git+https://forge.example.org/o/r?rev={REV}", **known)

        assert fault is not None
        assert fault.kind is Kind.FLAKE_INSECURE
        assert 'trust.allow_insecure = ["git+https://forge.example.org/o/r"]' in fault.hint


def test_a_name_that_leads_to_a_private_network_is_asked():
    known = {"forge.lan": ("10.1.2.3", "fd00::1")}

    assert fault_of(f"git+https://forge.lan/o/r?rev={REV}", **known) is None


def test_a_name_without_an_address_is_left_to_nix():
    assert fault_of(f"git+ssh://alias/o/r?rev={REV}", alias=()) is None


def test_a_name_that_cannot_be_resolved_now_holds_the_fetch():
    fault = fault_of(f"git+https://h/o/r?rev={REV}", h=None)

    assert fault is not None
    assert "it is unknown now where the name h leads" in fault.message
    assert "allow_insecure" not in fault.hint


@pytest.mark.parametrize(
    "flake",
    [
        f"git+https://user:hunter2@example.org/r?rev={REV}",
        f"git+https://ghp_0123456789abcdef@example.org/r?rev={REV}",
        f"git+ssh://git:hunter2@example.org/r?rev={REV}",
        f"git+ssh://git%3Ahunter2@example.org/r?rev={REV}",
        f"https://example.org/x.tar.gz?access_token=hunter2&{HASH}",
        f"https://example.org/x.tar.gz?%74oken=hunter2&{HASH}",
    ],
)
def test_a_password_or_a_token_is_never_an_argument_of_nix(flake):
    fault = fault_of(flake)

    assert fault is not None
    assert fault.kind is Kind.FLAKE_HAS_LOGIN
    assert "hunter2" not in str(fault)
    assert fault.message == (
        "refusing a flake reference of Hydra's eval, or of a flake.nix, which has a password or a"
        " token in it: everybody on this host could read it among the arguments of nix"
    )
    assert fault.hint == "nix takes passwords from its netrc-file, and tokens from access-tokens"


# Prefixes


@pytest.mark.parametrize(
    ("flake", "prefix"),
    [
        (f"path:/srv/hosts?{HASH}", "path:/srv/hosts"),
        (f"path:/srv/hosts?{HASH}", "path:/srv"),
        (f"path:/srv/hosts/?{HASH}", "path:/srv/"),
        (f"path:/%73rv/hosts?{HASH}", "path:/srv"),
        (f"git+file:///srv/hosts?rev={REV}", "git+file:///srv"),
        (f"http://h.lan/a/x.tar.gz?{HASH}", "http://h.lan"),
        (f"tarball+http://h.lan/a/x?{HASH}", "http://h.lan/a"),
        (f"http://H.lan:80/a/x.tar.gz?{HASH}", "http://h.LAN/a/"),
        (f"http://127.0.0.1:8080/x.tar.gz?{HASH}", "http://127.0.0.1:8080"),
        (f"git+https://localhost/o/r?rev={REV}", "git+https://localhost/o"),
        (f"git+ssh://git@localhost/o/r?rev={REV}", "git+ssh://localhost/o/r"),
        (f"github:o/r/{REV}?host=localhost", "https://localhost/o/r"),
        (f"git://h.lan/r?rev={REV}", "git://h.lan/r"),
    ],
)
def test_a_prefix_stands_for_itself_and_what_is_below(flake, prefix):
    assert fault_of(flake, None, (prefix,)) is None


@pytest.mark.parametrize(
    ("flake", "prefix"),
    [
        (f"path:/srv/hosts-of-others?{HASH}", "path:/srv/hosts"),
        (f"path:/srv/hosts/../../root?{HASH}", "path:/srv/hosts"),
        (f"path:/srv/hosts/%2e%2e/%2e%2e/root?{HASH}", "path:/srv/hosts"),
        (f"path:/srv/hosts/..%2f..%2froot?{HASH}", "path:/srv/hosts"),
        (f"path:/srv/hosts/./x?{HASH}", "path:/srv/hosts"),
        (f"path:/srv//hosts?{HASH}", "path:/srv"),
        (f"path:/SRV/hosts?{HASH}", "path:/srv"),
        (f"path:/srv?{HASH}", "path:/srv/hosts"),
        (f"git+file:///srv/hosts?rev={REV}", "path:/srv/hosts"),
        (f"git+file:///srv/hosts?rev={REV}", "file:///srv/hosts"),
        (f"http://h.lan.evil.example/x.tar.gz?{HASH}", "http://h.lan"),
        (f"http://evil.example/h.lan/x.tar.gz?{HASH}", "http://h.lan"),
        (f"http://h.lan:8080/x.tar.gz?{HASH}", "http://h.lan"),
        (f"http://127.0.0.1:80/x.tar.gz?{HASH}", "http://127.0.0.1:8080"),
        (f"git+http://h.lan/r?rev={REV}", "http://h.lan"),
        (f"http://h.lan/x.tar.gz?{HASH}", "https://h.lan"),
        (f"https://localhost/x.tar.gz?{HASH}", "http://localhost"),
        (f"git+https://127.0.0.1/o/r?rev={REV}", "git+https://localhost/o"),
    ],
)
def test_a_prefix_stands_for_nothing_else(flake, prefix):
    fault = fault_of(flake, None, (prefix,))

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


def test_a_user_part_makes_no_other_host_the_allowed_one():
    source = source_of_reference(f"http://127.0.0.1:80@evil.example/x.tar.gz?{HASH}")

    assert isinstance(source, Origin)
    assert source.host == "evil.example"
    for prefix in ("http://127.0.0.1", "http://evil.example"):
        allowed = source_of_reference(prefix)
        assert isinstance(allowed, Origin)
        assert not source.is_below(allowed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "path:", "path:/", "path:.", "path:srv", "git+file:///", "file:///", "/srv"),
        *("http:", "http://", "http:///srv", "https:", "ftp://h", "http://h/?x", "http://h/#x"),
        *("http://u@h/", "http://u:p@h/", "http://h/a/../b", "http://h//a", "path:/srv/%2e%2e"),
        *("http://*.lan/", "http://h .lan", "http://h:x/", "true", "git+file://h/srv"),
    ],
)
def test_a_prefix_that_stands_for_everything_or_nothing_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_url_prefix(text)


@pytest.mark.parametrize(
    ("flake", "line"),
    [
        (f"path:/root/.ssh?{HASH}", 'trust.allow_insecure = ["path:/srv", "path:/root/.ssh"]'),
        (
            f"http://h.lan/archive/{REV}.tar.gz?{HASH}",
            'trust.allow_insecure = ["path:/srv", "http://h.lan/archive"]',
        ),
        (
            f"git+http://[fd00::1]:3000/o/r?rev={REV}",
            'trust.allow_insecure = ["path:/srv", "git+http://[fd00::1]:3000/o/r"]',
        ),
    ],
)
def test_a_refusal_says_the_very_line_that_would_allow_it(flake, line):
    fault = fault_of(flake, None, ("path:/srv",))

    assert fault is not None
    assert line in fault.hint
    (prefix,) = json.loads(line.partition(" = ")[2])[1:]
    assert fault_of(flake, None, ("path:/srv", prefix)) is None


@pytest.mark.parametrize(
    ("path", "has_to_move"),
    [
        *(("/etc/nixos", True), ("/home/ann/base", True), ("/base", True)),
        *(("/srv/base", False), ("/srv/flakes/base", False)),
    ],
)
def test_an_input_that_nix_cannot_evaluate_where_it_is_has_to_move_besides(path, has_to_move):
    fault = fault_of_lock({"locked": {"type": "path", "path": path}})

    assert fault is not None
    line, _, rest = fault.hint.partition("; ")
    assert line.endswith(f'trust.allow_insecure = ["path:{path}"]')
    assert (f"move path:{path} to below /srv/flakes" in rest) is has_to_move
    assert bool(rest) is has_to_move


def test_a_flake_itself_may_stay_where_it_is():
    fault = fault_of(f"path:/etc/nixos?{HASH}")

    assert fault is not None
    assert fault.hint.endswith('trust.allow_insecure = ["path:/etc/nixos"]')


def test_what_no_line_would_allow_gets_none():
    fault = fault_of(f"path:/srv/../root?{HASH}")

    assert fault is not None
    assert fault.hint == "nothing was fetched"


# Lock files


@pytest.mark.parametrize(
    "node",
    [
        {"locked": {"type": "path", "path": "/root/.ssh", "narHash": "x"}},
        {"locked": {"type": "path", "path": "../outside"}, "parent": []},
        {"locked": {"type": "path", "path": "sub/../../outside"}},
        {"locked": {"type": "tarball", "url": "file:///root/x.tar.gz"}},
        {"locked": {"type": "tarball", "url": "http://127.0.0.1/x.tar.gz"}},
        {"locked": {"type": "tarball", "url": "ftp://h.example/x.tar.gz"}},
        {"locked": {"type": "tarball", "url": "tarball+https://h.example/x.tar.gz"}},
        {"locked": {"type": "file", "url": "file:///root/x"}},
        {"locked": {"type": "file", "url": "http://h.example/x"}},
        {"locked": {"type": "git", "url": "file:///root/r", "rev": REV}},
        {"locked": {"type": "git", "url": "/root/r", "rev": REV}},
        {"locked": {"type": "git", "url": "http://h.example/r", "rev": REV}},
        {"locked": {"type": "git", "url": "git://h.example/r", "rev": REV}},
        {"locked": {"type": "git", "url": "ext::sh -c id", "rev": REV}},
        {"locked": {"type": "git", "url": "git@localhost:r", "rev": REV}},
        {"locked": {"type": "git", "url": "ssh://-oProxyCommand=id/r", "rev": REV}},
        {"locked": {"type": "hg", "url": "file:///root/r", "rev": REV}},
        {"locked": {"type": "hg", "url": "http://h.example/r", "rev": REV}},
        {"locked": {"type": "github", "owner": "o", "repo": "r", "host": "localhost"}},
        {"locked": {"type": "gitlab", "owner": "o", "repo": "r", "host": "[::1]"}},
        {"locked": {"type": "github", "owner": "o", "repo": "r", "host": 7}},
        {"locked": {"type": "indirect", "id": "nixpkgs", "rev": REV}},
        {"locked": {"type": "unheard-of", "url": "https://h.example/r"}},
        {"locked": {"url": "https://h.example/r"}},
        {"locked": {"type": "git"}},
        {"locked": {**GIT}, "info": {"url": "file:///root/r"}},
        {"locked": {"url": "file:///root/r"}, "info": {**GIT}},
        {"locked": "path:/root/.ssh"},
        {"inputs": {}},
        "a node",
        {"locked": {"type": "path", "path": "./x"}, "parent": ["nonesuch"]},
    ],
)
def test_an_input_of_the_lock_file_is_judged_before_it_is_fetched(node):
    fault = fault_of_lock({"locked": GIT}, node)

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


@pytest.mark.parametrize(
    "node",
    [
        {"locked": {"type": "path", "path": "./sub", "narHash": "x"}},
        {"locked": {"type": "path", "path": "sub/deeper"}, "parent": []},
        {"locked": {"type": "path", "path": "../outside"}, "parent": ["n0"]},
        {"locked": {"type": "tarball", "url": "https://h.example/x.tar.gz"}},
        {"locked": {"type": "file", "url": "https://h.example/x"}},
        {"locked": {"type": "git", "url": "ssh://git@h.example/r", "rev": REV}},
        {"locked": {"type": "git", "url": "git@h.example:o/r", "rev": REV}},
        {"locked": {"type": "hg", "url": "ssh://h.example/r", "rev": REV}},
        {"locked": {"type": "github", "owner": "o", "repo": "r", "rev": REV}},
        {"locked": {"type": "sourcehut", "owner": "~o", "repo": "r", "rev": REV}},
        {"locked": {**GIT}, "info": {"lastModified": 1, "narHash": "x"}},
    ],
)
def test_an_input_from_abroad_or_of_the_flake_itself_is_fetched(node):
    assert fault_of_lock({"locked": {**GIT, "dir": "deep/flake"}}, node) is None


def test_a_relative_path_is_seen_from_the_flake_that_names_it():
    by_path = {"locked": {"type": "path", "path": "./a/b"}, "parent": []}
    above = {"locked": {"type": "path", "path": "../c"}, "parent": ["n0"]}
    outside = {"locked": {"type": "path", "path": "../../../c"}, "parent": ["n0"]}

    assert fault_of_lock(by_path, above) is None
    assert fault_of_lock(by_path, outside) is not None
    inside = FlakeSource(lock({"locked": {"type": "path", "path": "../lib"}}), "{}", "hosts")
    assert fault_of(GOOD, inside) is None


def test_relative_paths_are_seen_one_from_the_other():
    common = {"locked": {"type": "path", "path": "../common"}, "parent": []}
    within = {"locked": {"type": "path", "path": "./lib"}, "parent": ["n0"]}
    above = {"locked": {"type": "path", "path": "../../hosts"}, "parent": ["n0", "n1"]}
    outside = {"locked": {"type": "path", "path": "../../../etc"}, "parent": ["n1"]}

    def judged(*nodes: dict) -> NixError | None:
        return fault_of(GOOD, FlakeSource(lock(*nodes), "{}", "hosts"))

    named = {**common, "inputs": {"n1": "n1"}}
    assert judged(named, within, above) is None
    assert judged(named, within, outside) is not None

    rings = [{"locked": {"type": "path", "path": "."}, "parent": ["n0"]} for _ in range(2)]
    fault = judged(*rings)
    assert fault is not None
    assert "nested too deeply" in fault.message


def test_a_relative_path_is_found_along_inputs_that_follow_others():
    nodes = {
        "root": {"inputs": {"a": "a", "b": ["a", "deep"]}},
        "a": {"locked": {**GIT}, "inputs": {"deep": "c"}},
        "c": {"locked": {**GIT, "dir": "x/y"}},
        "d": {"locked": {"type": "path", "path": "../z"}, "parent": ["b"]},
    }
    text = json.dumps({"nodes": nodes, "root": "root"})
    assert fault_of(GOOD, FlakeSource(text, "{}")) is None

    nodes["root"]["inputs"]["b"] = ["b"]
    text = json.dumps({"nodes": nodes, "root": "root"})
    fault = fault_of(GOOD, FlakeSource(text, "{}"))
    assert fault is not None
    assert "circle" in fault.message


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "{}", '{"nodes": {}}', '{"nodes": [], "root": "root"}'),
        "[" * 100_000,
        TWICE,
        lock(*({"locked": GIT} for _ in range(10))) + " " * (4 * 1024 * 1024),
    ],
)
def test_a_lock_file_that_cannot_be_read_lets_nothing_be_fetched(text):
    fault = fault_of(GOOD, FlakeSource(text, "{}"))

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE
    assert "it is not clear what it names" in fault.message


def test_every_refused_input_is_named_and_allowed_by_one_line():
    nodes = [{"locked": {"type": "path", "path": f"/srv/{at}"}} for at in range(7)]
    fault = fault_of_lock(*nodes)

    assert fault is not None
    assert "the input 'n4' (path:/srv/4)" in fault.message
    assert "and 2 more" in fault.message
    allowed = tuple(json.loads(fault.hint.partition(" = ")[2]))
    assert len(allowed) == 7
    assert fault_of_lock(*nodes, allowed=allowed) is None


def test_an_inputs_name_that_leads_to_this_host_is_not_asked():
    fault = fault_of_lock({"locked": GIT}, **{"h.example": ("127.0.0.1",)})

    assert fault is not None
    assert "the input 'n0'" in fault.message


def test_an_update_may_go_on_with_what_was_committed_and_bring_nothing_else():
    def archive(version: str) -> dict:
        return {"locked": {"type": "tarball", "url": f"http://h.lan/archive/{version}.tar.gz"}}

    inside = {"locked": {"type": "path", "path": "../lib"}}
    before, after = lock(archive("1"), inside), lock(archive("2"), inside)
    worse = lock(archive("2"), {"locked": {"type": "path", "path": "/root/.ssh"}})

    assert refusals_of_update(before, after, ()) == ()
    (refused,) = refusals_of_update(before, worse, ())
    assert refused.prefix == "path:/root/.ssh"
    assert refusals_of_update(before, worse, (UrlPrefix("path:/root"),)) == ()


# What flake.nix declares


@pytest.mark.parametrize(
    "declared",
    [
        {"x": {"url": "path:/root/.ssh"}},
        {"x": {"url": "/root/.ssh"}},
        {"x": {"url": "../outside"}},
        {"x": {"url": "path:../outside"}},
        {"x": {"url": "git+file:///root/r"}},
        {"x": {"url": "http://h.example/x.tar.gz"}},
        {"x": {"url": "github:o/r?host=localhost"}},
        {"x": {"type": "path", "path": "/root/.ssh"}},
        {"x": {"url": "github:o/r", "inputs": {"y": {"url": "path:/root/.ssh"}}}},
        {"x": {"url": "github:o/r", "type": "path", "path": "/root/.ssh"}},
        {"x": {"url": "path:/root/.ssh", "type": "github", "owner": "o", "repo": "r"}},
        {"x": {"url": "file:///root/r", "type": "git"}},
        {"x": "path:/root/.ssh"},
        ["path:/root/.ssh"],
    ],
)
def test_what_the_lock_file_lacks_is_judged_as_it_is_declared(declared):
    fault = fault_of(GOOD, FlakeSource(lock(), json.dumps(declared)))

    assert fault is not None
    assert fault.kind is Kind.FLAKE_INSECURE


@pytest.mark.parametrize(
    "declared",
    [
        {"nixpkgs": {"url": "nixpkgs"}, "other": {"url": "flake:nixpkgs/nixos-26.05"}},
        {"nixpkgs": {"type": "indirect", "id": "nixpkgs"}, "bare": {}},
        {"x": {"url": "./sub"}, "y": {"url": "path:./sub?dir=a"}, "z": {"url": "."}},
        {"x": {"url": "github:o/r", "flake": False, "inputs": {"y": {"follows": "z"}}}},
        {"x": {"url": "git+ssh://git@h.example/r?ref=main"}, "self": {"submodules": True}},
        {"x": {"url": "https://h.example/latest.tar.gz"}},
        {"x": {"type": "git", "url": "ssh://git@h.example/r", "ref": "main"}},
        {"x": {"type": "git", "url": "git@h.example:r"}},
    ],
)
def test_what_is_declared_may_be_unlocked_for_the_lock_file_locks_it(declared):
    assert fault_of(GOOD, FlakeSource(None, json.dumps(declared))) is None


def test_inputs_of_inputs_end_somewhere():
    declared: dict = {}
    for _ in range(100):
        declared = {"x": {"inputs": declared}}
    with pytest.raises(NixError, match="nested too deeply"):
        wanted_of_source(FlakeSource(None, json.dumps(declared)))


def nested(levels):
    """Return what a flake.nix declares for the inputs of inputs, so many levels deep."""
    declared: dict = {"x": {"url": GOOD}}
    for _ in range(levels - 1):
        declared = {"x": {"inputs": declared}}
    return FlakeSource(None, json.dumps(declared))


def test_inputs_may_be_declared_to_a_depth_of_32():
    (found,) = wanted_of_source(nested(32))
    assert found.name == f"the input '{'/'.join('x' * 32)}' of flake.nix"
    with pytest.raises(NixError) as caught:
        wanted_of_source(nested(33))
    assert caught.value.message == (
        "refusing to fetch an input of the flake: it is not clear what it names: the inputs are"
        " nested too deeply"
    )
    assert caught.value.hint == "look at flake.nix and flake.lock"


def test_what_is_not_clear_is_quoted_in_part():
    with pytest.raises(NixError) as caught:
        wanted_of_source(FlakeSource(None, json.dumps({"x": {"url": f"{'y' * 900}://h/x"}})))
    said = caught.value.message.removeprefix(
        "refusing to fetch an input of the flake: it is not clear what it names: "
    )
    assert said == f"the type '{'y' * 290}"
    with pytest.raises(NixError, match=r"it is not clear what it names: TypeError \(look"):
        wanted_of_source(FlakeSource("[]", "{}"))


# In a run


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_nix_is_handed_no_flake_that_may_not_be_fetched(verify, dry_run):
    world = World()
    world.publish(1, system(1))
    world.jobset.evals[1001] = LockedFlakeReference(f"path:/root/.ssh?{HASH}")

    report = world.run(replace(WATCHFUL, verify=verify), dry_run=dry_run)

    assert report.error is not None
    assert report.error.kind is Kind.FLAKE_INSECURE
    assert report.exit_code == 65
    assert "fetch_source" not in world.steps
    assert "evaluate_toplevel" not in world.steps
    assert world.is_untouched()


@pytest.mark.parametrize("verify", [True, False])
def test_an_input_that_may_not_be_fetched_ends_the_run_before_anything_is_evaluated(verify):
    world = World()
    world.publish(1, system(1))
    bad = lock({"locked": {"type": "path", "path": "/root/.ssh"}})
    world.nix.sources[flake_of(1001)] = FlakeSource(bad, "{}")

    report = world.run(replace(WATCHFUL, verify=verify))

    assert report.error is not None
    assert report.error.kind is Kind.FLAKE_INSECURE
    assert "evaluate_toplevel" not in world.steps
    assert "nixos-rebuild build" not in world.steps

    policy = replace(WATCHFUL, verify=verify, allow_insecure=(UrlPrefix("path:/root/.ssh"),))
    assert [name for name, _ in world.run(policy).reasons] == ["suspect"]
    world.clock.move(600)
    assert world.run(policy).outcome is Outcome.CONFIRMED


def test_a_store_path_needs_no_flake_and_so_no_leave():
    world = World()
    world.publish(1, system(1))
    world.jobset.evals[1001] = LockedFlakeReference(f"path:/root/.ssh?{HASH}")

    report = world.run(replace(WATCHFUL, strategy=Strategy.STORE_PATH, verify=False))

    assert report.outcome is Outcome.CONFIRMED


def test_a_host_that_runs_the_candidate_already_is_not_troubled():
    world = World()
    world.publish(1, OLD)
    world.jobset.evals[1001] = LockedFlakeReference(f"path:/root/.ssh?{HASH}")

    assert world.run().outcome is Outcome.NOTHING_TO_DO
