# system.autoUpgradeHydra: upgrades this host to the newest good build of its own Hydra job.
#
# `self` is the flake, for its package; every option becomes a setting of the agent, whose own
# schema is the authority (`agent config schema`).
{ self }:
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkIf mkOption types;

  cfg = config.system.autoUpgradeHydra;
  format = pkgs.formats.toml { };
  duration = types.either types.ints.positive types.str;

  # Of both services: a switch must not kill the agent that performs or confirms it.
  common = {
    restartIfChanged = false;
    unitConfig.X-StopOnRemoval = false;
    path = [
      config.nix.package
      config.system.build.nixos-rebuild
      config.systemd.package
      pkgs.coreutils
      # For `wall`.
      pkgs.util-linux
      # For git+https and git+ssh flakes.
      config.programs.ssh.package
      pkgs.gitMinimal
    ]
    # For `grub-reboot`.
    ++ lib.optional (config.boot.loader.grub.enable or false) pkgs.grub2;
    environment = config.networking.proxy.envVars // {
      HOME = "/root";
    };
  };

  windowsOption =
    what:
    mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            days = mkOption {
              type = types.listOf (types.enum [ "mon" "tue" "wed" "thu" "fri" "sat" "sun" ]);
              default = [ "mon" "tue" "wed" "thu" "fri" "sat" "sun" ];
              example = [ "sat" "sun" ];
              description = "The days on which it opens.";
            };
            start = mkOption {
              type = types.str;
              example = "04:00";
              description = "When it opens, by the wall clock of `timeZone`.";
            };
            length = mkOption {
              type = duration;
              example = "2h";
              description = "How long it is open; over midnight if need be.";
            };
            timeZone = mkOption {
              type = types.str;
              default = if config.time.timeZone == null then "UTC" else config.time.timeZone;
              defaultText = lib.literalExpression "config.time.timeZone, or UTC";
              example = "Europe/Berlin";
              description = "Whose wall clock.";
            };
          };
        }
      );
      default = [ ];
      example = lib.literalExpression ''[ { days = [ "sat" "sun" ]; start = "23:00"; length = "4h"; } ]'';
      description = "Hours in which the agent may begin ${what}; without any, always.";
    };
  windowSetting = window: {
    inherit (window) days start length;
    time_zone = window.timeZone;
  };
  # The hours of `system.autoUpgrade.rebootWindow`, by the host's own clock.
  timeOfDay = "([01][0-9]|2[0-3]):([0-5][0-9])";
  minutesOf =
    text:
    let
      found = builtins.match timeOfDay text;
      number = digits: builtins.fromJSON (builtins.head (builtins.match "0?([0-9]+)" digits));
    in
    if found == null then
      throw "system.autoUpgradeHydra.rebootWindow: '${text}' is no time of day such as \"04:00\""
    else
      60 * number (builtins.head found) + number (builtins.elemAt found 1);
  rebootWindows =
    map windowSetting cfg.rebootWindows
    ++ lib.optional (cfg.rebootWindow != null) (
      let
        lower = minutesOf cfg.rebootWindow.lower;
        upper = minutesOf cfg.rebootWindow.upper;
      in
      {
        start = cfg.rebootWindow.lower;
        length = "${toString (if upper > lower then upper - lower else upper - lower + 1440)}m";
        time_zone = if config.time.timeZone == null then "UTC" else config.time.timeZone;
      }
    );

  # What is null is left to the agent's own default.
  withoutNull = lib.filterAttrsRecursive (_name: value: value != null);
  file = format.generate "nixos-hydra-agent.toml" (withoutNull cfg.settings);
  checkedFile = pkgs.runCommand "config.toml" { } ''
    ${lib.getExe cfg.package} config check --config ${file}
    cp ${file} $out
  '';
