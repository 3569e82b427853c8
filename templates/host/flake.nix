{
  description = "One NixOS host that follows its Hydra job";

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
      # CHANGE: the host's name, which is also that of its configuration and its job.
      name = "my-host";
    in
    {
      nixosConfigurations.${name} = nixpkgs.lib.nixosSystem {
        modules = [
          ./configuration.nix
          nixos-hydra-agent.nixosModules.default
          {
            networking.hostName = name;
            system.autoUpgradeHydra = {
              enable = true;
              # CHANGE: where Hydra builds this flake.
              hydra = {
                instance = "https://hydra.example.org";
                project = "nix-config";
                jobset = "main";
              };
            };
          }
        ];
      };

      # What Hydra builds, and the agent waits for.
      hydraJobs.${name} = self.nixosConfigurations.${name}.config.system.build.toplevel;
    };
}
