# services.nix-flake-updater: proposes updates of flake.lock on a schedule, once they are proven.
#
# `self` is the flake, for its package; every option becomes a setting of `agent flake-update`.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf optional optionalAttrs;

  schema = import ../module/schema.nix { inherit lib; };
  cfg = config.services.nix-flake-updater;

  # Credentials, which systemd passes to the unit only.
  credentials = lib.filterAttrs (_name: file: file != null) {
    forge-token = cfg.forge.tokenFile;
    ntfy-token = cfg.ntfyTokenFile;
    notify-urls = cfg.notifyUrlsFile;
    ssh-key = cfg.sshKeyFile;
    signing-key = cfg.signing.keyFile;
  };
  credential =
    name: if credentials ? ${name} then "/run/credentials/nix-flake-updater.service/${name}" else null;

  checkedTimes =
    import ../module/times.nix
      {
        inherit lib;
        systemd = config.systemd.package;
      }
      {
        calendar."services.nix-flake-updater.schedule" = cfg.schedule;
        timespan."services.nix-flake-updater.randomizedDelaySec" = cfg.randomizedDelaySec;
      };

  isRoot = cfg.user == "root";
  isSignedByGpg = cfg.signing.format == "gpg";

  # The agent expects regular expressions; the dot is their only special character in host names.
  hostPattern = builtins.replaceStrings [ "." ] [ "\\." ];
  file = (pkgs.formats.toml { }).generate "nix-flake-updater.toml" (schema.withoutNull cfg.settings);
in
{
  options.services.nix-flake-updater = import ./options.nix {
    inherit
      lib
      pkgs
      schema
      self
      ;
  };

  config = mkIf cfg.enable {
    assertions = import ./assertions.nix { inherit cfg schema; };

    services.nix-flake-updater.settings = lib.mapAttrsRecursive (_path: lib.mkDefault) {
      flake_update = {
        inherit (cfg)
          inputs
          branch
          author
          committer
          ;
        repository = cfg.repoPath;
        remote = cfg.gitRemote;
        base = cfg.baseBranch;
        include = if cfg.buildSystems == [ ] then null else map hostPattern cfg.buildSystems;
        require = if cfg.buildSystems == [ ] then null else map hostPattern cfg.buildSystems;
        # A host that is named is not excluded.
        exclude = if cfg.buildSystems == [ ] then null else [ ];
        verify = cfg.verify.method;
        sign = cfg.signing.format;
        signing_key = if isSignedByGpg then cfg.signing.key else credential "signing-key";
        ssh_key_file = credential "ssh-key";
        hydra = schema.settings "flake_update.hydra" [ "timeout" "poll" ] cfg.verify.hydra;
        forge = schema.settings "flake_update.forge" [ "timeout" "token_file" ] cfg.forge // {
          token_file = credential "forge-token";
        };
      };
      notify = {
        ntfy_server = cfg.ntfyServer;
        ntfy_topic = cfg.ntfyTopic;
        ntfy_token_file = credential "ntfy-token";
        urls_file = credential "notify-urls";
      };
    };

    # The settings are checked by the agent itself, and times by systemd, while the
    # system is built.
    system.checks = optional (pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform) (
      pkgs.runCommand "nix-flake-updater-settings" { } ''
        if ! ${lib.getExe cfg.package} config check --flake-update --config ${file} > $out; then
          echo 'These are keys of services.nix-flake-updater.settings; most are made of options of like names.' >&2
          exit 1
        fi
        ${checkedTimes}
      ''
    );

    systemd.services.nix-flake-updater = {
      description = "Propose an update of flake.lock";
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      # A switch must not kill an update that is being built.
      restartIfChanged = false;
      path = [
        config.nix.package
        config.programs.ssh.package
        pkgs.gitMinimal
      ]
      ++ optional isSignedByGpg pkgs.gnupg;
      environment =
        config.networking.proxy.envVars
        // {
          # The user's own cache is read-only here.
          XDG_CACHE_HOME = "/var/cache/nix-flake-updater";
          # Not the private /tmp: nix's daemon must see the garbage collector roots.
          TMPDIR = "/var/cache/nix-flake-updater/tmp";
          # apprise has certificates of its own, and would not use the host's.
          REQUESTS_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
        }
        // optionalAttrs (cfg.signing.gnupgHome != null) { GNUPGHOME = cfg.signing.gnupgHome; };
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${lib.getExe cfg.package} flake-update run --config ${file}";
        User = cfg.user;
        # Held (75), since another update is running, is not a failure. Unreachable (69) is: this unit is not
        # one of a fleet, and an update that did not happen should be seen.
        SuccessExitStatus = 75;
        # If a nix is killed for lack of memory, the run continues, and reports it.
        OOMPolicy = "continue";
        # Longer than the sum of a run's default deadlines.
        TimeoutStartSec = "2d";
        # A run that is ended takes back a branch without a proposal, and sends a notification.
        TimeoutStopSec = "15min";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") credentials;
        CacheDirectory = "nix-flake-updater nix-flake-updater/tmp";
        CacheDirectoryMode = "0700";
        # Nothing is left of a run that was killed.
        ExecStopPost = "${pkgs.coreutils}/bin/rm -rf /var/cache/nix-flake-updater/tmp";

        ReadWritePaths = [ cfg.repoPath ] ++ optional (cfg.signing.gnupgHome != null) cfg.signing.gnupgHome;
        NoNewPrivileges = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectSystem = "strict";
        ProtectHome = "read-only";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        # The resolver asks the kernel for this host's addresses.
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        SystemCallArchitectures = "native";
      }
      # Root needs its capabilities to read and write another user's checkout.
      // optionalAttrs (!isRoot) { CapabilityBoundingSet = ""; };
    };

    systemd.timers.nix-flake-updater = {
      description = "Look for updates of the flake inputs";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.schedule;
        RandomizedDelaySec = cfg.randomizedDelaySec;
        Persistent = true;
      };
    };
  };
}
