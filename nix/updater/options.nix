# The options of services.nix-flake-updater. Those that are settings of the agent have their types,
# defaults and descriptions from its schema.
{
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
  flakeUpdate = schema.optionIn "flake_update";
  secret =
    description:
    mkOption {
      type = types.nullOr (import ../module/secret-file.nix { inherit types; });
      default = null;
      example = "/run/keys/secret";
      description = "${description} Only root needs to be able to read it.";
    };
in
{
  enable = mkEnableOption "scheduled proposals of flake.lock updates";

  package = mkOption {
    type = types.package;
    default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
    defaultText = literalExpression "inputs.nixos-hydra-agent.packages.\${system}.default";
    example = literalExpression "pkgs.nixos-hydra-agent";
    description = "The agent.";
  };

  repoPath = mkOption {
    type = types.strMatching "/.*" // {
      description = "absolute path, in quotes";
    };
    example = "/home/vincent/src/home";
    description = ''
      The flake, in a git checkout owned by `user`; it is not modified. If it is not at the top of the
      checkout, the unit must also be able to write there:
      {option}`systemd.services.nix-flake-updater.serviceConfig.ReadWritePaths`.
    '';
  };

  gitRemote = flakeUpdate "remote" { example = "codeberg"; };
  baseBranch = flakeUpdate "base" {
    example = "next";
    description = "The branch that hosts follow, and that updates are proposed for.";
  };
  branch = flakeUpdate "branch" { example = "auto/flake-update"; };
  inputs = flakeUpdate "inputs" { example = [ "nixpkgs" ]; };

  buildSystems = mkOption {
    type = types.listOf types.str;
    default = [ ];
    example = [
      "aomi"
      "sakhalin"
      "rhea"
    ];
    description = "Hosts that must build before an update is proposed; by default all that could be built before.";
  };

  schedule = mkOption {
    type = types.str;
    default = "Mon *-*-* 02:00:00";
    example = "daily";
    description = "When to look for updates; see {manpage}`systemd.time(7)`.";
  };

  randomizedDelaySec = mkOption {
    type = types.either types.ints.unsigned types.str;
    default = 3600;
    example = "45min";
    description = "The maximum random delay, in seconds or as in {manpage}`systemd.time(7)`.";
  };

  user = mkOption {
    type = types.str;
    example = "vincent";
    description = "The user who owns the checkout and may push.";
  };

  sshKeyFile = secret "Private SSH key for the remote; by default ssh uses the user's keys.";
  author = flakeUpdate "author" {
    example = "Flake Updater <updater@example.org>";
    description = "Author of the commits; by default as git is configured for the user.";
  };
  committer = flakeUpdate "committer" {
    example = "Operations <ops@example.org>";
    description = "Committer of the commits; by default their author.";
  };

  signing = {
    format = flakeUpdate "sign" {
      example = "ssh";
      description = "How commits are signed; by default as git is configured for the user.";
    };
    keyFile = secret "With `ssh`, the private key.";
    key = flakeUpdate "signing_key" {
      example = "0123456789ABCDEF";
      description = "With `gpg`, the id of the key.";
    };
    gnupgHome = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "/var/lib/nix-flake-updater/gnupg";
      description = "With `gpg`, the directory with the key, which must not need a passphrase.";
    };
  };

  verify = {
    method = flakeUpdate "verify" {
      example = "hydra";
      description = ''
        `local` builds every host locally; `hydra` pushes {option}`verify.hydra.branch` and waits until
        its jobset has built them.
      '';
    };
    hydra = schema.options "flake_update.hydra" [ "timeout" "poll" ] {
      instance.example = "https://hydra.example.org";
      project.example = "nix-config";
      branch.example = "updates";
      jobset.example = "updates";
      job.example = "hosts.{host}";
      deadline.example = "12h";
    };
  };

  forge =
    schema.options "flake_update.forge" [ "timeout" "token_file" ] {
      type = {
        example = "forgejo";
        description = "Where to propose the branch: `forgejo` (also for Gitea) or `github`; null: nowhere.";
      };
      url.example = "https://codeberg.org";
      repository.example = "vincent/home";
      labels.example = [ "automation" ];
      assignees.example = [ "vincent" ];
      autoMerge = {
        example = "squash";
        description = "How the forge merges a proposal once its required checks pass; null: it does not.";
      };
    }
    // {
      tokenFile = secret "File with a token that may open pull requests.";
    };

  ntfyTopic = schema.optionIn "notify" "ntfy_topic" {
    example = "nix-updates";
    description = "The ntfy topic for the result of each run; null: none.";
  };
  ntfyServer = schema.optionIn "notify" "ntfy_server" { example = "https://ntfy.example.org"; };
  ntfyTokenFile = secret "File with an access token of the ntfy server.";
  notifyUrlsFile = secret "File with one apprise URL per line, for e-mail, Matrix, webhooks.";

  settings = mkOption {
    type = schema.type;
    default = { };
    example = {
      flake_update.exclude = [ ".*-installer" ];
      log.level = "debug";
    };
    visible = "shallow";
    description = ''
      Settings of the agent, as described by `agent config schema`; they override the other options.
      Unknown settings are refused.
    '';
  };
}
