# While a canary fails nothing is upgraded; once it passes again, the upgrade follows.
{
  name = "nixos-hydra-agent-canary";
  machine.system.autoUpgradeHydra.healthChecks.canaryHosts = [ "http://hydra:8000/" ];
  hydra =
    { pkgs, ... }:
    {
      systemd.services.canary.serviceConfig.ExecStart =
        "${pkgs.python3}/bin/python -m http.server --directory /var/empty";
    };
  releases.next.environment.etc.release.text = "next";
  testScript = ''
    first = begin()
    path = build("next")
    expect_hold()
    assert running() == first

    hydra.succeed("systemctl start canary.service")
    hydra.wait_for_open_port(8000)
    machine.succeed("systemctl start nixos-hydra-agent.service")
    wait_until_confirmed(path)
    assert running() == path
  '';
}
