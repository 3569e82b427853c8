# A bootable image that installs one host, with no network: it carries the host's toplevel.
{
  name,
  host,
  # Store paths: the flake that the host is of, and the inputs of that flake.
  source,
  inputs,
}:
{
  lib,
  modulesPath,
  pkgs,
  ...
}:
let
  inherit (host.config.system.build) toplevel;
in
{
  imports = [ "${modulesPath}/installer/cd-dvd/installation-cd-minimal.nix" ];

  assertions = [
    {
      assertion = host.config.system.autoUpgradeHydra.enable;
      message = "${name} would not follow Hydra: set system.autoUpgradeHydra.enable.";
    }
  ];

  nixpkgs.hostPlatform = host.pkgs.stdenv.hostPlatform.system;
  networking.hostName = "${name}-installer";

  isoImage.storeContents = [
    toplevel
    source
  ]
  ++ inputs;
  image.baseName = lib.mkForce "${name}-installer";

  # No cache is used, even if there is a network.
  nix.settings.substituters = lib.mkForce [ ];
  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];

  environment.systemPackages = [
    (pkgs.writeShellApplication {
      name = "install-${name}";
      runtimeInputs = [
        pkgs.dosfstools
        pkgs.e2fsprogs
        pkgs.util-linux
      ];
      runtimeEnv = {
        SYSTEM = "${toplevel}";
        SOURCE = source;
      };
      text = builtins.readFile ./install.sh;
    })
  ];
  services.getty.helpLine = lib.mkForce "sudo install-${name} /dev/DISK puts ${name} on that disk.";
}
