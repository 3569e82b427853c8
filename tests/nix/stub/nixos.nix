# The configuration that modules make together: plain definitions merged, nothing typed. Of a module
# that declares options, such as the agent's own, only the name is kept.
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
{
  inherit config pkgs;
}
