# The fleet: `nixosConfigurations` for nixos-rebuild, `homeConfigurations`, `hydraJobs` for Hydra. `fleet.json` is all
# that the demo's commits change.
{
  inputs.base.url = "git+file://@repositories@/base?ref=main";

  outputs =
    { self, base }:
    let
      fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
      system =
        hostName: host:
        base.lib.system {
          inherit (fleet) platform path;
          inherit hostName host;
        };
      home =
        name: home:
        base.lib.home {
          inherit (fleet) platform path;
          inherit name home;
        };
    in
    {
      homeConfigurations = builtins.mapAttrs home fleet.homes;
      nixosConfigurations = builtins.mapAttrs system fleet.hosts;
      hydraJobs = builtins.mapAttrs (_: host: host.config.system.build.toplevel) self.nixosConfigurations;
    };
}
