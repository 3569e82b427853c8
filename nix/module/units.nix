# The units: the upgrade and its timer, the confirmation, and the deadline of a boot.
{
  config,
  lib,
  pkgs,
  schema,
}:
let
  inherit (lib) mkDefault mkIf;

  cfg = config.system.autoUpgradeHydra;
  inherit (cfg.settings) reboot;
  agent = lib.getExe cfg.package;
  marks = "/nix/var/nix/gcroots/nixos-hydra-agent";
  hardening = import ./hardening.nix { mayBuild = cfg.settings.fetch.local_builds; };
  deadlines = import ./deadlines.nix { inherit schema; } cfg.settings;

  # For all services: a switch must not kill the agent that performs or confirms it.
  common = {
    restartIfChanged = false;
    unitConfig.X-StopOnRemoval = false;
    path = [
      config.nix.package
      (config.system.build.nixos-rebuild or pkgs.nixos-rebuild-ng)
      config.systemd.package
      pkgs.coreutils
      # For `wall`.
      pkgs.util-linux
      # For git+https and git+ssh flakes.
      config.programs.ssh.package
      pkgs.gitMinimal
    ]
    # For `grub-reboot`.
    ++ lib.optional (config.boot.loader.grub.enable or false) pkgs.grub2
    # For `chronyc`: chronyd may synchronise the clock without informing the kernel.
    ++ lib.optional config.services.chrony.enable config.services.chrony.package;
    environment = config.networking.proxy.envVars // {
      HOME = "/root";
    };
  };

  # For the services that use the network.
  outgoing = common // {
    environment =
      common.environment
      // lib.optionalAttrs (cfg.credentials ? netrc) {
        NIX_CONFIG = mkDefault "netrc-file = %d/netrc";
      }
      // lib.optionalAttrs (cfg.credentials ? ssh-key) {
        GIT_SSH_COMMAND = mkDefault "ssh -o BatchMode=yes -i %d/ssh-key";
      };
    serviceConfig = hardening // {
      StateDirectory = "nixos-hydra-agent";
      # Whoever can open the history can hold its locks.
      StateDirectoryMode = "0700";
      LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
      EnvironmentFile = mkIf (cfg.environmentFile != null) cfg.environmentFile;
    };
  };

  # What is there in every state of a boot: not ordered after the network, the clock or any mount but
  # the store's, and left alone when systemd goes to emergency mode.
  early = {
    DefaultDependencies = false;
    IgnoreOnIsolate = true;
    Conflicts = [ "shutdown.target" ];
    Before = [ "shutdown.target" ];
  };
in
{
  environment.systemPackages = [ cfg.package ];

  systemd.services.nixos-hydra-agent = outgoing // {
    description = "Upgrade to Hydra's newest good build of this host";
    after = [ "network-online.target" ];
    wants = [ "network-online.target" ];
    unitConfig = outgoing.unitConfig // {
      ConditionACPower = mkIf cfg.onlyOnACPower true;
    };
    serviceConfig = outgoing.serviceConfig // {
      Type = "oneshot";
      ExecStart = "${agent} upgrade";
      # Held by a gate, or Hydra is out of reach and has not been for long: not now, and no failure.
      SuccessExitStatus = [
        69
        75
      ];
      TimeoutStartSec = deadlines.ofARun;
    };
  };

  systemd.timers.nixos-hydra-agent = {
    description = "Look for a new good build of this host";
    wantedBy = [ "timers.target" ];
    timerConfig = {
      OnCalendar = cfg.dates;
      OnBootSec = mkIf (cfg.onBootSec != null) cfg.onBootSec;
      RandomizedDelaySec = cfg.randomizedDelaySec;
      FixedRandomDelay = cfg.fixedRandomDelay;
      Persistent = cfg.persistent;
    };
  };

  # Started at boot and after each switch; it has nothing to do where nothing is pending. It does
  # not remain after its exit: as an active unit no switch would start it, and a system whose agent
  # was killed in the switch would wait for the dead-man. Not ordered after the network: a host that
  # has none must be judged, too.
  systemd.services.nixos-hydra-agent-confirm = outgoing // {
    description = "Confirm the system that the last upgrade has activated";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = outgoing.serviceConfig // {
      # Not oneshot: switch-to-configuration starts it, and would wait for its end. While
      # another agent or an activation is running, or the system cannot be judged, it waits inside its
      # process: a unit that waits to be restarted is a failed one to every switch meanwhile.
      Type = "exec";
      ExecStart = "${agent} confirm";
      # It may still end as held.
      RestartForceExitStatus = 75;
      RestartSec = "30s";
      RestartSteps = 5;
      RestartMaxDelaySec = "15min";
    };
  };

  # Guards each boot into a system that is still to be confirmed. Nothing is hardened: in emergency
  # mode systemd takes no transient units, and the activation of the roll-back runs in this one.
  systemd.services.nixos-hydra-agent-boot-deadline = common // {
    description = "Roll back a system that was not confirmed after boot";
    unitConfig =
      common.unitConfig
      // early
      // {
        # It is not started if nothing is pending.
        ConditionPathIsSymbolicLink = [
          "|${marks}/pending"
          "|${marks}/staged"
          "|${marks}/rolling-back"
        ];
        # It cannot do its work: the loader knows the way back, if there is one. The agent sees to
        # it that this happens once for a system, and never for one that is confirmed.
        FailureAction = mkIf (reboot.mode != "never" && reboot.try_boot) "reboot";
      };
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "${agent} dead-man --booted";
      # A roll-back is the work done, and no failure; nor is it one to be asked to end.
      SuccessExitStatus = [
        1
        75
        130
        143
      ];
      # It is ignored if it cannot be read yet.
      EnvironmentFile = mkIf (cfg.environmentFile != null) "-${cfg.environmentFile}";
    };
  };

  systemd.timers.nixos-hydra-agent-boot-deadline = {
    description = "Roll back a system that was not confirmed after boot";
    wantedBy = [ "sysinit.target" ];
    unitConfig = early;
    timerConfig = {
      OnBootSec = cfg.reboot.deadline;
      AccuracySec = "1s";
    };
  };
}
