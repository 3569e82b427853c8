# Evaluates configurations with the modules of hosts in them, each to all that tests ask of it.
#
# `cases` are modules by name; `nixpkgsLib`, a path, stands in place of the tests' own evaluator;
# `packages` is where packages are said to be.
{
  cases,
  nixpkgsLib ? null,
  packages ? "/packages",
}:
let
  lib = if nixpkgsLib == null then import ./evaluator else import nixpkgsLib;

  package = name: outPath: {
    type = "derivation";
    inherit name outPath;
  };
  stand-in = name: package name "${packages}/${name}";
  pkgs = import ./pkgs.nix { inherit package stand-in; };
  self.packages.${pkgs.stdenv.hostPlatform.system}.default = stand-in "nixos-hydra-agent" // {
    meta.mainProgram = "agent";
  };

  # What not every release of NixOS has.
  option = type: default: lib.mkOption { inherit type default; };
  newer.options = {
    boot.loader.systemd-boot.bootCounting.enable = option lib.types.bool false;
    systemd.settings.Manager = option (lib.types.attrsOf lib.types.unspecified) { };
  };
  older.options.systemd.watchdog.runtimeTime = option (lib.types.nullOr lib.types.str) null;

  evaluate =
    case:
    lib.evalModules {
      modules = [
        (import ./nixos.nix { inherit stand-in; })
        # An example may bring them along itself.
        (if case.isWhole or false then { } else import ../../module.nix { inherit self; })
        (if case.isWhole or false then { } else import ../../nix/updater { inherit self; })
        (if case.isOlder or false then older else newer)
        { system.build.nixos-rebuild = stand-in "nixos-rebuild"; }
        (removeAttrs case [
          "isOlder"
          "isWhole"
        ])
      ];
      specialArgs = { inherit pkgs; };
    };

  told =
    made:
    let
      inherit (made) config;
      problems = made.problems or [ ];
      refused = builtins.filter (assertion: !assertion.assertion) config.assertions;
    in
    if problems != [ ] then
      { inherit problems; }
    else if refused != [ ] then
      { problems = map (assertion: assertion.message) refused; }
    else
      {
        problems = [ ];
        inherit (config.systemd) services timers;
        inherit (config.boot) kernelParams;
        packages = config.environment.systemPackages;
        manager = config.systemd.settings.Manager or config.systemd.watchdog;
        counts = config.boot.loader.systemd-boot.bootCounting.enable or null;
        settings = config.environment.etc."nixos-hydra-agent/config.toml".source.value or null;
        updater =
          if config.services.nix-flake-updater.enable or false then
            config.services.nix-flake-updater.settings
          else
            null;
      };

  # nixpkgs' `lib` ends an evaluation where this one collects problems.
  judged =
    made:
    let
      found = told made;
      tried = builtins.tryEval (builtins.deepSeq found found);
    in
    if tried.success then tried.value else { problems = made.unset or null; };
in
{
  # What came of each case: its problems (null where an evaluation was ended), or its system.
  results = builtins.mapAttrs (_name: case: judged (evaluate case)) cases;
  # The same, but what ends an evaluation ends this one.
  alone = builtins.mapAttrs (_name: case: told (evaluate case)) cases;
  # What is built with the systems to check them.
  checks = builtins.concatMap (name: (evaluate cases.${name}).config.system.checks) (
    builtins.attrNames cases
  );
  # Every option, by its name below `system.autoUpgradeHydra`.
  options = import ./option-list.nix (evaluate { }).options.system.autoUpgradeHydra;
  # What is said to be NixOS's own.
  declared =
    (lib.evalModules {
      modules = [
        (import ./nixos.nix { inherit stand-in; })
        newer
        older
      ];
    }).options;
  # And by its name below `services.nix-flake-updater`.
  updaterOptions = import ./option-list.nix (evaluate { }).options.services.nix-flake-updater;
}
