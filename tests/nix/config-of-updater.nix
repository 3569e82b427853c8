# What nix/updater.nix makes of a host's options, with the least of `lib` that it needs.
{
  module,
  options,
}:
let
  types =
    let
      any = _: { };
    in
    {
      bool = { };
      str = { };
      package = { };
      ints.positive = { };
      ints.unsigned = { };
      either = _: any;
      enum = any;
      listOf = any;
      nullOr = any;
      submodule = any;
    };
  lib = {
    inherit types;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = description: {
      _type = "option";
      type = { };
      default = false;
      inherit description;
    };
    mkIf = condition: value: if condition then value else { };
    mkDefault = value: value;
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    getExe = package: "${package}/bin/agent";
    literalExpression = text: text;
    mapAttrsToList = change: set: map (name: change name set.${name}) (builtins.attrNames set);
    filterAttrs =
      keep: set:
      removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
    mapAttrsRecursive =
      change:
      builtins.mapAttrs (
        name: value:
        if builtins.isAttrs value then lib.mapAttrsRecursive change value else change [ name ] value
      );
  };
  isOption = value: value._type or "" == "option";
  # Every option's value: what the host sets, or the default; neither, and one that is not declared,
  # is an error of the host.
  merge =
    path: declared: given:
    let
      unknown = builtins.filter (name: !declared ? ${name}) (builtins.attrNames given);
    in
    if unknown != [ ] then
      throw "${path} has no ${builtins.head unknown}"
    else
      builtins.mapAttrs (
        name: option:
        if isOption option then
          given.${name} or option.default or (throw "${path}.${name} is used but not defined")
        else
          merge "${path}.${name}" option (given.${name} or { })
      ) declared;
  described =
    declared:
    builtins.all (
      option: if isOption option then option ? type && option ? description else described option
    ) (builtins.attrValues declared);
  recursive =
    one: other:
    one
    // builtins.mapAttrs (
      name: value: if builtins.isAttrs value && one ? ${name} then recursive one.${name} value else value
    ) other;
  evaluated = import module { self.packages.x86_64-linux.default = "/agent"; } {
    inherit lib config;
    pkgs = {
      formats.toml = _: {
        type = { };
        generate = name: _value: "/${name}";
      };
      runCommand =
        name: _: script:
        "/checked/${name}";
      coreutils = "/coreutils";
      gitMinimal = "/git";
      gnupg = "/gnupg";
      stdenv.hostPlatform.system = "x86_64-linux";
    };
  };
  declared = evaluated.options.services.nix-flake-updater;
  config = {
    networking.proxy.envVars = { };
    nix.package = "/nix-package";
    programs.ssh.package = "/ssh";
    services.nix-flake-updater = merge "services.nix-flake-updater" declared options;
  };
  made = evaluated.config;
  withoutNull =
    set:
    builtins.mapAttrs (_: value: if builtins.isAttrs value then withoutNull value else value) (
      lib.filterAttrs (_: value: value != null) set
    );
in
{
  options = builtins.attrNames declared;
  areDescribed = described declared;
}
// lib.optionalAttrs (made != { }) {
  problems = map (one: one.message) (builtins.filter (one: !one.assertion) made.assertions);
  # What the host says in the agent's own words wins.
  settings = recursive (withoutNull made.services.nix-flake-updater.settings) (
    options.settings or { }
  );
  service = made.systemd.services.nix-flake-updater;
  timer = made.systemd.timers.nix-flake-updater;
}
