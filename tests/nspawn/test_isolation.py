"""A host cannot change the machine around it, and nothing of it is left when the tests end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nspawn import namespaces
from nspawn.namespaces import BRIDGE, FIRST_USER, USERS, Namespaces
from nspawn.systems import system

_TESTS = Path(__file__).parents[1]
_INIT_MODULE = {"x86_64": 175, "aarch64": 105, "riscv64": 105}


@pytest.fixture
def host(site, new_host):
    host = new_host(site.build(system("26.05.1", agent=False)))
    host.power_on()
    return host


def as_login(host, *argv):
    return host.run(*argv)


def as_service(host, *argv):
    return host.run("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *argv)


ways = pytest.mark.parametrize("way", [as_login, as_service], ids=["as login", "as service"])


@ways
def test_a_host_cannot_set_the_clock(host, way):
    # To what it is: should it work, it does no harm.
    tried = way(host, "date", "--utc", f"--set=@{time.time():.0f}")

    assert tried.rc == 1
    assert "Operation not permitted" in tried.stderr


@ways
def test_a_host_cannot_load_a_module(host, way):
    number = _INIT_MODULE[os.uname().machine]
    script = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True);"
        f"print(c.syscall({number}, 0, 0, 0), ctypes.get_errno())"
    )
    tried = way(host, "python3", "-c", script)

    assert tried.stdout in ("-1 1\n", "-1 38\n")  # EPERM; ENOSYS where the kernel has no modules


@ways
@pytest.mark.parametrize("name", ["kernel/core_pattern", "kernel/panic", "vm/swappiness"])
def test_a_host_cannot_change_the_kernels_settings(host, way, name):
    file = f"/proc/sys/{name}"
    mounted = way(host, "mount", "-o", "remount,rw", "/proc/sys")
    written = way(host, "sh", "-c", f'was=$(cat {file}) && echo "$was" > {file}')

    assert (mounted.rc, written.rc) != (0, 0)
    assert written.rc != 0


@ways
def test_a_host_cannot_mount_the_machines_disks(host, way):
    disks = [line.split() for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    major, minor = disks[0][:2] if disks else ("7", "0")

    assert way(host, "find", "/dev", "-type", "b").stdout == ""
    assert way(host, "mknod", "/tmp/disk", "b", major, minor).rc != 0
    assert way(host, "mount", "-t", "devtmpfs", "devtmpfs", "/mnt").rc != 0
    assert way(host, "losetup", "--find", "/etc/passwd").rc != 0


def test_root_of_a_host_is_nobody_on_the_machine(host, tmp_path):
    (tmp_path / "secret").write_text("mine")
    with host.start("sleep", "infinity") as child:
        users = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_of(host.name)}
        host.cut_power()
        child.communicate()
    # What entered from outside, and the host's own.
    assert FIRST_USER in users
    assert users <= {0, *range(FIRST_USER, FIRST_USER + USERS)}

    host.power_on()
    assert not host.exists(str(tmp_path / "secret"))
    assert host.ok("cat", "/proc/self/uid_map").split() == ["0", str(FIRST_USER), "65536"]


def processes_of(name):
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            text = file.read_text()
        except OSError:
            continue
        if f"/{name}/" in text:
            found.append(int(file.parent.name))
    assert found
    return found


def test_a_host_has_no_more_rights_as_a_login_than_as_a_service(host):
    def bounds(way):
        return way(host, "sh", "-c", "grep Cap /proc/self/status").stdout

    assert bounds(as_login).split("CapBnd")[1] == bounds(as_service).split("CapBnd")[1]


def test_a_hosts_network_is_its_own(host, site):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        tried = host.run("python3", "-c", script)
    links = {link["ifname"] for link in json.loads(host.ok("ip", "-json", "link"))}
    routes = json.loads(site.namespaces.run("ip", "-json", "route", "show", "table", "main"))

    assert "ConnectionRefusedError" in tried.stderr
    assert {"lo", "host0"} <= links
    assert not links & {name for _, name in socket.if_nameindex()} - {"lo", "sit0", "tunl0"}
    assert {route["dev"] for route in routes} == {BRIDGE}


# --- the end

_HOLDS_A_HOST = """
import sys, time
from nspawn.agent_layer import agent_layer
from nspawn.namespaces import Namespaces
from nspawn.real_host import RealHost
from nspawn.systems import system
from nspawn.builder import Builder
namespaces = Namespaces()
agent = agent_layer(namespaces)
builder = Builder(namespaces, agent)
first = builder.build(system("26.05.1", agent=False))
host = RealHost(namespaces, builder, agent, first.toplevel, name="doomed", address="10.77.0.9")
host.power_on()
print(namespaces.pid, namespaces.cgroup, flush=True)
sys.stdin.read()
"""


def test_a_control_group_goes_though_a_program_enters_it_meanwhile(site, monkeypatch):
    group, entered = site.namespaces.cgroup_path("entered"), []
    (group / "inner").mkdir(parents=True)

    def wait_and_enter(directory):
        wait_until_empty(directory)
        if not entered:
            child = subprocess.Popen(("sleep", "60"))
            entered.append(child)
            (group / "inner/cgroup.procs").write_text(str(child.pid))

    wait_until_empty = namespaces._wait_until_empty
    monkeypatch.setattr(namespaces, "_wait_until_empty", wait_and_enter)
    site.namespaces.end("entered")
    assert not group.exists()
    assert entered[0].wait(10) == -signal.SIGKILL


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_host_ends_with_the_process_that_booted_it(number):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS_A_HOST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{_TESTS}:{_TESTS.parent}"},
    ) as holder:
        assert holder.stdout is not None
        pid, cgroup = holder.stdout.readline().split()
        leader = os.pidfd_open(int(pid))
        inside = processes_of("doomed")
        holder.send_signal(number)
        # Its end is the end of all in its namespace, which the kernel waits for.
        ended, _, _ = select.select([leader], [], [], 30)
        os.close(leader)

    assert ended
    assert len(inside) > 3
    # Who entered the namespace from without is not waited for, and ends when it sees that.
    until = time.monotonic() + 30
    while left := [pid for pid in inside if is_of(pid, "doomed")]:
        assert time.monotonic() < until, left
        time.sleep(0.02)
    assert cgroup not in Path("/proc/self/mountinfo").read_text()

    with_new = Namespaces()
    try:
        groups = {entry.name for entry in with_new.cgroup_path("").parent.iterdir()}
    finally:
        with_new.close()
    assert Path(with_new.cgroup).name in groups
    assert Path(cgroup).name not in groups


def is_of(pid, name):
    try:
        return f"/{name}/" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def test_nothing_of_a_host_is_left_when_it_is_closed(site, new_host):
    before = site.namespaces.run("cat", "/proc/self/mountinfo").count("\n")
    host = new_host(site.build(system("26.05.1", agent=False)), name="fleeting")
    host.power_on()
    assert site.namespaces.run("ip", "-brief", "link", "show", "type", "veth")

    host.close()

    assert site.namespaces.run("cat", "/proc/self/mountinfo").count("\n") == before
    assert not site.namespaces.cgroup_path("fleeting").exists()
    assert [entry.name for entry in site.namespaces.path("/tmp").glob("fleeting*")] == []
