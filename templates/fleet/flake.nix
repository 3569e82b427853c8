{
  description = "A fleet of NixOS hosts that follow their Hydra jobs";

  inputs.nixpkgs.url = "https://channels.nixos.org/nixos-26.05/nixexprs.tar.xz";
  inputs.nixos-hydra-agent = {
    url = "git+https://forge.example.org/you/nixos-hydra-agent"; # CHANGE: where the agent's flake is
    inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nixos-hydra-agent,
    }:
    let
      inherit (nixpkgs) lib;

      # CHANGE: each file is one host; names have no dots, so that a job is called as its host is.
      hosts = {
        web-1 = ./hosts/web-1.nix;
        web-2 = ./hosts/web-2.nix;
      };

      hostOf =
        name: file:
        lib.nixosSystem {
          modules = [
            nixos-hydra-agent.nixosModules.default
            ./common.nix
            file
            {
              networking.hostName = name;
              # `nixos-version --configuration-revision` tells which commit a host runs.
              system.configurationRevision = self.rev or self.dirtyRev or null;
            }
          ];
        };

      installerOf =
        name: host:
        lib.nixosSystem {
          modules = [
            (import ./installer.nix {
              inherit name host;
              source = self.outPath;
              # With these even an evaluation of the flake needs no network.
              inputs = [
                nixpkgs.outPath
                nixos-hydra-agent.outPath
              ];
            })
          ];
        };

      installed = lib.mapAttrs hostOf hosts;
      # An image boots in another way than what it installs: each host has two configurations.
      installers = lib.mapAttrs' (
        name: host: lib.nameValuePair "${name}-installer" (installerOf name host)
      ) installed;

      systems = [ "x86_64-linux" ];
      forEach = lib.genAttrs systems;
    in
    {
      nixosConfigurations = installed // installers;

      # One job a host, and one that is good when all of them are.
      hydraJobs = lib.mapAttrs (_name: host: host.config.system.build.toplevel) installed // {
        fleet = nixpkgs.legacyPackages.${lib.head systems}.releaseTools.aggregate {
          name = "fleet";
          # By name: Hydra evaluates each host once, in a worker of its own.
          constituents = lib.attrNames installed;
          meta.description = "Every host of the fleet";
        };
      };

      # nix build .#web-1-installer
      packages = forEach (
        system:
        lib.mapAttrs (_name: installer: installer.config.system.build.isoImage) (
          lib.filterAttrs (_name: installer: installer.pkgs.stdenv.hostPlatform.system == system) installers
        )
      );

      # What the update workflow calls: `nix run .#agent -- flake-update run`.
      apps = forEach (system: {
        inherit (nixos-hydra-agent.apps.${system}) agent;
      });
    };
}
