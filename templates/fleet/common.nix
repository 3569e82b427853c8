# What all hosts share.
{
  system.autoUpgradeHydra = {
    enable = true;
    strategy = "store-path";
    # CHANGE: where Hydra builds this flake.
    hydra = {
      instance = "https://hydra.example.org";
      project = "nix-config";
      jobset = "main";
    };
    dates = "*:0/15";
    randomizedDelaySec = "15min";
    allowReboot = true;
    rebootWindow = {
      lower = "01:00";
      upper = "05:00";
    };
  };

  # CHANGE: where Hydra's builds come from; without its key nothing is taken from there.
  nix.settings.extra-substituters = [ "https://hydra.example.org" ];
  nix.settings.extra-trusted-public-keys = [
    # "hydra.example.org-1:…"
  ];

  # The partitions that install.sh makes.
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  fileSystems."/" = {
    device = "/dev/disk/by-partlabel/nixos-root";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-partlabel/nixos-boot";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    # CHANGE: "ssh-ed25519 …"
  ];
}
