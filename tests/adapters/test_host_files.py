"""What the host's unit files, loader entries, links and routes tell."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.host_root import Root


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path.resolve())


# Switch inhibitors


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"dbus": "broker"}\n', {"dbus": '"broker"'}),
        ("{}", {}),
        (
            '{"a": 1, "b": {"y": 2, "x": 1}, "c": null, "d": "1"}',
            {"a": "1", "b": '{"x": 1, "y": 2}', "c": "null", "d": '"1"'},
        ),
        ("", None),
        ("garbage", None),
        ('{"dbus": "broker"', None),
        ('["dbus"]', None),
        ('"dbus"', None),
        ("null", None),
        (b'{"dbus": "\xff"}', None),
        ("[" * 100_000, None),
        ('{"dbus": ' + "9" * 10_000 + "}", None),
        ('{"dbus": "' + "x" * (1 << 20) + '"}', None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_switch_inhibitors_say(root, text, found):
    root.add("a")
    root.inhibitors("a", text)
    assert root.host.switch_inhibitors(root.name("a")) == found


def test_switch_inhibitors_that_cannot_be_opened_are_unknown(root):
    root.add("a")
    Path(root.name("a"), "switch-inhibitors").symlink_to(root.path / "nowhere")
    root.add("b")
    Path(root.name("b"), "switch-inhibitors").mkdir()
    assert root.host.switch_inhibitors(root.name("a")) is None
    assert root.host.switch_inhibitors(root.name("b")) is None


# Units


def touched(root):
    return root.host.touched_units(root.name("a"), root.name("b"))


def test_a_drop_in_is_part_of_its_unit(root):
    for letter, text in (("a", "1"), ("b", "2")):
        root.unit(letter, "x.service", "[Unit]")
        root.unit(letter, "x.service.d/overrides.conf", text)
    assert touched(root) == {"x.service"}


def test_a_drop_in_that_has_gone_changes_its_unit(root):
    for letter in "ab":
        root.unit(letter, "x.service", "[Unit]")
    root.unit("a", "x.service.d/overrides.conf", "1")
    assert touched(root) == {"x.service"}


def test_who_wants_a_unit_does_not_change_it(root):
    for letter in "ab":
        root.unit(letter, "x.service", "[Unit]")
    for directory in ("multi-user.target.wants", "x.service.requires", "x.service.upholds"):
        link = root.unit("b", f"{directory}/placeholder", "")
        link.with_name("x.service").symlink_to("../x.service")
    assert touched(root) == frozenset()


def test_a_template_counts_as_itself(root):
    root.unit("a", "getty@.service", "1")
    root.unit("b", "getty@.service", "2")
    assert touched(root) == {"getty@.service"}


def test_units_are_told_apart_by_what_is_in_them_and_not_by_where_they_lie(root):
    for letter in "ab":
        target = root.unit(letter, "../elsewhere/x.service", "[Unit]")
        root.unit(letter, "y.service", "[Unit]").with_name("x.service").symlink_to(target)
    assert touched(root) == frozenset()


def test_a_masked_unit_is_a_changed_one(root):
    masked = root.unit("b", "x.service", "[Unit]")
    root.unit("a", "x.service", "[Unit]")
    masked.unlink()
    masked.symlink_to("/dev/null")
    assert touched(root) == {"x.service"}


def test_a_dangling_unit_is_no_unit(root):
    root.unit("a", "x.service", "").with_name("gone.service").symlink_to("nowhere")
    assert not root.host.has_unit(root.name("a"), "gone.service")
    assert root.host.has_unit(root.name("a"), "x.service")


# When it was changed


def at(link, hour):
    stamp = datetime(2026, 11, 21, hour, tzinfo=UTC).timestamp()
    os.utime(link, (stamp, stamp), follow_symlinks=False)


@pytest.mark.parametrize("profile_moved_at", [3, 5])
def test_the_host_was_changed_when_the_later_link_was_made(root, profile_moved_at):
    root.current.symlink_to(root.add("a"))
    root.generation(1, root.name("a"))
    at(root.current, 4)
    at(root.profile, profile_moved_at)
    assert root.host.changed_at() == datetime(2026, 11, 21, max(4, profile_moved_at), tzinfo=UTC)


def test_a_host_without_links_was_never_changed(root):
    assert root.host.changed_at() is None
    root.current.symlink_to("nowhere")
    at(root.current, 4)
    assert root.host.changed_at() == datetime(2026, 11, 21, 4, tzinfo=UTC)


# Gateways

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
SECOND = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
ON_LINK = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
HALF = "wg0\t00000000\t010A0A0A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
WITHOUT_GATEWAY = "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"


def route_6(destination, length, gateway, device="eth0"):
    zero = "0" * 32
    numbers = "00000400 00000001 00000000 00000003"
    return f"{destination} {length} {zero} 00 {gateway} {numbers}     {device}\n"


ZERO = "0" * 32
GLOBAL = "20010db8000000000000000000000001"
LINK_LOCAL = "fe800000000000000000000000000001"


@pytest.mark.parametrize(
    ("routes", "routes_6", "gateways"),
    [
        (HEADER + DEFAULT + ON_LINK, "", ("192.0.2.1",)),
        (HEADER + ON_LINK + DEFAULT + SECOND + DEFAULT, "", ("192.0.2.1", "192.168.1.1")),
        (HEADER + HALF, "", ()),
        (HEADER + WITHOUT_GATEWAY, "", ()),
        ("", route_6(ZERO, "00", GLOBAL), ("2001:db8::1",)),
        ("", route_6(ZERO, "00", LINK_LOCAL, "eth1"), ("fe80::1%eth1",)),
        ("", route_6(ZERO, "00", ZERO, "lo") + route_6(ZERO, "01", GLOBAL), ()),
        ("", route_6(GLOBAL, "40", GLOBAL), ()),
        (HEADER + DEFAULT, route_6(ZERO, "00", GLOBAL), ("192.0.2.1", "2001:db8::1")),
        (HEADER + "eth0\t00000000\n\n", "nonsense\n\n", ()),
    ],
)
def test_gateways_are_those_of_the_default_routes(root, routes, routes_6, gateways):
    (root.path / "net").mkdir()
    (root.path / "net/route").write_text(routes)
    (root.path / "net/ipv6_route").write_text(routes_6)
    assert root.host.default_gateways() == gateways


def test_a_host_without_a_network_has_no_gateway(root):
    assert root.host.default_gateways() == ()


@pytest.mark.skipif(not Path("/proc/net/route").exists(), reason="no routes of the kernel here")
def test_the_kernels_own_routes_are_understood(root):
    (root.path / "net").symlink_to("/proc/net")
    told = Path("/proc/net/route").read_text().splitlines()[1:]
    has_gateway = any(line.split()[1] == "00000000" != line.split()[2] for line in told)
    assert any("." in gateway for gateway in root.host.default_gateways()) is has_gateway
