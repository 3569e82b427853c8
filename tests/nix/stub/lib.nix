# The part of nixpkgs' lib that the flake and its templates use.
rec {
  inherit (builtins)
    attrNames
    attrValues
    head
    mapAttrs
    ;
  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: make: builtins.listToAttrs (map (name: nameValuePair name (make name)) names);
  mapAttrsToList = make: set: map (name: make name set.${name}) (attrNames set);
  mapAttrs' = make: set: builtins.listToAttrs (mapAttrsToList make set);
  filterAttrs =
    keep: set:
    builtins.listToAttrs (
      map (name: nameValuePair name set.${name}) (
        builtins.filter (name: keep name set.${name}) (attrNames set)
      )
    );
  concatStrings = builtins.concatStringsSep "";
  concatMapStrings = make: list: concatStrings (map make list);
  optionalString = condition: text: if condition then text else "";
  isDerivation = value: value.type or null == "derivation";
  collect =
    wanted: value:
    if wanted value then
      [ value ]
    else if builtins.isAttrs value then
      builtins.concatMap (collect wanted) (attrValues value)
    else
      [ ];
  # Priorities and conditions: the modules of the templates define nothing twice but lists.
  mkForce = value: value;
  mkDefault = value: value;
  licenses.mit = "MIT";
  platforms.linux = [ ];
  trivial.release = "26.05";
  fileset = {
    unions =
      paths: map (path: if builtins.pathExists path then path else throw "${toString path}?") paths;
    toSource = { root, fileset }: builtins.seq (builtins.length fileset) "${root}";
  };
}