in
{
  options.system.autoUpgradeHydra = {
    enable = mkEnableOption "the agent that upgrades this host to Hydra's newest good build of it";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalExpression "nixos-hydra-agent";
      description = "The agent.";
    };

    host = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      example = "web-1";
      description = "This host's attribute in `nixosConfigurations`.";
    };

    operation = mkOption {
      type = types.enum [
        "switch"
        "boot"
        "test"
        "dry-activate"
      ];
      default = "switch";
      example = "boot";
      description = "What `nixos-rebuild` is to do.";
    };

    strategy = mkOption {
      type = types.enum [
        "flake"
        "store-path"
      ];
      default = "flake";
      description = ''
        `flake` evaluates the flake and compares it with what Hydra built; `store-path` activates
        Hydra's output and evaluates nothing.
      '';
    };

    verify = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to prove that the candidate is this host's before it is fetched.";
    };

    flags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "-L" ];
      description = "Further arguments for `nixos-rebuild`.";
    };

    hydra = {
      instance = mkOption {
        type = types.str;
        example = "https://hydra.example.org";
        description = "URL of the Hydra instance.";
      };
      project = mkOption {
        type = types.str;
        example = "nix-config";
        description = "Name of the project.";
      };
      jobset = mkOption {
        type = types.str;
        example = "main";
        description = "Name of the jobset.";
      };
      job = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "web-1";
        description = "Name of the job; by default the host, in quotes if it has dots.";
      };
      select = mkOption {
        type = types.enum [
          "latest"
          "latest-finished"
        ];
        default = "latest";
        description = ''
          `latest`: the newest good build; `latest-finished`: the newest of an eval in which
          nothing is left to build.
        '';
      };
      timeout = mkOption {
        type = duration;
        default = "10s";
        description = "Time limit of one request.";
      };
      deadline = mkOption {
        type = duration;
        default = "60s";
        description = "Time limit of a run's whole conversation with Hydra.";
      };
    };

    healthChecks = {
      deadline = mkOption {
        type = duration;
        default = "30s";
        description = "Time limit of all checks together.";
      };
      canaryHosts = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "gateway"
          "192.0.2.1"
          "https://wiki.example.org"
        ];
        description = "Hosts and addresses to ping, and URLs to ask, before this host upgrades.";
      };
      checks = mkOption {
        type = types.listOf format.type;
        default = [ ];
        example = lib.literalExpression ''
          [ { type = "http"; url = "https://wiki.example.org"; body = "Welcome"; } ]
        '';
        description = "Checks in full.";
      };
    };

    confirm = {
      checks = mkOption {
        type = types.listOf format.type;
        default = [ ];
        example = lib.literalExpression ''
          [ { type = "unit"; unit = "nginx.service"; } { type = "tcp"; host = "localhost"; port = 443; } ]
        '';
        description = ''
          What must be well after an upgrade, if it was before; otherwise the host is rolled back.
          The same kinds of checks as `healthChecks.checks`.
        '';
      };
      settle = mkOption {
        type = duration;
        default = "30s";
        description = "Time between the activation and the first judgement.";
      };
      deadline = mkOption {
        type = duration;
        default = "10m";
        description = "How long the checks are repeated until they are well.";
      };
      patience = mkOption {
        type = duration;
        default = "1d";
        description = "How long a system that cannot be judged is tried again.";
      };
      hydra = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether Hydra must be reachable after an upgrade if it was before; `false` for laptops.
        '';
      };
      gateway = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether an answer of the default gateway tells an outage of Hydra from one of this host.
        '';
      };
      onFailure = mkOption {
        type = types.enum [
          "roll-back"
          "hold"
        ];
        default = "roll-back";
        description = "`hold` keeps a broken system for a person to decide: its data may have migrated.";
      };
      ignoreUnits = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "backup-*.service" ];
        description = "Units whose failure proves nothing.";
      };
    };

    foreignHold = mkOption {
      type = duration;
      default = "3d";
      description = "How long a system that somebody else has brought here is left alone.";
    };

    allowReboot = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the host may reboot when an upgrade needs it.";
    };

    rebootWindow = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            lower = mkOption {
              type = types.str;
              example = "01:00";
              description = "When it opens.";
            };
            upper = mkOption {
              type = types.str;
              example = "05:00";
              description = "When it closes; over midnight if that is earlier than `lower`.";
            };
          };
        }
      );
      default = null;
      example = {
        lower = "01:00";
        upper = "05:00";
      };
      description = "The hours of each day in which the host may reboot, by its own clock.";
    };

    rebootWindows = windowsOption "a reboot";

    upgradeWindows = windowsOption "an upgrade";

    reboot = {
      splay = mkOption {
        type = types.nullOr duration;
        default = null;
        example = "1h";
        description = "Each host reboots up to so much later than a window opens, always as much.";
      };
      margin = mkOption {
        type = duration;
        default = "15m";
        description = "How much of a window must be left for a reboot.";
      };
      inhibitorLimit = mkOption {
        type = duration;
        default = "1d";
        description = "How long a program that blocks a shutdown is respected.";
      };
      userNotice = mkOption {
        type = duration;
        default = "10m";
        description = "How long before a reboot those who are logged in are warned.";
      };
      tryBoot = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether the boot loader's default stays on the confirmed system until the new one is
          confirmed, where the loader can do that: a system that hangs in its boot is left by
          switching the host off and on again, or by its watchdog.
        '';
      };
      deadline = mkOption {
        type = types.str;
        default = "20min";
        example = "30min";
        description = ''
          How long after the start of a boot a new system must be confirmed, whatever else has or
          has not started; otherwise the host goes back. As in {manpage}`systemd.time(7)`.
        '';
      };
    };

    dates = mkOption {
      type = types.str;
      default = "04:40";
      example = "*-*-* 04:40:00";
      description = "When to look for a new build, as in {manpage}`systemd.time(7)`.";
    };

    randomizedDelaySec = mkOption {
      type = types.str;
      default = "0";
      example = "45min";
      description = "Longest random delay, the same on each day for one host.";
    };

    persistent = mkOption {
      type = types.bool;
      default = true;
      description = "Whether a run that was missed while the host was off is made up for.";
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        fetch.local_builds = true;
        log.level = "debug";
      };
      description = "Settings of the agent in its own words; they win over the other options.";
    };
  };

  config = mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = !(config.system.autoUpgrade.enable or false);
            message = "system.autoUpgradeHydra.enable and system.autoUpgrade.enable would both upgrade this host: disable one.";
          }
          {
            assertion = cfg.allowReboot -> lib.elem cfg.operation [ "switch" "boot" ];
            message = "system.autoUpgradeHydra.allowReboot makes no sense with operation = \"${cfg.operation}\": the reboot would undo it.";
          }
        ];

        system.autoUpgradeHydra.settings = lib.mapAttrsRecursive (_path: lib.mkDefault) {
          inherit (cfg) host strategy verify flags;
          action = cfg.operation;
          hydra = {
            inherit (cfg.hydra) instance project jobset job select timeout deadline;
          };
          health = {
            inherit (cfg.healthChecks) deadline checks;
            canary_hosts = cfg.healthChecks.canaryHosts;
          };
          confirm = {
            inherit (cfg.confirm) checks settle deadline patience hydra gateway;
            on_failure = cfg.confirm.onFailure;
            ignore_units = cfg.confirm.ignoreUnits;
          };
          upgrade = {
            foreign_hold = cfg.foreignHold;
            windows = map windowSetting cfg.upgradeWindows;
          };
          reboot = {
            mode = if cfg.allowReboot then "when-needed" else "never";
            windows = rebootWindows;
            inherit (cfg.reboot) splay margin;
            inhibitor_limit = cfg.reboot.inhibitorLimit;
            user_notice = cfg.reboot.userNotice;
            try_boot = cfg.reboot.tryBoot;
          };
          log.format = "json";
        };

        environment.etc."nixos-hydra-agent/config.toml".source = checkedFile;
        environment.systemPackages = [ cfg.package ];

        systemd.services.nixos-hydra-agent = common // {
          description = "Upgrade to Hydra's newest good build of this host";
          after = [ "network-online.target" ];
          wants = [ "network-online.target" ];
          serviceConfig = {
            Type = "oneshot";
            ExecStart = "${lib.getExe cfg.package} upgrade";
            StateDirectory = "nixos-hydra-agent";
            # Held by a gate: not now, and no failure.
            SuccessExitStatus = 75;
            # Above the sum of all deadlines of a run, as they are by default.
            TimeoutStartSec = "10h";
          };
        };

        # Started by the agent after each upgrade, and at boot; it has nothing to do where nothing is
        # pending. Not ordered after the network: a host that has none must be judged, too.
        systemd.services.nixos-hydra-agent-confirm = common // {
          description = "Confirm the system that the last upgrade has activated";
          wantedBy = [ "multi-user.target" ];
          serviceConfig = {
            # Not oneshot: switch-to-configuration starts it, and would wait for its end.
            Type = "exec";
            ExecStart = "${lib.getExe cfg.package} confirm";
            StateDirectory = "nixos-hydra-agent";
            # It could not be judged yet.
            RestartForceExitStatus = 75;
            RestartSec = "30s";
            RestartSteps = 5;
            RestartMaxDelaySec = "15min";
          };
        };

        # Guards each boot into a system that is still to be confirmed: not ordered after the network,
        # the clock or any mount but the store's, and left alone when systemd goes to emergency mode.
        systemd.services.nixos-hydra-agent-boot-deadline = common // {
          description = "Leave a system that nobody has confirmed since its boot";
          unitConfig = common.unitConfig // {
            DefaultDependencies = false;
            IgnoreOnIsolate = true;
            Conflicts = [ "shutdown.target" ];
            Before = [ "shutdown.target" ];
            # Where nothing is to be confirmed it is not even started.
            ConditionPathIsSymbolicLink = [
              "|/nix/var/nix/gcroots/nixos-hydra-agent/pending"
              "|/nix/var/nix/gcroots/nixos-hydra-agent/staged"
              "|/nix/var/nix/gcroots/nixos-hydra-agent/rolling-back"
            ];
            # It cannot do its work: the loader knows the way back, if there is one.
            FailureAction = mkIf (cfg.allowReboot && cfg.reboot.tryBoot) "reboot";
          };
          serviceConfig = {
            Type = "oneshot";
            ExecStart = "${lib.getExe cfg.package} dead-man --booted";
            # A roll-back is the work done, and no failure.
            SuccessExitStatus = [ 1 75 ];
          };
        };
        systemd.timers.nixos-hydra-agent-boot-deadline = {
          description = "Leave a system that nobody has confirmed since its boot";
          wantedBy = [ "sysinit.target" ];
          unitConfig = {
            DefaultDependencies = false;
            IgnoreOnIsolate = true;
            Conflicts = [ "shutdown.target" ];
            Before = [ "shutdown.target" ];
          };
          timerConfig = {
            OnBootSec = cfg.reboot.deadline;
            AccuracySec = "1s";
          };
        };

        # A kernel that dies starts again.
        boot.kernelParams = mkIf cfg.allowReboot [ "panic=30" ];

        systemd.timers.nixos-hydra-agent = {
          description = "Look for Hydra's newest good build of this host";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnCalendar = cfg.dates;
            RandomizedDelaySec = cfg.randomizedDelaySec;
            # Each host has its own place in the interval, always the same.
            FixedRandomDelay = true;
            Persistent = cfg.persistent;
          };
        };
      }
      # The loader goes on to an older entry by itself where it can count; a boot is a good one only
      # once the agent has confirmed it, and then tells systemd so.
      (mkIf cfg.allowReboot (
        lib.optionalAttrs (options.boot.loader.systemd-boot or { } ? bootCounting) {
          boot.loader.systemd-boot.bootCounting.enable = lib.mkDefault true;
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
            };
          };
        }
      ))
      # And so does one that hangs, where the machine has a watchdog.
      (mkIf cfg.allowReboot (
        if options.systemd ? settings then
          { systemd.settings.Manager.RuntimeWatchdogSec = lib.mkDefault "30s"; }
        else
          { systemd.watchdog.runtimeTime = lib.mkDefault "30s"; }
      ))
    ]
  );
}
