# Impossible combinations, each with the option to change.
{ config }:
let
  cfg = config.services.autoUpgradeHydra;
  inline = import ../module/inline-secrets.nix cfg.flags;
in
{
  assertions = [
    {
      assertion = cfg.fetch.localBuilds -> cfg.strategy == "flake";
      message = "services.autoUpgradeHydra.fetch.localBuilds makes no sense with services.autoUpgradeHydra.strategy = \"store-path\": without a flake there is nothing to build from.";
    }
    {
      assertion = cfg.settings.target == "home-manager";
      message = "services.autoUpgradeHydra.settings.target can only be \"home-manager\" here: hosts have system.autoUpgradeHydra, by nixosModules.default.";
    }
    {
      assertion = inline == [ ];
      message = "services.autoUpgradeHydra.flags has a secret, which would be in the world-readable store: see services.autoUpgradeHydra.environmentFile.";
    }
  ];
}
