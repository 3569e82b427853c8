# services.autoUpgradeHydra: upgrades this home to the newest good build of its own Hydra job, by the
# user alone. For home-manager.
#
# `self` is the flake, for its package. Types, defaults and descriptions are those of the agent's own
# schema, as in nix/module/.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  schema = import ../module/schema.nix { inherit lib; };
  arguments = {
    inherit
      config
      lib
      pkgs
      schema
      self
      ;
  };
in
{
  options.services.autoUpgradeHydra = import ./options.nix arguments;

  config = lib.mkIf config.services.autoUpgradeHydra.enable (
    lib.mkMerge [
      (import ./assertions.nix { inherit config; })
      (import ./units.nix arguments)
    ]
  );
}
