# Impossible combinations, each with the option to change.
{ config }:
let
  cfg = config.system.autoUpgradeHydra;
  inline = import ./inline-secrets.nix cfg.flags;
  misnamed = builtins.filter (name: builtins.match "[A-Za-z0-9_.-]+" name == null) (
    builtins.attrNames cfg.credentials
  );
in
{
  assertions = [
    {
      assertion = !config.system.autoUpgrade.enable;
      message = "system.autoUpgradeHydra.enable and system.autoUpgrade.enable would both upgrade this host: disable one.";
    }
    {
      assertion = config.nix.enable;
      message = "system.autoUpgradeHydra.enable needs nix on this host: set nix.enable = true.";
    }
    {
      assertion =
        cfg.allowReboot
        -> builtins.elem cfg.operation [
          "switch"
          "boot"
        ];
      message = "system.autoUpgradeHydra.allowReboot makes no sense with system.autoUpgradeHydra.operation = \"${cfg.operation}\": the reboot would undo it.";
    }
    {
      assertion = cfg.rebootWindow != null -> cfg.rebootWindow.lower != cfg.rebootWindow.upper;
      message = "system.autoUpgradeHydra.rebootWindow opens and closes at the same time: for the whole day leave it out.";
    }
    {
      assertion = cfg.fetch.localBuilds -> cfg.strategy == "flake";
      message = "system.autoUpgradeHydra.fetch.localBuilds makes no sense with system.autoUpgradeHydra.strategy = \"store-path\": without a flake there is nothing to build from.";
    }
    {
      assertion = builtins.elem cfg.settings.target [
        null
        "nixos"
      ];
      message = "system.autoUpgradeHydra.settings.target can only be \"nixos\" here: homes have services.autoUpgradeHydra, by homeModules.default.";
    }
    {
      assertion = inline == [ ];
      message = "system.autoUpgradeHydra.flags has a secret, which would be in the world-readable store: see system.autoUpgradeHydra.credentials.";
    }
    {
      assertion = misnamed == [ ];
      message = "system.autoUpgradeHydra.credentials: a credential's name has letters, digits, and `.`, `_`, `-`, and ${builtins.toJSON misnamed} have more.";
    }
  ];
}
