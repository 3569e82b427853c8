{
  imports = [ ./web-1.nix ];

  # CHANGE: upgrades only while its neighbour is well.
  system.autoUpgradeHydra.healthChecks.canaryHosts = [ "web-1.example.org" ];
}
