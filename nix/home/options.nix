# The options of services.autoUpgradeHydra: those of a host that make sense for a user.
{
  config,
  lib,
  pkgs,
  schema,
  self,
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;

  checks = {
    # They are described in the settings' reference.
    visible = "shallow";
    example = [
      {
        type = "http";
        url = "https://wiki.example.org";
      }
    ];
  };
in
{
  enable = mkEnableOption "the agent, which upgrades this home to the newest good build of its Hydra job";

  package = mkOption {
    type = types.package;
    default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
    defaultText = literalExpression "inputs.nixos-hydra-agent.packages.\${system}.default";
    example = literalExpression "pkgs.nixos-hydra-agent";
    description = "The agent.";
  };

  name = schema.option "host" {
    default = config.home.username;
    defaultText = literalExpression "config.home.username";
    example = "eve@laptop";
    description = "This home's attribute in `homeConfigurations`.";
  };

  strategy = schema.option "strategy" { example = "store-path"; };
  specialisation = schema.option "specialisation" { example = "quiet"; };
  verify = schema.option "verify" { example = false; };
  flags = schema.option "flags" {
    example = [ "-L" ];
    description = "Additional arguments for `nix build`.";
  };

  hydra = schema.options "hydra" [ ] {
    instance.example = "https://hydra.example.org";
    project.example = "nix-config";
    jobset.example = "main";
    job = {
      example = "home-eve";
      description = "Name of the job, an activation package; by default `name` (in quotes if it has dots).";
    };
    select.example = "latest-finished";
    timeout.example = "30s";
    deadline.example = "5m";
    refresh.example = "15m";
    patience.example = "7d";
  };

  fetch = schema.options "fetch" [ ] {
    substituters.example = [ "https://cache.example.org" ];
    trustedPublicKeys.example = [ "cache.example.org-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" ];
    localBuilds.example = true;
    deadline.example = "6h";
  };

  activate = schema.options "activate" [ ] { deadline.example = "1h"; };

  disk = schema.options "disk" [ "boot_reserve" ] { storeReserve.example = "5GiB"; };

  healthChecks = schema.options "health" [ ] {
    deadline.example = "1m";
    canaryHosts.example = [ "gateway" ];
    inherit checks;
  };

  confirm = schema.options "confirm" [ "collect_garbage" ] {
    checks = checks // {
      example = [
        {
          type = "command";
          command = [
            "fish"
            "--command"
            "exit"
          ];
        }
      ];
    };
    settle.example = "2m";
    deadline.example = "30m";
    patience.example = "3d";
    hydra.example = false;
    gateway.example = false;
    onFailure.example = "hold";
    ignoreUnits.example = [ "backup-*.service" ];
  };

  foreignHold = mkOption {
    inherit ((schema.options "upgrade" [ ] { }).foreignHold) type default description;
    example = "14d";
  };

  dates = mkOption {
    type = types.str;
    default = "05:40";
    example = "*:0/15";
    description = ''
      When to look for a new build; see {manpage}`systemd.time(7)`. A run that finds none sends one
      request to Hydra if the last full run was less than `hydra.refresh` ago, and six otherwise.
      A run waits while the system's own run is in progress.
    '';
  };

  randomizedDelaySec = mkOption {
    type = types.str;
    default = "5min";
    example = "45min";
    description = "The maximum delay after `dates`; see {manpage}`systemd.time(7)`.";
  };

  persistent = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = ''
      Whether to catch up on a run that `dates` missed when the user's systemd starts, before
      `onStartupSec` and perhaps before the system's own run.
    '';
  };

  onStartupSec = mkOption {
    type = types.nullOr types.str;
    default = "10min";
    example = "2min";
    description = ''
      How long after the start of the user's systemd to look for a new build as well, so that the
      system's own run goes first; see {manpage}`systemd.time(7)`. The user's systemd starts at the first
      login, or at boot with lingering.
    '';
  };

  environmentFile = mkOption {
    type = types.nullOr (import ../module/secret-file.nix { inherit types; });
    default = null;
    example = "/home/eve/.config/nixos-hydra-agent.env";
    description = ''
      File with environment variables for the services; see {manpage}`systemd.exec(5)`. Variables that
      start with `NIXOS_HYDRA_AGENT_` are settings, and override all others.
    '';
  };

  settings = mkOption {
    type = schema.type;
    default = { };
    example = {
      log.level = "debug";
    };
    visible = "shallow";
    description = ''
      Settings of the agent, as described by `agent config schema`; they override the other options.
      Unknown settings are refused. The table `notify` has no effect
      here: so far only the flake updater (`services.nix-flake-updater`) sends notifications.
    '';
  };
}
