# CHANGE: yours takes its place, with what nixos-generate-config has found out about the hardware.
{
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };

  # CHANGE: where Hydra's builds come from; without its key nothing is taken from there.
  nix.settings.extra-substituters = [ "https://hydra.example.org" ];
  nix.settings.extra-trusted-public-keys = [
    # "hydra.example.org-1:…"
  ];
}
