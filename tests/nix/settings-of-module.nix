# The settings that module.nix makes of a host's options, with the least of `lib` that it needs.
{
  module,
  options,
}:
let
  isOption = value: value._type or "" == "option";
  types =
    let
      any = _: { };
    in
    {
      bool = { };
      str = { };
      package = { };
      ints.positive = { };
      either = _: any;
      enum = any;
      listOf = any;
      nullOr = any;
      submodule = any;
    };
  lib = {
    inherit types;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = _: {
      _type = "option";
      default = false;
    };
    mkIf = condition: value: if condition then value else { };
    mkMerge = builtins.foldl' (one: other: one // other) { };
    mkDefault = value: value;
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    getExe = package: "${package}/bin/agent";
    literalExpression = text: text;
    elem = builtins.elem;
    filterAttrsRecursive =
      keep: set:
      builtins.listToAttrs (
        builtins.concatMap (
          name:
          if keep name set.${name} then
            [
              {
                inherit name;
                value =
                  if builtins.isAttrs set.${name} then
                    lib.filterAttrsRecursive keep set.${name}
                  else
                    set.${name};
              }
            ]
          else
            [ ]
        ) (builtins.attrNames set)
      );
    mapAttrsRecursive =
      change:
      builtins.mapAttrs (
        name: value:
        if builtins.isAttrs value then lib.mapAttrsRecursive change value else change [ name ] value
      );
  };
  # Every option's value: what the host sets, or the default; neither is an error of the host.
  merge =
    declared: given:
    builtins.mapAttrs (
      name: option:
      if isOption option then
        given.${name} or option.default
      else
        merge option (given.${name} or { })
    ) declared;
  evaluated = import module { self = { }; } {
    inherit lib config;
    options.systemd.settings = { };
    pkgs.formats.toml = _: {
      type = { };
      generate = name: _value: "/${name}";
    };
    pkgs.runCommand = name: _: _: name;
  };
  config = {
    time.timeZone = "Europe/Berlin";
    networking.hostName = "from-networking";
    networking.proxy.envVars = { };
    system.autoUpgradeHydra = merge evaluated.options.system.autoUpgradeHydra options;
  };
in
lib.filterAttrsRecursive (
  _: value: value != null
) evaluated.config.system.autoUpgradeHydra.settings
