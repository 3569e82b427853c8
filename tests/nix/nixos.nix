# What the modules of hosts need of NixOS: the options that it reads and sets, of the same types.
{ stand-in }:
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of = type: mkOption { inherit type; };
  option = type: default: mkOption { inherit type default; };
  package = name: option types.package (stand-in name);
  values = option (types.attrsOf types.unspecified) { };
  strings = option (types.listOf types.str) [ ];
  unit = {
    description = of types.str;
    after = strings;
    before = strings;
    wants = strings;
    wantedBy = strings;
    requiredBy = strings;
    unitConfig = values;
  };
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    boot.kernelParams = strings;
    boot.loader.grub.enable = option types.bool false;
    environment.etc = option (types.attrsOf (
      types.submodule { options.source = of types.package; }
    )) { };
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.hostName = option types.str "from-networking";
    networking.proxy.envVars = option (types.attrsOf types.str) { };
    nix.enable = option types.bool true;
    nix.package = package "nix";
    programs.ssh.package = package "openssh";
    services.chrony.enable = option types.bool false;
    services.chrony.package = package "chrony";
    system.autoUpgrade.enable = option types.bool false;
    system.build = values;
    system.checks = option (types.listOf types.package) [ ];
    systemd.package = package "systemd";
    systemd.services = option (types.attrsOf (
      types.submodule {
        options = unit // {
          environment = option (types.attrsOf types.str) { };
          path = option (types.listOf types.package) [ ];
          restartIfChanged = option types.bool true;
          serviceConfig = values;
        };
      }
    )) { };
    systemd.timers = option (types.attrsOf (
      types.submodule {
        options = unit // {
          timerConfig = values;
        };
      }
    )) { };
    virtualisation.xen.enable = option types.bool false;
    time.timeZone = option (types.nullOr types.str) null;
  };
}
