# What module.nix needs of nixpkgs' packages.
{ package, stand-in }:
let
  # One value to a line; tables and lists within are written in line.
  toToml =
    settings:
    builtins.concatStringsSep "" (
      map (key: "${key} = ${written settings.${key}}\n") (builtins.attrNames settings)
    );
  written =
    value:
    if builtins.isAttrs value then
      "{ ${
        builtins.concatStringsSep ", " (
          map (key: "${key} = ${written value.${key}}") (builtins.attrNames value)
        )
      } }"
    else if builtins.isList value then
      "[ ${builtins.concatStringsSep ", " (map written value)} ]"
    else
      builtins.toJSON value;
in
{
  coreutils = stand-in "coreutils";
  gitMinimal = stand-in "git";
  gnupg = stand-in "gnupg";
  grub2 = stand-in "grub2";
  nix = stand-in "nix";
  openssh = stand-in "openssh";
  systemd = stand-in "systemd";
  util-linux = stand-in "util-linux";
  stdenv.hostPlatform.system = "x86_64-linux";
  stdenv.buildPlatform.canExecute = _platform: true;
  formats.toml = _options: {
    generate = name: value: package name (builtins.toFile name (toToml value)) // { inherit value; };
  };
  writeShellScriptBin = name: text: package name (builtins.toFile name text);
  runCommand =
    name: _environment: script:
    derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      PATH = builtins.getEnv "PATH";
      args = [
        "-euc"
        script
      ];
    };
}
