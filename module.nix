# system.autoUpgradeHydra: upgrades this host to the newest good build of its own Hydra job.
#
# `self` is the flake, for its package.
{ self }:
{
  _file = "nixos-hydra-agent/module.nix";
  # Imported twice, under whichever name, it counts once.
  key = "nixos-hydra-agent/module.nix";

  imports = [
    (import ./nix/module/options.nix { inherit self; })
    ./nix/module/foreign.nix
    ./nix/module/settings.nix
    ./nix/module/assertions.nix
    ./nix/module/units.nix
    ./nix/module/boot.nix
  ];
}
