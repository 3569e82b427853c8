# services.nix-flake-updater: proposes a new flake.lock on a schedule, proven before anyone sees it.
#
# `self` is the flake, for its package; every option becomes a setting of `agent flake-update`, whose
# own schema is the authority (`agent config schema`).
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkIf
    mkOption
    optional
    optionalAttrs
    types
    ;

  cfg = config.services.nix-flake-updater;
  format = pkgs.formats.toml { };
  duration = types.either types.ints.positive types.str;
  secret =
    description:
    mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/run/keys/secret";
      description = "${description} A path outside of the store; root alone need be able to read it.";
    };

  # What systemd hands to the unit, and to nobody else.
  credentials = lib.filterAttrs (_name: file: file != null) {
    forge-token = cfg.forge.tokenFile;
    ntfy-token = cfg.ntfyTokenFile;
    notify-urls = cfg.notifyUrlsFile;
    ssh-key = cfg.sshKeyFile;
    signing-key = cfg.signing.keyFile;
  };
  credential =
    name: if credentials ? ${name} then "/run/credentials/nix-flake-updater.service/${name}" else null;

  isRoot = cfg.user == "root";
  isSignedByGpg = cfg.signing.format == "gpg";

  # What is null is left to the agent's own default.
  withoutNull =
    value:
    if builtins.isAttrs value then
      builtins.mapAttrs (_name: withoutNull) (lib.filterAttrs (_name: part: part != null) value)
    else
      value;

  # The agent wants regular expressions; of their characters a host's name can only have the dot.
  hostPattern = builtins.replaceStrings [ "." ] [ "\\." ];
  isInStore =
    path: builtins.substring 0 (builtins.stringLength builtins.storeDir) path == builtins.storeDir;
  file = format.generate "nix-flake-updater.toml" (withoutNull cfg.settings);
  checkedFile = pkgs.runCommand "flake-update.toml" { } ''
    ${lib.getExe cfg.package} config check --flake-update --config ${file}
    cp ${file} $out
  '';
