# Turns a few parameters into derivations shaped like NixOS systems, and like homes. It needs no nixpkgs, so that a
# host of the demo is evaluated, built and fetched by the real nix within seconds, and offline.
{
  outputs =
    { self }:
    {
      lib = {
        system = import ./system.nix;
        home = import ./home.nix;
      };
    };
}
