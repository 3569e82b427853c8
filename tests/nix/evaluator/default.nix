# A small module system for the tests: as much of nixpkgs' `lib` as the modules need, and stricter.
#
# What is wrong is collected in `problems`, as sentences, instead of ending the evaluation: so many
# configurations are judged in one. A value with a problem cannot be used.
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    tail
    ;

  shown = path: concatStringsSep "." path;
  isMade = kind: value: isAttrs value && value._type or "" == kind;
  range = first: count: if count == 0 then [ ] else [ first ] ++ range (first + 1) (count - 1);

  # Values and their priorities

  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # The values within mkIf, mkMerge and mkOverride, each with its priority.
  discharged =
    value:
    if isMade "if" value then
      if value.condition then discharged value.content else [ ]
    else if isMade "merge" value then
      concatMap discharged value.contents
    else if isMade "override" value then
      map (found: found // { inherit (value) priority; }) (discharged value.content)
    else
      [
        {
          priority = 100;
          inherit value;
        }
      ];
  # Those of the best priority.
  winning =
    values:
    let
      found = concatMap discharged values;
      best = foldl' (least: one: if one.priority < least then one.priority else least) 10000 found;
    in
    map (one: one.value) (filter (one: one.priority == best) found);

  # What is said of each attribute: mkIf and the like go down to the attributes, so that the names are
  # known before any condition is.
  definitionsOf =
    content:
    if isMade "if" content then
      map (mapAttrs (_name: mkIf content.condition)) (definitionsOf content.content)
    else if isMade "merge" content then
      concatMap definitionsOf content.contents
    else if isMade "override" content then
      map (mapAttrs (_name: mkOverride content.priority)) (definitionsOf content.content)
    else
      [ content ];
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };

  namesOf = sets: attrNames (foldl' (all: set: all // set) { } sets);
  valuesOf = name: sets: map (set: set.${name}) (filter (set: set ? ${name}) sets);

  # Types: `merge path values` gives { value; problems; }, where the values are of one priority.

  good = value: {
    inherit value;
    problems = [ ];
  };
  bad = problem: {
    value = throw problem;
    problems = [ problem ];
  };
  leaf = description: check: {
    _type = "option-type";
    inherit description check;
    subOptions = { };
    merge =
      path: values:
      if any (value: value != head values) (tail values) then
        bad "The option `${shown path}' has conflicting definition values."
      else
        good (head values);
  };
  # Types made of others: `check` looks at the outside alone.
  made = description: check: merge: subOptions: {
    _type = "option-type";
    inherit
      description
      check
      merge
      subOptions
      ;
  };
  below = name: type: if type.subOptions == { } then { } else { ${name} = type.subOptions; };
  # The values as one of a type.
  checked =
    type: path: values:
    if all type.check values then
      type.merge path values
    else
      bad "A definition for option `${shown path}' is not of type `${type.description}'.";
  together = results: {
    value = map (result: result.value) results;
    problems = concatMap (result: result.problems) results;
  };

  types = rec {
    bool = leaf "boolean" isBool;
    str = leaf "string" isString;
    package = leaf "package" (value: isAttrs value && value ? outPath);
    unspecified = leaf "anything" (_value: true);
    number = leaf "number" (value: isInt value || isFloat value);
    enum =
      values:
      leaf "one of ${concatStringsSep ", " (map builtins.toJSON values)}" (value: elem value values);
    strMatching =
      pattern:
      leaf "string matching the pattern ${pattern}" (
        value: isString value && match pattern value != null
      );
    ints.unsigned = leaf "unsigned integer, meaning >=0" (value: isInt value && value >= 0);
    ints.between =
      low: high:
      leaf "integer between ${toString low} and ${toString high}" (
        value: isInt value && value >= low && value <= high
      );
    addCheck = type: check: type // { check = value: type.check value && check value; };
    nullOr =
      type:
      made "null or ${type.description}" (value: value == null || type.check value) (
        path: values:
        if all (value: value == null) values then
          good null
        else if any (value: value == null) values then
          bad "The option `${shown path}' is defined both null and not null."
        else
          checked type path values
      ) type.subOptions;
    either =
      one: other:
      made "${one.description} or ${other.description}" (value: one.check value || other.check value) (
        path: values: checked (if all one.check values then one else other) path values
      ) { };
    listOf =
      type:
      made "list of ${type.description}" isList (
        path: values:
        let
          items = concatMap discharged (concatLists values);
          numbered = range 0 (length items);
        in
        together (
          map (
            number: checked type (path ++ [ "[${toString number}]" ]) [ (elemAt items number).value ]
          ) numbered
        )
      ) (below "*" type);
    attrsOf =
      type:
      made "attribute set of ${type.description}" isAttrs (
        path: values:
        let
          sets = concatMap definitionsOf values;
          of = name: winning (valuesOf name sets);
          # What only is where a condition does not hold is not there.
          results = listToAttrs (
            map (name: {
              inherit name;
              value = checked type (path ++ [ name ]) (of name);
            }) (filter (name: of name != [ ]) (namesOf sets))
          );
        in
        {
          value = mapAttrs (_name: result: result.value) results;
          problems = concatMap (result: result.problems) (attrValues results);
        }
      ) (below "<name>" type);
    submodule =
      given:
      let
        modules = if isList given then given else [ given ];
        collected = concatMap (collect { }) modules;
        options = (merged [ ] (map (module: module.options) collected)).value;
      in
      made "submodule" isAttrs (
        path: values:
        let
          found = evaluate path { } (modules ++ map (value: { config = value; }) values);
        in
        {
          value = found.config;
          inherit (found) problems;
        }
      ) options;
  };

  # Modules

  # The modules that one is made of.
  collect =
    arguments: given:
    let
      imported = if isFunction given || isAttrs given then given else import given;
      module = if isFunction imported then imported arguments else imported;
      isLong = module ? config || module ? options;
      known = [
        "config"
        "imports"
        "options"
      ];
      strange = filter (name: !elem name known) (attrNames module);
    in
    if isLong && strange != [ ] then
      throw "A module has ${head strange} beside its config, options or imports."
    else
      concatMap (collect arguments) (module.imports or [ ])
      ++ [
        {
          options = module.options or { };
          config = if isLong then module.config or { } else removeAttrs module known;
        }
      ];

  # Trees of options, laid over each other.
  merged =
    path: trees:
    let
      names = namesOf trees;
      results = listToAttrs (
        map (name: {
          inherit name;
          value =
            let
              found = valuesOf name trees;
              here = path ++ [ name ];
            in
            if !any (isMade "option") found then
              merged here found
            else if length found > 1 then
              bad "The option `${shown here}' is declared more than once."
            else
              good (head found);
        }) names
      );
    in
    {
      value = mapAttrs (_name: result: result.value) results;
      problems = concatMap (result: result.problems) (attrValues results);
    };

  # Every option's value, and every problem of the tree below `path`.
  configured =
    path: options: contents:
    let
      sets = concatMap definitionsOf contents;
      isDefined = name: winning (valuesOf name sets) != [ ];
      strangers = filter (name: !(options ? ${name}) && isDefined name) (namesOf sets);
      one =
        name: option:
        if isMade "option" option then
          valueOf (path ++ [ name ]) option (winning (valuesOf name sets))
        else
          configured (path ++ [ name ]) option (valuesOf name sets);
      results = mapAttrs one options;
      # Of a value that is made of another one's, the other one's problem is told there.
      told =
        result:
        let
          tried = builtins.tryEval (builtins.deepSeq result.problems result.problems);
        in
        if tried.success then tried.value else [ ];
    in
    {
      value = mapAttrs (_name: result: result.value) results;
      problems =
        map (name: "The option `${shown (path ++ [ name ])}' does not exist.") strangers
        ++ concatMap told (attrValues results);
      unset = concatMap (result: result.unset or [ ]) (attrValues results);
    };

  valueOf =
    path: option: values:
    let
      given = if values == [ ] && option ? default then [ option.default ] else values;
    in
    if given == [ ] then
      let
        problem = "The option `${shown path}' was accessed but has no value defined.";
      in
      {
        value = throw problem;
        # Only who uses it is wrong.
        problems = [ ];
        unset = [ problem ];
      }
    else
      checked option.type path given;

  evaluate =
    path: arguments: modules:
    let
      found = concatMap (collect (arguments // { inherit config options; })) modules;
      declared = merged path (map (module: module.options) found);
      options = declared.value;
      settled = configured path options (map (module: module.config) found);
      config = settled.value;
    in
    {
      inherit config options;
      inherit (settled) unset;
      problems = declared.problems ++ settled.problems;
    };

  lib = {
    inherit types mkIf;
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      lib.mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether to enable ${what}.";
      };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";
    concatMapStrings = change: list: concatStringsSep "" (map change list);
    toUpper = builtins.replaceStrings letters capitals;
    mapAttrsToList = change: set: map (name: change name set.${name}) (attrNames set);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
    mapAttrsRecursive =
      change:
      let
        within =
          path: name: value:
          let
            here = path ++ [ name ];
          in
          if isAttrs value then mapAttrs (within here) value else change here value;
      in
      mapAttrs (within [ ]);
    # { config; options; problems; unset; }: `unset` is what to say of each option without a value,
    # should the evaluation end.
    evalModules =
      {
        modules,
        specialArgs ? { },
      }:
      evaluate [ ] ({ inherit lib; } // specialArgs) modules;
  };
  letters = [
    "a"
    "b"
    "c"
    "d"
    "e"
    "f"
    "g"
    "h"
    "i"
    "j"
    "k"
    "l"
    "m"
    "n"
    "o"
    "p"
    "q"
    "r"
    "s"
    "t"
    "u"
    "v"
    "w"
    "x"
    "y"
    "z"
  ];
  capitals = [
    "A"
    "B"
    "C"
    "D"
    "E"
    "F"
    "G"
    "H"
    "I"
    "J"
    "K"
    "L"
    "M"
    "N"
    "O"
    "P"
    "Q"
    "R"
    "S"
    "T"
    "U"
    "V"
    "W"
    "X"
    "Y"
    "Z"
  ];
in
lib
