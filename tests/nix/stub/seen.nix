# seen.toml, and what the stand-ins need to have its names and no others.
let
  seen = builtins.fromTOML (builtins.readFile ./seen.toml);
  partsOf = name: builtins.filter builtins.isString (builtins.split "[.]" name);
  firsts = kind: map (name: builtins.head (partsOf name)) (builtins.attrNames seen.${kind});

  isPackage = value: value.type or "" == "derivation";

  # The names of what a set has, as `python.interpreter`; derivations and sets of `whole` are not
  # looked into.
  namesOf =
    whole: path: set:
    builtins.concatMap (
      name:
      let
        value = set.${name};
        here = path ++ [ name ];
      in
      if
        builtins.isAttrs value && !(value ? _type || isPackage value || builtins.elem name whole)
      then
        namesOf whole here value
      else
        [ (builtins.concatStringsSep "." here) ]
    ) (builtins.attrNames set);
in
{
  inherit seen namesOf partsOf;

  # The set of all names of one kind: what is `given`, and made ones.
  fill =
    kind: make: given:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = given.${name} or (make name);
      }) (firsts kind ++ builtins.attrNames given)
    );
}
