# The templates' jobs and installers, evaluated by NixOS itself, and not built.
{
  lib,
  linkFarm,
  writeText,
  self,
  nixpkgs,
}:
let
  outputsOf =
    template:
    let
      outputs = (import (template.path + "/flake.nix")).outputs {
        inherit nixpkgs;
        self = outputs // {
          outPath = toString template.path;
        };
        nixos-hydra-agent = self;
      };
    in
    outputs;
  derivationsOf =
    template:
    let
      outputs = outputsOf template;
    in
    lib.collect lib.isDerivation {
      inherit (outputs) hydraJobs;
      packages = outputs.packages or { };
    };
  # Its name says that it can be evaluated, and makes it no part of what is built.
  evaluated =
    template:
    writeText "template" (
      lib.concatMapStrings (derivation: "${builtins.unsafeDiscardStringContext derivation.drvPath}\n") (
        derivationsOf template
      )
    );
in
linkFarm "nixos-hydra-agent-templates" {
  host = evaluated self.templates.host;
  fleet = evaluated self.templates.fleet;
}
