# system.autoUpgradeHydra: upgrades this host to the newest good build of its own Hydra job.
#
# `self` is the flake, for its package; every option becomes a setting of the agent, whose own
# schema is the authority (`agent config schema`).
{ self }:
{
  config,
  lib,
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
      # For git+https and git+ssh flakes.
      config.programs.ssh.package
      pkgs.gitMinimal
    ];
    environment = config.networking.proxy.envVars // {
      HOME = "/root";
    };
  };

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

  config = mkIf cfg.enable {
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
      upgrade.foreign_hold = cfg.foreignHold;
      reboot.mode = if cfg.allowReboot then "when-needed" else "never";
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
  };
}
