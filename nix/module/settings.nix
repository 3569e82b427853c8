# The options as settings of the agent, and the file that is generated from them.
{
  config,
  lib,
  pkgs,
  schema,
}:
let
  cfg = config.system.autoUpgradeHydra;

  checkedTimes =
    import ./times.nix
      {
        inherit lib;
        systemd = config.systemd.package;
      }
      {
        calendar."system.autoUpgradeHydra.dates" = cfg.dates;
        timespan = {
          "system.autoUpgradeHydra.randomizedDelaySec" = cfg.randomizedDelaySec;
          "system.autoUpgradeHydra.reboot.deadline" = cfg.reboot.deadline;
        }
        // lib.optionalAttrs (cfg.onBootSec != null) {
          "system.autoUpgradeHydra.onBootSec" = cfg.onBootSec;
        };
      };

  minutes =
    time:
    let
      found = builtins.match "0?([0-9]+):0?([0-9]+)" time;
      number = position: builtins.fromJSON (builtins.elemAt found position);
    in
    60 * number 0 + number 1;

  # The hours of `rebootWindow`, in the host's time zone.
  everyDay =
    { lower, upper }:
    let
      length = minutes upper - minutes lower;
    in
    {
      start = lower;
      length = "${toString (if length > 0 then length else length + 1440)}m";
      time_zone = if config.time.timeZone == null then "UTC" else config.time.timeZone;
    };

  file = (pkgs.formats.toml { }).generate "nixos-hydra-agent.toml" (schema.withoutNull cfg.settings);
in
{
  system.autoUpgradeHydra.settings = lib.mapAttrsRecursive (_path: lib.mkDefault) {
    inherit (cfg)
      host
      strategy
      specialisation
      verify
      flags
      ;
    action = cfg.operation;
    hydra = schema.settings "hydra" [ ] cfg.hydra;
    fetch = schema.settings "fetch" [ ] cfg.fetch;
    activate = schema.settings "activate" [ ] cfg.activate;
    clock = schema.settings "clock" [ ] cfg.clock;
    disk = schema.settings "disk" [ ] cfg.disk;
    health = schema.settings "health" [ ] cfg.healthChecks;
    confirm = schema.settings "confirm" [ "collect_garbage" ] cfg.confirm // {
      collect_garbage = cfg.runGarbageCollection;
    };
    upgrade = {
      foreign_hold = cfg.foreignHold;
      windows = map schema.window.settings cfg.upgradeWindows;
    };
    reboot = schema.settings "reboot" [ "mode" "windows" ] cfg.reboot // {
      mode = if cfg.allowReboot then "when-needed" else "never";
      windows =
        map schema.window.settings cfg.rebootWindows
        ++ lib.optional (cfg.rebootWindow != null) (everyDay cfg.rebootWindow);
    };
  };

  environment.etc."nixos-hydra-agent/config.toml".source = file;

  # The settings are checked by the agent itself, and times by systemd, while the
  # system is built.
  system.checks = lib.optional (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) (
    pkgs.runCommand "nixos-hydra-agent-settings" { } ''
      if ! ${lib.getExe cfg.package} config check --config ${file} > $out; then
        echo 'These are keys of system.autoUpgradeHydra.settings; most are made of options of like names.' >&2
        exit 1
      fi
      ${checkedTimes}
    ''
  );
}
