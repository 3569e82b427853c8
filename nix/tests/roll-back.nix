# A release that breaks a required check is rolled back, denied, and not tried again.
{
  name = "nixos-hydra-agent-roll-back";
  machine = {
    systemd.services.web = {
      wantedBy = [ "multi-user.target" ];
      script = "exec sleep infinity";
    };
    system.autoUpgradeHydra.confirm.checks = [
      {
        type = "unit";
        unit = "web.service";
      }
    ];
  };
  releases.broken =
    { lib, ... }:
    {
      systemd.services.web.script = lib.mkForce "exit 1";
    };
  testScript = ''
    first = begin()
    path = build("broken")
    machine.execute("systemctl start nixos-hydra-agent.service")
    wait_until_denied(path)
    assert running() == profile() == first != path
    machine.wait_for_unit("web.service")
  '';
}
