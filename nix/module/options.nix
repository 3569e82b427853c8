# The options of system.autoUpgradeHydra. Those that are settings of the agent have their types,
# defaults and descriptions from its schema.
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
  secretFile = import ./secret-file.nix { inherit types; };

  windows =
    what: besides:
    mkOption {
      type = types.listOf (
        schema.window.type {
          days.example = [
            "sat"
            "sun"
          ];
          start.example = "23:00";
          length.example = "4h";
          timeZone = {
            example = "Europe/Berlin";
            default = if config.time.timeZone == null then "UTC" else config.time.timeZone;
            defaultText = literalExpression "config.time.timeZone, or UTC";
          };
        }
      );
      default = [ ];
      example = [
        {
          days = [
            "sat"
            "sun"
          ];
          start = "23:00";
          length = "4h";
        }
      ];
      description = "Hours in which the agent may start ${what}${besides}; without any, always.";
    };

  checks = {
    # They are described in the settings' reference.
    visible = "shallow";
    example = [
      {
        type = "http";
        url = "https://wiki.example.org";
        body = "Welcome";
      }
    ];
  };
in
{
  enable = mkEnableOption "the agent, which upgrades this host to the newest good build of its Hydra job";

  package = mkOption {
    type = types.package;
    default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
    defaultText = literalExpression "inputs.nixos-hydra-agent.packages.\${system}.default";
    example = literalExpression "pkgs.nixos-hydra-agent";
    description = "The agent.";
  };

  host = schema.option "host" {
    default = config.networking.hostName;
    defaultText = literalExpression "config.networking.hostName";
    example = "web-1";
    description = "This host's attribute in `nixosConfigurations`.";
  };

  operation = schema.option "action" { example = "boot"; };
  strategy = schema.option "strategy" { example = "store-path"; };
  specialisation = schema.option "specialisation" { example = "quiet"; };
  verify = schema.option "verify" { example = false; };
  flags = schema.option "flags" { example = [ "-L" ]; };

  hydra = schema.options "hydra" [ ] {
    instance.example = "https://hydra.example.org";
    project.example = "nix-config";
    jobset.example = "main";
    job.example = "web-1";
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

  clock = schema.options "clock" [ ] { patience.example = "3d"; };

  disk = schema.options "disk" [ ] {
    storeReserve.example = "5GiB";
    bootReserve.example = "128MiB";
  };

  healthChecks = schema.options "health" [ ] {
    deadline.example = "1m";
    canaryHosts.example = [
      "gateway"
      "192.0.2.1"
      "https://wiki.example.org"
    ];
    inherit checks;
  };

  confirm = schema.options "confirm" [ "collect_garbage" ] {
    checks = checks // {
      example = [
        {
          type = "unit";
          unit = "nginx.service";
        }
        {
          type = "tcp";
          host = "localhost";
          port = 443;
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

  runGarbageCollection = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = ''
      Whether to start `nix-gc.service` once an upgrade is confirmed. {option}`nix.gc.options` determines
      what is collected; the confirmed system is always kept.
    '';
  };

  foreignHold = mkOption {
    inherit ((schema.options "upgrade" [ ] { }).foreignHold) type default description;
    example = "14d";
  };

  allowReboot = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = ''
      Whether to reboot the host when an upgrade changes the kernel, its parameters, its modules or
      the initrd. Without it, such an upgrade is activated as far as possible without a reboot.
    '';
  };

  rebootWindow = mkOption {
    type = types.nullOr (
      types.submodule {
        options = {
          lower = mkOption {
            type = schema.timeOfDay;
            example = "01:00";
            description = "When it opens.";
          };
          upper = mkOption {
            type = schema.timeOfDay;
            example = "05:00";
            description = "When it closes; on the next day if this is earlier than `lower`.";
          };
        };
      }
      // {
        description = "hours of a day";
      }
    );
    default = null;
    example = {
      lower = "01:00";
      upper = "05:00";
    };
    description = ''
      The hours of each day in which the host may reboot, in its own time zone. It only reboots with
      {option}`allowReboot`.
    '';
  };

  rebootWindows = windows "a reboot" ", in addition to {option}`rebootWindow`";
  upgradeWindows = windows "an upgrade" "";

  reboot =
    schema.options "reboot" [ "mode" "windows" ] {
      splay.example = "1h";
      margin.example = "30m";
      inhibitorLimit.example = "6h";
      userNotice.example = "5m";
      tryBoot = {
        example = false;
        description = ''
          Whether the boot loader's default stays on the confirmed system until the new one is
          confirmed, if the boot loader supports it. If the new system hangs during boot, a power cycle or the
          watchdog then brings back the confirmed one.
        '';
      };
    }
    // {
      deadline = mkOption {
        type = types.str;
        default = "20min";
        example = "30min";
        description = ''
          How long after boot a system that has not been confirmed is rolled back; see
          {manpage}`systemd.time(7)`.
        '';
      };
    };

  dates = mkOption {
    type = types.str;
    default = "04:40";
    example = "*:0/15";
    description = ''
      When to look for a new build; see {manpage}`systemd.time(7)`. A run that finds none sends one
      request to Hydra if the last full run was less than `hydra.refresh` ago, and six otherwise.
    '';
  };

  randomizedDelaySec = mkOption {
    type = types.str;
    default = "5min";
    example = "45min";
    description = ''
      The maximum delay after `dates`, so that the hosts of a fleet do not all ask in the same second;
      see {manpage}`systemd.time(7)`.
    '';
  };

  fixedRandomDelay = mkOption {
    type = types.bool;
    default = true;
    example = false;
    description = "Whether the delay is always the same for a given host, instead of random each time.";
  };

  persistent = mkOption {
    type = types.bool;
    default = true;
    example = false;
    description = "Whether to catch up on a run that was missed while the host was off.";
  };

  onBootSec = mkOption {
    type = types.nullOr types.str;
    default = null;
    example = "15min";
    description = ''
      How long after boot to look for a new build as well, for hosts that are rarely on; see
      {manpage}`systemd.time(7)`.
    '';
  };

  onlyOnACPower = mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = "Whether to skip runs while the host is on battery.";
  };

  credentials = mkOption {
    type = types.attrsOf secretFile;
    default = { };
    example = {
      netrc = "/run/secrets/cache-netrc";
      ssh-key = "/etc/ssh/ssh_host_ed25519_key";
    };
    description = ''
      Files with secrets, which systemd passes to the services only: checks of type `command`
      find them in `$CREDENTIALS_DIRECTORY`. Two have a special meaning: `netrc` is nix's
      `netrc-file`, for caches and tarballs that require a password, and `ssh-key` is the key with which
      git fetches flakes.
    '';
  };

  environmentFile = mkOption {
    type = types.nullOr secretFile;
    default = null;
    example = "/run/secrets/nixos-hydra-agent.env";
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
      reboot.mode = "always";
    };
    visible = "shallow";
    description = ''
      Settings of the agent, as described by `agent config schema`; they override the other options.
      Unknown settings are refused. The table `notify` has no effect
      here: so far only the flake updater (`services.nix-flake-updater`) sends notifications.
    '';
  };
}
