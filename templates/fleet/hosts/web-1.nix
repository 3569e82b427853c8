{
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";
  hardware.enableRedistributableFirmware = true;

  services.nginx.enable = true;
  # What must still work after an upgrade, or the host goes back.
  system.autoUpgradeHydra.confirm.checks = [
    {
      type = "unit";
      unit = "nginx.service";
    }
  ];
}
