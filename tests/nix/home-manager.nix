# What nix/home/ needs of home-manager: the options that it reads and sets, of the same types.
{ stand-in }:
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  values = option (types.attrsOf types.unspecified) { };
  # Units of one kind, with a section of its own name.
  units =
    kind:
    option (types.attrsOf (
      types.submodule {
        options = {
          Unit = values;
          Install = values;
          ${kind} = values;
        };
      }
    )) { };
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    home.packages = option (types.listOf types.package) [ ];
    home.profileDirectory = option types.str "/home/eve/.nix-profile";
    home.username = option types.str "eve";
    nix.enable = option types.bool true;
    nix.package = option (types.nullOr types.package) (stand-in "nix");
    systemd.user.services = units "Service";
    systemd.user.systemctlPath = option types.str "/packages/systemd/bin/systemctl";
    systemd.user.timers = units "Timer";
    xdg.stateHome = option types.str "/home/eve/.local/state";
  };
}
