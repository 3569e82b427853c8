"""The rig itself: a host boots, is NixOS-shaped, cannot reach out, and can be cut off."""

from __future__ import annotations

from host.systems import service, system


def test_a_host_boots_its_first_system(real_host, first):
    systems = real_host.systems()

    assert {systems.running, systems.booted, systems.profile, systems.boot_default} == {
        first.toplevel
    }
    assert real_host.ok("systemctl", "is-system-running") == "running\n"


def test_the_agent_upgrades_the_host_to_a_newer_build(real_host, outside, site, first):
    newer = site.build(
        system("26.05.2", units={"hello.service": service()}, wants=["hello.service"])
    )
    outside.offer(first)
    outside.offer(newer)
    assert not real_host.exists(newer.toplevel)

    upgraded = real_host.run("agent", "upgrade")

    assert upgraded.rc == 0, upgraded
    assert real_host.systems().running == newer.toplevel
    assert real_host.state("hello.service") == "active"
