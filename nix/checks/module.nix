# Hosts with the module, evaluated by NixOS itself; their settings are checked as they are built.
{
  lib,
  linkFarm,
  stdenv,
  self,
  nixpkgs,
}:
let
  hydra = {
    instance = "https://hydra.example.org";
    project = "nix-config";
    jobset = "main";
  };
  host =
    options:
    hostWith {
      system.autoUpgradeHydra = {
        enable = true;
      }
      // options;
    };
  hostWith =
    options:
    (nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        # A second import of it, under its other name, changes nothing.
        self.nixosModules.nixos-hydra-upgrade
        self.nixosModules.flake-updater
        {
          nixpkgs.hostPlatform = stdenv.hostPlatform.system;
          networking.hostName = "web-1";
          boot.isContainer = true; # without a kernel it is soon built
          system.stateVersion = lib.trivial.release;
        }
        options
      ];
    }).config.system.build.toplevel;
in
linkFarm "nixos-hydra-agent-module" {
  least = host { inherit hydra; };
  first = host {
    operation = "boot";
    host = "hostname";
    hydra = hydra // {
      job = "hostname";
    };
    healthChecks.canaryHosts = [ "yourcanaryhostname" ];
    flags = [ ];
    dates = "*-*-* 04:40:00";
    allowReboot = false;
  };
  whole = host {
    inherit hydra;
    strategy = "store-path";
    allowReboot = true;
    rebootWindow = {
      lower = "01:00";
      upper = "05:00";
    };
    confirm.checks = [
      {
        type = "unit";
        unit = "nginx.service";
      }
    ];
    settings.log.level = "debug";
  };
  updater = hostWith {
    services.nix-flake-updater = {
      enable = true;
      user = "root";
      repoPath = "/srv/nixos";
    };
  };
}
