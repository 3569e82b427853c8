# A release with other kernel parameters needs a reboot, and is confirmed after it.
{
  name = "nixos-hydra-agent-reboot";
  machine.system.autoUpgradeHydra.allowReboot = true;
  releases.next.boot.kernelParams = [ "release=next" ];
  testScript = ''
    first = begin()
    path = build("next")
    machine.execute("systemctl start --no-block nixos-hydra-agent.service")
    start_again()
    machine.succeed("grep -w release=next /proc/cmdline")
    wait_until_confirmed(path)
    assert running() == profile() == path != first

    # From now on the loader starts it by itself, not once.
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("multi-user.target")
    assert running() == path
  '';
}
