{
  description = "One NixOS host that follows its Hydra job";

  inputs.nixpkgs.url = "https://channels.nixos.org/nixos-26.05/nixexprs.tar.xz";
  inputs.nixos-hydra-agent = {
    url = "git+https://forge.example.org/you/nixos-hydra-agent";
    inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nixos-hydra-agent,
    }:
    {
      nixosConfigurations.my-host = nixpkgs.lib.nixosSystem {
        modules = [
          ./configuration.nix
          nixos-hydra-agent.nixosModules.default
          {
            system.autoUpgradeHydra = {
              enable = true;
              hydra = {
                instance = "https://hydra.example.org";
                project = "nix-config";
                jobset = "main";
              };
              healthChecks.canaryHosts = [ "gateway.example.org" ];
            };
          }
        ];
      };

      # What Hydra builds, and the agent waits for: the job has the host's name.
      hydraJobs.my-host = self.nixosConfigurations.my-host.config.system.build.toplevel;
    };
}