in
{
  options.services.nix-flake-updater = {
    enable = mkEnableOption "proposals of a new flake.lock on a schedule";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalExpression "nixos-hydra-agent";
      description = "The agent.";
    };

    repoPath = mkOption {
      type = types.str;
      example = "/home/vincent/src/home";
      description = "The flake, in a git checkout of `user`; it stays as it is.";
    };

    gitRemote = mkOption {
      type = types.str;
      default = "origin";
      example = "codeberg";
      description = "Name of the remote that is fetched from and pushed to.";
    };

    baseBranch = mkOption {
      type = types.str;
      default = "main";
      description = "The branch that hosts follow, and that an update is for.";
    };

    branch = mkOption {
      type = types.str;
      default = "flake-update-{date}";
      example = "auto/flake-update";
      description = "The branch that an update is pushed to; `{date}` stands for the day.";
    };

    inputs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "nixpkgs" ];
      description = "The inputs to update; without any, all.";
    };

    buildSystems = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "aomi"
        "sakhalin"
        "rhea"
      ];
      description = "Hosts that must be built before an update is proposed; without any, all.";
    };

    schedule = mkOption {
      type = types.str;
      default = "Mon *-*-* 02:00:00";
      example = "daily";
      description = "When to look for updates, as in {manpage}`systemd.time(7)`.";
    };

    randomizedDelaySec = mkOption {
      type = types.either types.ints.unsigned types.str;
      default = 3600;
      example = "45min";
      description = "Longest random delay, in seconds or as in {manpage}`systemd.time(7)`.";
    };

    user = mkOption {
      type = types.str;
      example = "vincent";
      description = "Who owns the checkout, and may push.";
    };

    sshKeyFile = secret "Private key that the remote is shown; by default ssh chooses among the user's.";

    author = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "Flake Updater <updater@example.org>";
      description = "In whose name commits are made; by default as git is configured for the user.";
    };

    signing = {
      format = mkOption {
        type = types.nullOr (
          types.enum [
            "gpg"
            "ssh"
          ]
        );
        default = null;
        example = "ssh";
        description = "How commits are signed; by default as git is configured for the user.";
      };
      keyFile = secret "With `ssh`, the private key.";
      key = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "0123456789ABCDEF";
        description = "With `gpg`, the id of the key.";
      };
      gnupgHome = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/var/lib/nix-flake-updater/gnupg";
        description = "With `gpg`, where the key is, usable without a passphrase.";
      };
    };

    verify = {
      method = mkOption {
        type = types.enum [
          "local"
          "hydra"
        ];
        default = "local";
        description = ''
          `local` builds every host here; `hydra` pushes the branch, and waits until its jobset has
          built them.
        '';
      };
      hydra = {
        instance = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "https://hydra.example.org";
          description = "URL of the Hydra instance.";
        };
        project = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "nix-config";
          description = "Name of the project.";
        };
        jobset = mkOption {
          type = types.str;
          default = "{branch}";
          example = "updates";
          description = "Name of the jobset; `{branch}` stands for the name of the branch.";
        };
        job = mkOption {
          type = types.str;
          default = "{host}";
          description = "Name of a host's job; `{host}` stands for the host.";
        };
        deadline = mkOption {
          type = duration;
          default = "6h";
          description = "How long it may take until every host is built.";
        };
      };
    };

    forge = {
      type = mkOption {
        type = types.nullOr (
          types.enum [
            "forgejo"
            "github"
          ]
        );
        default = null;
        example = "forgejo";
        description = "Where the branch is proposed: `forgejo` (Gitea, too) or `github`; null: nowhere.";
      };
      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "https://codeberg.org";
        description = "URL of the forge; for `github` its public instance by default.";
      };
      repository = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "vincent/home";
        description = "The repository, as `owner/name`.";
      };
      tokenFile = secret "File with a token that may open pull requests.";
      labels = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "automation" ];
        description = "Labels of a proposal.";
      };
      assignees = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "vincent" ];
        description = "Logins of those who are assigned to a new proposal.";
      };
      autoMerge = mkOption {
        type = types.nullOr (
          types.enum [
            "merge"
            "squash"
            "rebase"
          ]
        );
        default = null;
        example = "squash";
        description = "How the forge merges a proposal once its required checks are green; null: people do.";
      };
    };

    ntfyTopic = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "nix-updates";
      description = "The ntfy topic that hears what came of each run; null: none.";
    };

    ntfyServer = mkOption {
      type = types.str;
      default = "https://ntfy.sh";
      example = "http://ntfy.example.org";
      description = "The ntfy server; its URL has no path.";
    };

    ntfyTokenFile = secret "File with an access token of the ntfy server.";

    notifyUrlsFile = secret "File with one apprise URL a line, for e-mail, Matrix, webhooks.";

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        flake_update.exclude = [ ".*-installer" ];
        log.level = "debug";
      };
      description = "Settings of the agent in its own words; they win over the other options.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.forge.type == null || cfg.forge.repository != null && cfg.forge.tokenFile != null;
        message = "services.nix-flake-updater.forge.type needs services.nix-flake-updater.forge.repository and services.nix-flake-updater.forge.tokenFile.";
      }
      {
        assertion = cfg.forge.type != "forgejo" || cfg.forge.url != null;
        message = "services.nix-flake-updater.forge.type = \"forgejo\" needs services.nix-flake-updater.forge.url.";
      }
      {
        assertion =
          cfg.verify.method != "hydra"
          || cfg.verify.hydra.instance != null && cfg.verify.hydra.project != null;
        message = "services.nix-flake-updater.verify.method = \"hydra\" needs services.nix-flake-updater.verify.hydra.instance and services.nix-flake-updater.verify.hydra.project.";
      }
      {
        assertion = cfg.signing.keyFile == null || cfg.signing.format == "ssh";
        message = "services.nix-flake-updater.signing.keyFile makes no sense without services.nix-flake-updater.signing.format = \"ssh\".";
      }
      {
        assertion = cfg.signing.key == null && cfg.signing.gnupgHome == null || isSignedByGpg;
        message = "services.nix-flake-updater.signing.key and services.nix-flake-updater.signing.gnupgHome make no sense without services.nix-flake-updater.signing.format = \"gpg\".";
      }
      {
        assertion = !builtins.any isInStore (builtins.attrValues credentials);
        message = "services.nix-flake-updater: everybody may read what is in the store: keep credentials elsewhere.";
      }
    ];

    services.nix-flake-updater.settings = lib.mapAttrsRecursive (_path: lib.mkDefault) {
      flake_update = {
        inherit (cfg) inputs branch author;
        repository = cfg.repoPath;
        remote = cfg.gitRemote;
        base = cfg.baseBranch;
        include = if cfg.buildSystems == [ ] then null else map hostPattern cfg.buildSystems;
        verify = cfg.verify.method;
        sign = cfg.signing.format;
        signing_key = if isSignedByGpg then cfg.signing.key else credential "signing-key";
        ssh_key_file = credential "ssh-key";
        hydra = {
          inherit (cfg.verify.hydra)
            instance
            project
            jobset
            job
            deadline
            ;
        };
        forge = {
          inherit (cfg.forge)
            type
            url
            repository
            labels
            assignees
            ;
          auto_merge = cfg.forge.autoMerge;
          token_file = credential "forge-token";
        };
      };
      notify = {
        ntfy_server = cfg.ntfyServer;
        ntfy_topic = cfg.ntfyTopic;
        ntfy_token_file = credential "ntfy-token";
        urls_file = credential "notify-urls";
      };
      log.format = "json";
    };

    systemd.services.nix-flake-updater = {
      description = "Propose a new flake.lock";
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
          # Not the private /tmp: nix's daemon must see what is to be kept from the garbage collector.
          TMPDIR = "/var/cache/nix-flake-updater/tmp";
          # apprise brings certificates of its own, and would know none of the host's.
          REQUESTS_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
        }
        // optionalAttrs (cfg.signing.gnupgHome != null) { GNUPGHOME = cfg.signing.gnupgHome; };
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${lib.getExe cfg.package} flake-update run --config ${checkedFile}";
        User = cfg.user;
        # Another one is at work: no failure.
        SuccessExitStatus = 75;
        # Above the sum of all deadlines of a run, as they are by default.
        TimeoutStartSec = "2d";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") credentials;
        CacheDirectory = "nix-flake-updater nix-flake-updater/tmp";
        CacheDirectoryMode = "0700";
        # Nothing stays behind of a run that was killed.
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
      # Root needs what root may, to read and write a checkout that is another's.
      // optionalAttrs (!isRoot) { CapabilityBoundingSet = ""; };
    };

    systemd.timers.nix-flake-updater = {
      description = "Look for updates of the flake's inputs";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.schedule;
        RandomizedDelaySec = cfg.randomizedDelaySec;
        Persistent = true;
      };
    };
  };
}
