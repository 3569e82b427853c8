# Impossible combinations, each with the options' names.
{ cfg, schema }:
let
  option = name: "services.nix-flake-updater.${name}";
in
[
  {
    assertion = cfg.forge.type == null || cfg.forge.repository != null && cfg.forge.tokenFile != null;
    message = "${option "forge.type"} needs ${option "forge.repository"} and ${option "forge.tokenFile"}.";
  }
  {
    assertion =
      cfg.forge.type != "forgejo" || cfg.forge.url != schema.default "flake_update.forge" "url";
    message = "${option "forge.type"} = \"forgejo\" needs ${option "forge.url"}.";
  }
  {
    assertion =
      cfg.verify.method != "hydra"
      || cfg.verify.hydra.instance != null && cfg.verify.hydra.project != null;
    message = "${option "verify.method"} = \"hydra\" needs ${option "verify.hydra.instance"} and ${option "verify.hydra.project"}.";
  }
  {
    assertion = cfg.signing.keyFile == null || cfg.signing.format == "ssh";
    message = "${option "signing.keyFile"} makes no sense without ${option "signing.format"} = \"ssh\".";
  }
  {
    assertion = cfg.signing.key == null && cfg.signing.gnupgHome == null || cfg.signing.format == "gpg";
    message = "${option "signing.key"} and ${option "signing.gnupgHome"} make no sense without ${option "signing.format"} = \"gpg\".";
  }
]
