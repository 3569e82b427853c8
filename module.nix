# system.autoUpgradeHydra: upgrades this host to the newest good build of its own Hydra job.
#
# `self` is the flake, for its package. The options are separate from their implementation, and most of
# both is derived from the agent's own schema: see nix/module/.
{ self }:
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  schema = import ./nix/module/schema.nix { inherit lib; };
  foreign = import ./nix/module/foreign.nix { inherit config lib; };
in
{
  options.system.autoUpgradeHydra =
    foreign.options
    // import ./nix/module/options.nix {
      inherit
        config
        lib
        pkgs
        schema
        self
        ;
    };

  config = lib.mkIf config.system.autoUpgradeHydra.enable (
    lib.mkMerge [
      { inherit (foreign) assertions; }
      (import ./nix/module/assertions.nix { inherit config; })
      (import ./nix/module/settings.nix {
        inherit
          config
          lib
          pkgs
          schema
          ;
      })
      (import ./nix/module/units.nix {
        inherit
          config
          lib
          pkgs
          schema
          ;
      })
      (lib.mkIf (config.system.autoUpgradeHydra.settings.reboot.mode != "never") (
        import ./nix/module/boot.nix {
          inherit
            config
            lib
            options
            pkgs
            ;
        }
      ))
    ]
  );
}
