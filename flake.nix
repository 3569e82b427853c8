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
      ours = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      packages = forEach (pkgs: rec {
        default = pkgs.callPackage ./nix/package.nix { };
        demo = pkgs.callPackage ./nix/demo.nix { nixos-hydra-agent = default; };
      });

      overlays.default = final: _prev: {
        nixos-hydra-agent = final.callPackage ./nix/package.nix { };
      };

      nixosModules = rec {
        # One key: imported twice, under either name, it is still one module.
        default = {
          key = "nixos-hydra-agent#nixosModules.default";
          _file = ./module.nix;
          imports = [ (import ./module.nix { inherit self; }) ];
        };
        # The name under which the first configurations imported it.
        nixos-hydra-upgrade = default;
        flake-updater = {
          key = "nixos-hydra-agent#nixosModules.flake-updater";
          _file = ./nix/updater/default.nix;
          imports = [ (import ./nix/updater { inherit self; }) ];
        };
      };

      homeModules.default = {
        key = "nixos-hydra-agent#homeModules.default";
        _file = ./nix/home/default.nix;
        imports = [ (import ./nix/home { inherit self; }) ];
      };

      templates = rec {
        default = host;
        host = {
          path = ./templates/host;
          description = "One NixOS host that follows its Hydra job";
        };
        fleet = {
          path = ./templates/fleet;
          description = "Hosts with their Hydra jobs, an update workflow and offline installers";
        };
      };

      apps = forEach (pkgs: rec {
        default = agent;
        agent = {
          type = "app";
          program = "${(ours pkgs).default}/bin/agent";
          meta.description = "The agent";
        };
        demo = {
          type = "app";
          program = "${(ours pkgs).demo}/bin/agent-demo";
          meta.description = "The agent at work on a throw-away host";
        };
      });

      checks = forEach (
        pkgs:
        let
          agent = (ours pkgs).default;
          python = pkgs.callPackage ./nix/python.nix { nixos-hydra-agent = agent; };
          source = pkgs.callPackage ./nix/source.nix { };
        in
        {
          package = agent;
          inherit (ours pkgs) demo;
          tests = pkgs.callPackage ./nix/checks/tests.nix { inherit python source; };
          documentation = pkgs.callPackage ./nix/checks/documentation.nix { inherit python source; };
          formatting = pkgs.callPackage ./nix/checks/formatting.nix { inherit source; };
          module = pkgs.callPackage ./nix/checks/module.nix { inherit self nixpkgs; };
          templates = pkgs.callPackage ./nix/checks/templates.nix { inherit self nixpkgs; };
        }
        // import ./nix/tests { inherit self pkgs; }
      );

      devShells = forEach (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { nixos-hydra-agent = (ours pkgs).default; };
      });

      formatter = forEach (pkgs: pkgs.nixfmt-tree);
    };
}
