# A release whose kernel panics is tried once: systemd-boot then starts the confirmed system.
{
  name = "nixos-hydra-agent-loader-fallback";
  machine.system.autoUpgradeHydra.allowReboot = true;
  # No root and no init: the kernel panics, whatever kind of initrd there is.
  releases.broken.boot.kernelParams = [ "rdinit=/nowhere" ];
  testScript = ''
    first = begin()
    path = build("broken")
    machine.execute("systemctl start --no-block nixos-hydra-agent.service")
    # The reboot into it, and the panic that ends it (panic=30).
    machine.wait_for_shutdown()
    machine.start()
    start_again()
    assert running() == first

    wait_until_denied(path)
    assert running() == profile() == first
  '';
}
