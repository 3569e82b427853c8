# The templates' hosts and jobs, evaluated by NixOS itself; the installers are not built.
{
  lib,
  linkFarm,
  writeText,
  self,
  nixpkgs,
}:
let
  outputs =
    template:
    let
      made = (import "${template.path}/flake.nix").outputs {
        self = made // {
          inherit (template.path) outPath;
          outPath = template.path;
          inputs = { inherit nixpkgs; };
        };
        inherit nixpkgs;
        nixos-hydra-agent = self;
      };
    in
    made;
  # What evaluates to a derivation need not be built.
  drvPath = derivation: builtins.unsafeDiscardStringContext derivation.drvPath;
  evaluated =
    name: template:
    writeText "template-${name}" (
      lib.concatMapStrings (one: "${drvPath one}\n") (
        lib.collect lib.isDerivation (outputs template).hydraJobs
        ++ lib.collect lib.isDerivation (outputs template).packages or { }
      )
    );
in
linkFarm "nixos-hydra-agent-templates" {
  host = evaluated "host" self.templates.host;
  fleet = evaluated "fleet" self.templates.fleet;
}
