# The settings, and the user's units: the upgrade and its timer, and the confirmation.
{
  config,
  lib,
  pkgs,
  schema,
  ...
}:
let
  inherit (lib) mkIf;

  cfg = config.services.autoUpgradeHydra;
  agent = lib.getExe cfg.package;
  deadlines = import ../module/deadlines.nix { inherit schema; } cfg.settings;

  checkedTimes =
    import ../module/times.nix
      {
        inherit lib;
        inherit (pkgs) systemd;
      }
      {
        calendar."services.autoUpgradeHydra.dates" = cfg.dates;
        timespan = {
          "services.autoUpgradeHydra.randomizedDelaySec" = cfg.randomizedDelaySec;
        }
        // lib.optionalAttrs (cfg.onStartupSec != null) {
          "services.autoUpgradeHydra.onStartupSec" = cfg.onStartupSec;
        };
      };

  written = (pkgs.formats.toml { }).generate "nixos-hydra-agent.toml" (
    schema.withoutNull cfg.settings
  );
  # The settings are checked by the agent itself, and times by systemd, while the
  # home is built.
  file =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "nixos-hydra-agent-settings.toml" { } ''
        if ! HOME=/ ${agent} config check --config ${written} > checked; then
          echo 'These are keys of services.autoUpgradeHydra.settings; most are made of options of like names.' >&2
          exit 1
        fi
        ${checkedTimes}
        cp ${written} $out
      ''
    else
      written;

  # For a person: the system may have an agent, too, whose settings are the default.
  command = pkgs.writeShellScriptBin "agent-home" ''
    NIXOS_HYDRA_AGENT_CONFIG=${file} exec ${agent} "$@"
  '';

  nix = if config.nix.enable && config.nix.package != null then config.nix.package else pkgs.nix;
  # What the user and the system have comes last: checks of the type `command` may be of it.
  path = builtins.concatStringsSep ":" (
    map (package: "${package}/bin") [
      nix
      pkgs.coreutils
      # For git+https and git+ssh flakes.
      pkgs.gitMinimal
      pkgs.openssh
    ]
    # The systemd that is running, for systemctl and systemd-run.
    ++ [
      (dirOf config.systemd.user.systemctlPath)
      # sudo, ping and whatever else is set-uid.
      "/run/wrappers/bin"
      "${config.home.profileDirectory}/bin"
      # The user's own, wherever home-manager's is.
      "%h/.nix-profile/bin"
      "/etc/profiles/per-user/${config.home.username}/bin"
      "/run/current-system/sw/bin"
      # Where that is not NixOS.
      "/usr/local/bin"
      "/usr/bin"
      "/bin"
    ]
  );

  # Of all services: a switch must not end the agent that performs or confirms it.
  kept = description: {
    Description = description;
    X-SwitchMethod = "keep-old";
  };
  service = {
    Environment = [ "PATH=${path}" ];
  }
  // lib.optionalAttrs (cfg.environmentFile != null) { EnvironmentFile = cfg.environmentFile; };
in
{
  services.autoUpgradeHydra.settings = lib.mapAttrsRecursive (_path: lib.mkDefault) {
    target = "home-manager";
    host = cfg.name;
    inherit (cfg)
      strategy
      specialisation
      verify
      flags
      ;
    hydra = schema.settings "hydra" [ ] cfg.hydra;
    fetch = schema.settings "fetch" [ ] cfg.fetch;
    activate = schema.settings "activate" [ ] cfg.activate;
    disk = schema.settings "disk" [ "boot_reserve" ] cfg.disk;
    health = schema.settings "health" [ ] cfg.healthChecks;
    confirm = schema.settings "confirm" [ "collect_garbage" ] cfg.confirm;
    upgrade.foreign_hold = cfg.foreignHold;
    paths = {
      state_dir = "${config.xdg.stateHome}/nixos-hydra-agent";
      marks_dir = "${config.xdg.stateHome}/nixos-hydra-agent/marks";
    };
  };

  home.packages = [ command ];

  systemd.user.services.nixos-hydra-agent = {
    Unit = kept "Upgrade to Hydra's newest good build of this home";
    Service = service // {
      Type = "oneshot";
      ExecStart = "${agent} upgrade --config ${file}";
      # Held by a gate, or Hydra is out of reach and has not been for long: not now, and no failure.
      SuccessExitStatus = [
        69
        75
      ];
      TimeoutStartSec = deadlines.ofARun;
    };
  };

  systemd.user.timers.nixos-hydra-agent = {
    Unit.Description = "Look for Hydra's newest good build of this home";
    Install.WantedBy = [ "timers.target" ];
    Timer = {
      OnCalendar = cfg.dates;
      OnStartupSec = mkIf (cfg.onStartupSec != null) cfg.onStartupSec;
      RandomizedDelaySec = cfg.randomizedDelaySec;
      Persistent = cfg.persistent;
    };
  };

  # Started after each switch and with the user's systemd; where nothing is pending it has nothing to
  # do.
  systemd.user.services.nixos-hydra-agent-confirm = {
    Unit = kept "Confirm the home that the last upgrade has activated";
    Install.WantedBy = [ "default.target" ];
    Service = service // {
      Type = "exec";
      ExecStart = "${agent} confirm --config ${file}";
      # It waits inside its process for what it cannot judge yet; it ended as held all the same.
      RestartForceExitStatus = 75;
      RestartSec = "30s";
    };
  };
}
