# The timer's service takes Hydra's newest build, and the new system confirms itself.
{
  name = "nixos-hydra-agent-upgrade";
  releases.next.environment.etc.release.text = "next";
  testScript = ''
    first = begin()
    machine.wait_for_unit("nixos-hydra-agent.timer")
    path = build("next")
    machine.fail(f"nix-store --check-validity {path}")
    machine.succeed("systemctl start nixos-hydra-agent.service")
    wait_until_confirmed(path)
    assert running() == profile() == path != first
    machine.succeed("grep next /etc/release")

    # Without a new build, nothing is done.
    machine.succeed("systemctl start nixos-hydra-agent.service")
    assert running() == path
  '';
}
