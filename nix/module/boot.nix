# Settings of the machine for a host that may reboot: for a kernel that panics or hangs, and for a boot
# loader that supports boot counting.
{
  config,
  lib,
  options,
  pkgs,
}:
lib.mkMerge [
  # Reboot after a kernel panic,
  { boot.kernelParams = [ "panic=30" ]; }

  # and if the kernel hangs, provided that the machine has a watchdog.
  (
    if options.systemd ? settings then
      { systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "30s"; }
    else
      { systemd.watchdog.runtimeTime = lib.mkDefault "30s"; }
  )

  # The loader goes on to an older entry by itself where it can count; a boot is a good one only
  # once the agent has confirmed it, and then informs systemd.
  (lib.optionalAttrs (options.boot.loader.systemd-boot or { } ? bootCounting) {
    boot.loader.systemd-boot.bootCounting.enable = lib.mkDefault (
      # NixOS refuses the combination.
      !(config.virtualisation.xen.enable or false)
    );
    systemd.services.nixos-hydra-agent-boot-complete = {
      description = "Keep a boot from being called good before it is confirmed";
      before = [ "boot-complete.target" ];
      requiredBy = [ "boot-complete.target" ];
      unitConfig.AssertPathIsSymbolicLink = [
        "!/nix/var/nix/gcroots/nixos-hydra-agent/pending"
        "!/nix/var/nix/gcroots/nixos-hydra-agent/staged"
      ];
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${pkgs.coreutils}/bin/true";
        # No mount namespace is created, which could fail on a full disk.
        CapabilityBoundingSet = "";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        RestrictAddressFamilies = "none";
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = "@system-service";
      };
    };
  })
]
