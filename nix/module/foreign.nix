# Options of `system.autoUpgrade` that have another name here, or make no sense.
{ config, lib }:
let
  instead = {
    flake = "the flake is the one that Hydra has built: say where with `hydra.instance`, `hydra.project` and `hydra.jobset`";
    channel = "Hydra's builds of a flake are followed, not a channel: say which with `hydra.instance`, `hydra.project` and `hydra.jobset`";
    upgrade = "a host takes what Hydra has built: new inputs come with a new flake.lock in the flake's repository (of the settings' table `upgrade` there are the options `upgradeWindows` and `foreignHold`)";
  };
in
{
  options = builtins.mapAttrs (
    name: told:
    lib.mkOption {
      type = lib.types.unspecified;
      default = null;
      visible = false;
      description = "Does not exist here: ${told}.";
    }
  ) instead;

  assertions = map (name: {
    assertion = config.system.autoUpgradeHydra.${name} == null;
    message = "system.autoUpgradeHydra.${name} does not exist: ${instead.${name}}.";
  }) (builtins.attrNames instead);
}
