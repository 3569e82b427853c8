# Stands in for nixpkgs where the flake is evaluated without network: functions and names of nixpkgs
# that the flake uses, and nothing that could be built.
{
  outputs =
    { self }:
    let
      lib = import ./lib.nix;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      legacyPackages = lib.genAttrs systems (system: import ./packages.nix { inherit lib system; });
    in
    {
      inherit legacyPackages;
      lib = lib // {
        nixosSystem = { modules }: import ./nixos.nix { inherit lib legacyPackages modules; };
      };
    };
}
