# Evaluates homes with nix/home/ in them, as evaluate.nix does hosts with module.nix.
{
  cases,
  packages ? "/packages",
}:
let
  lib = import ./evaluator;
  package = name: outPath: {
    type = "derivation";
    inherit name outPath;
  };
  stand-in = name: package name "${packages}/${name}";
  pkgs = import ./pkgs.nix { inherit package stand-in; };
  self.packages.${pkgs.stdenv.hostPlatform.system}.default = stand-in "nixos-hydra-agent" // {
    meta.mainProgram = "agent";
  };
  evaluate =
    case:
    lib.evalModules {
      modules = [
        (import ./home-manager.nix { inherit stand-in; })
        (import ../../nix/home { inherit self; })
        case
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
        inherit (config.systemd.user) services timers;
        packages = map (package: package.name) config.home.packages;
        inherit (config.services.autoUpgradeHydra) settings;
      };
in
{
  results = builtins.mapAttrs (_name: case: told (evaluate case)) cases;
  # What a home's units make nix build: the settings, which the agent checks.
  checks = builtins.attrValues (
    builtins.mapAttrs (
      _name: case:
      let
        unit = (evaluate case).config.systemd.user.services.nixos-hydra-agent;
      in
      pkgs.runCommand "units" { } "echo '${unit.Service.ExecStart}' > $out"
    ) cases
  );
  # Every option, by its name below `services.autoUpgradeHydra`.
  options = import ./option-list.nix (evaluate { }).options.services.autoUpgradeHydra;
  # What is said to be home-manager's own.
  declared =
    (lib.evalModules {
      modules = [ (import ./home-manager.nix { inherit stand-in; }) ];
    }).options;
}
