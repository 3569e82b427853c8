# The names that the stand-ins of nixpkgs, NixOS and home-manager have, by the kinds of seen.toml.
let
  inherit (import ./stub/seen.nix) seen namesOf partsOf;
  package = name: outPath: {
    type = "derivation";
    inherit name outPath;
  };
  stand-in = name: package name "/packages/${name}";
  whole = [
    "lib"
    "python3Packages"
  ];
  stub = import ./stub/packages.nix {
    lib = import ./stub/lib.nix;
    system = "x86_64-linux";
  };
  hasPath =
    set: parts:
    parts == [ ]
    || builtins.isAttrs set
      && set ? ${builtins.head parts}
      && hasPath set.${builtins.head parts} (builtins.tail parts);
  missing = set: builtins.filter (name: !hasPath set (partsOf name));

  isOption = value: value._type or "" == "option";
  optionsOf =
    path: options:
    builtins.concatMap (
      name:
      let
        here = path ++ [ name ];
        option = options.${name};
        parts = option.type.subOptions;
      in
      if !isOption option then
        optionsOf here option
      else if parts == { } then
        [ (builtins.concatStringsSep "." here) ]
      else
        optionsOf here parts
    ) (builtins.attrNames options);
  # As evaluate.nix puts them together.
  nixos = import ./evaluate.nix { cases = { }; };
  home = import ./evaluate-home.nix { cases = { }; };
  evaluator = import ./evaluator;
in
{
  # What nothing else may be in.
  packages =
    namesOf whole [ ] stub ++ namesOf whole [ ] (import ./pkgs.nix { inherit package stand-in; });
  python3Packages = namesOf [ ] [ ] stub.python3Packages;
  lib = namesOf [ ] [ ] (import ./stub/lib.nix) ++ namesOf [ ] [ ] evaluator;
  nixos = optionsOf [ ] nixos.declared;
  home-manager = optionsOf [ ] home.declared;

  # What must be there, and is not.
  missing = {
    packages = missing stub (builtins.attrNames seen.packages);
    python3Packages = missing stub.python3Packages (builtins.attrNames seen.python3Packages);
  };
}
