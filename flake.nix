{
  description = "Upgrades NixOS hosts to the newest good build of their own Hydra job";

  inputs.nixpkgs.url = "https://channels.nixos.org/nixos-26.05/nixexprs.tar.xz";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: rec {
        default = pkgs.callPackage ./nix/package.nix { };
        demo = pkgs.callPackage ./nix/demo.nix { nixos-hydra-agent = default; };
      });

      overlays.default = final: _previous: {
        nixos-hydra-agent = final.callPackage ./nix/package.nix { };
      };

      nixosModules = rec {
        default = import ./module.nix { inherit self; };
        # The name under which the first configurations imported it.
        nixos-hydra-upgrade = default;
        flake-updater = import ./nix/updater.nix { inherit self; };
      };

      apps = forEach (pkgs: {
        demo = {
          type = "app";
          program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.demo}/bin/agent-demo";
        };
      });

      checks = forEach (pkgs: {
        inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) default demo;
        tests = pkgs.callPackage ./nix/tests.nix {
          nixos-hydra-agent = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };
      });

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.git
            pkgs.gnumake
            pkgs.nix
            pkgs.python3
          ];
        };
      });

      formatter = forEach (pkgs: pkgs.nixfmt-rfc-style);
    };
}
