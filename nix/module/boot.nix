# What the machine itself does for a host that may reboot: a kernel that dies or hangs, and a loader
# that can count tries.
{
  config,
  lib,
  options,
  pkgs,
}:
lib.mkMerge [
  # A kernel that dies starts again,
  { boot.kernelParams = [ "panic=30" ]; }

  # and so does one that hangs, where the machine has a watchdog.
  (
    if options.systemd ? settings then
      { systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "30s"; }
    else
      { systemd.watchdog.runtimeTime = lib.mkDefault "30s"; }
  )

  # The loader goes on to an older entry by itself where it can count; a boot is a good one only
  # once the agent has confirmed it, and then tells systemd so.
  (lib.optionalAttrs (options.boot.loader.systemd-boot or { } ? bootCounting) {
    boot.loader.systemd-boot.bootCounting.enable = lib.mkDefault (
      # Which NixOS refuses together.
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
        # No mount namespace is made, which a full disk might be in the way of.
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
