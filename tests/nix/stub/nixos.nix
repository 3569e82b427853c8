# The configuration that modules make together: plain definitions merged, nothing typed, but each of an
# option that seen.toml has. Of a module that declares options, such as the agent's own, only the name
# is kept.
{
  lib,
  legacyPackages,
  modules,
  arguments ? { },
}:
let
  merge =
    one: other:
    if builtins.isList one && builtins.isList other then
      one ++ other
    else if builtins.isAttrs one && builtins.isAttrs other && !lib.isDerivation one then
      one
      // builtins.mapAttrs (name: value: if one ? ${name} then merge one.${name} value else value) other
    else
      other;

  call =
    module:
    let
      wanted = builtins.functionArgs module;
      given = arguments // {
        inherit config lib pkgs;
        extendModules =
          more:
          import ./nixos.nix {
            inherit lib legacyPackages arguments;
            modules = modules ++ more.modules;
          };
        modulesPath = toString ./modules;
        options = { };
      };
    in
    module (if wanted == { } then given else builtins.intersectAttrs wanted given);

  load =
    module:
    if builtins.isFunction module then
      load (call module)
    else if builtins.isAttrs module then
      builtins.concatMap load (module.imports or [ ]) ++ [ module ]
    else
      load (import module);

  loaded = builtins.concatMap load modules;
  plain = builtins.filter (module: !(module ? options)) loaded;
  definitions =
    module:
    module.config or (builtins.removeAttrs module [
      "_file"
      "imports"
      "key"
    ]);

  inherit (import ./seen.nix) seen partsOf;
  known = map partsOf (builtins.attrNames seen.nixos) ++ [
    [
      "services"
      "nix-flake-updater"
    ]
    [
      "system"
      "autoUpgradeHydra"
    ]
  ];
  # Whether the beginning of an option's name, or all of it, is as long as `path`, and says the same.
  begins =
    path: option:
    let
      agrees =
        number:
        builtins.elem (builtins.elemAt option number) [
          "<name>"
          (builtins.elemAt path number)
        ];
    in
    builtins.length option >= builtins.length path
    && builtins.all agrees (builtins.genList (number: number) (builtins.length path));
  strangers =
    path: value:
    let
      here = builtins.filter (begins path) known;
    in
    if builtins.any (option: builtins.length option == builtins.length path) here then
      [ ]
    else if here != [ ] && builtins.isAttrs value then
      builtins.concatMap (name: strangers (path ++ [ name ]) value.${name}) (builtins.attrNames value)
    else
      [ (builtins.concatStringsSep "." path) ];
  strange = builtins.concatMap (module: strangers [ ] (definitions module)) plain;

  pkgs = legacyPackages.${config.nixpkgs.hostPlatform};
  built =
    name:
    derivation {
      name = "nixos-${name}-${config.networking.hostName}";
      system = config.nixpkgs.hostPlatform;
      builder = "/bin/sh";
    };
  config = builtins.foldl' merge {
    declared = builtins.length loaded - builtins.length plain;
    system.build = {
      toplevel = built "system";
      isoImage = built "iso";
    };
  } (map definitions plain);
in
if strange != [ ] then
  throw "not in seen.toml: ${toString strange}"
else
  {
    inherit config pkgs;
  }
