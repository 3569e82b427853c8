# A package set of derivations that nobody builds; what makes packages keeps what it was given. It has
# the names of seen.toml, and no others.
{ lib, system }:
let
  inherit (import ./seen.nix) fill;
  package =
    name: passed:
    derivation {
      inherit name system;
      builder = "/bin/sh";
    }
    // {
      inherit passed;
    };

  python3Packages = fill "python3Packages" (name: package "python3-${name}" null) {
    buildPythonApplication =
      given:
      package "${given.pname}-${given.version}" given
      // {
        inherit (given) dependencies version;
      };
    python.interpreter = "/bin/python3";
    toPythonModule = module: module;
  };

  packages = fill "packages" (name: package name null) {
    inherit lib python3Packages;
    stdenv = {
      buildPlatform.canExecute = _: true;
      hostPlatform = { inherit system; };
    };
    python3 = package "python3" null // {
      withPackages = choose: package "python3-env" (choose python3Packages);
    };
    callPackage =
      file: given:
      let
        make = import file;
      in
      make (builtins.intersectAttrs (builtins.functionArgs make) packages // given);
    formats.toml = _options: { generate = name: value: package name { inherit value; }; };
    linkFarm = package;
    mkShell = package "shell";
    releaseTools.aggregate = given: package given.name given;
    runCommand =
      name: environment: script:
      package name (environment // { inherit script; });
    testers.runNixOSTest =
      test:
      let
        node =
          name: module:
          (import ./nixos.nix {
            inherit lib;
            legacyPackages.${system} = packages;
            arguments = { inherit nodes; };
            modules = [
              {
                networking.hostName = name;
                nixpkgs.hostPlatform = system;
              }
              module
            ];
          }).config;
        nodes = lib.mapAttrs node test.nodes;
        testScript = test.testScript { inherit nodes; };
      in
      package test.name { inherit nodes testScript; };
    writeShellApplication = given: package given.name given;
    writeShellScriptBin = name: text: package name { inherit text; };
    writeText = name: text: package name { inherit text; };
  };
in
packages
