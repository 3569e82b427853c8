# The agent's own schema as types and options of modules: keys, types, defaults and descriptions are
# defined once, in agent/config/. `schema.json` is what `agent config schema` prints.
{ lib }:
let
  inherit (lib) mkOption types;

  schema = builtins.fromJSON (builtins.readFile ./schema.json);
  definition = reference: schema."$defs".${baseNameOf reference};

  # What a `$ref` refers to, merged with its siblings.
  resolved =
    facts: if facts ? "$ref" then definition facts."$ref" // removeAttrs facts [ "$ref" ] else facts;

  isNull = kind: kind.type or "" == "null";

  # std::regex knows no `\s`.
  posix = builtins.replaceStrings [ "\\s" ] [ "[[:space:]]" ];

  described =
    facts: type: if facts ? "$comment" then type // { description = facts."$comment"; } else type;

  typeOf =
    given:
    let
      facts = resolved given;
      kinds = builtins.filter (kind: !isNull kind) (map typeUnlessNull facts.anyOf);
      typeUnlessNull = kind: if isNull kind then kind else typeOf kind;
    in
    described facts (
      if facts ? const then
        types.enum [ facts.const ]
      else if facts ? enum then
        types.enum facts.enum
      else if facts ? anyOf then
        (if builtins.any isNull facts.anyOf then types.nullOr else (type: type)) (
          builtins.foldl' types.either (builtins.head kinds) (builtins.tail kinds)
        )
      else if facts ? oneOf then
        types.submodule { options = optionsOfAll (map resolved facts.oneOf); } // { description = "check"; }
      else if facts ? properties then
        types.submodule { options = optionsOf facts; }
      else
        plainTypeOf facts
    );

  plainTypeOf =
    facts:
    {
      boolean = types.bool;
      string = if facts ? pattern then types.strMatching (posix facts.pattern) else types.str;
      integer = types.ints.between facts.minimum facts.maximum;
      number = types.addCheck types.number (
        value: value > facts.exclusiveMinimum && value <= facts.maximum
      );
      array = types.listOf (typeOf facts.items);
    }
    .${facts.type};

  # An unset key has the agent's default.
  optionsOf =
    table:
    builtins.mapAttrs (
      _key: given:
      let
        facts = resolved given;
        isTable = facts ? properties;
      in
      mkOption {
        type = if isTable then typeOf facts else types.nullOr (typeOf facts);
        default = if isTable then { } else null;
        inherit (facts) description;
      }
    ) table.properties;

  # Tables of several kinds: the keys of all, and their `type`; the agent checks which go together.
  optionsOfAll =
    tables:
    builtins.foldl' (all: table: optionsOf table // all) {
      type = mkOption {
        type = types.enum (map (table: table.properties.type.const) tables);
        description = "Which kind it is.";
      };
    } tables;

  # `inhibitor_limit` as options are named: `inhibitorLimit`.
  optionName =
    key:
    let
      words = builtins.filter builtins.isString (builtins.split "_" key);
      capital = word: lib.toUpper (builtins.substring 0 1 word) + builtins.substring 1 (-1) word;
    in
    builtins.head words + lib.concatMapStrings capital (builtins.tail words);

  # `flake_update.forge` is a table in a table.
  tableOf =
    name:
    builtins.foldl' (table: key: resolved table.properties.${key}) schema (
      builtins.filter builtins.isString (builtins.split "[.]" name)
    );
  keysOf = table: without: builtins.attrNames (removeAttrs table.properties without);

  # A module's option for one key; `more` is added to it, or stands in place of what it has.
  optionFor =
    facts: more:
    let
      found = resolved facts;
    in
    mkOption (
      {
        type = typeOf facts;
        inherit (found) description;
      }
      // (if found ? default then { inherit (found) default; } else { })
      // more
    );

  optionsFor =
    table: without: more:
    builtins.listToAttrs (
      map (key: rec {
        name = optionName key;
        value = optionFor table.properties.${key} (more.${name} or { });
      }) (keysOf table without)
    );

  settingsFrom =
    table: without: options:
    builtins.listToAttrs (
      map (key: {
        name = key;
        value = options.${optionName key};
      }) (keysOf table without)
    );
  window = definition "WindowSection";

  # TOML has no null: such a key has the agent's default.
  withoutNull =
    value:
    if builtins.isAttrs value then
      builtins.mapAttrs (_name: withoutNull) (lib.filterAttrs (_name: part: part != null) value)
    else if builtins.isList value then
      map withoutNull value
    else
      value;
in
{
  inherit withoutNull;

  # The type of the whole file.
  type = types.submodule { options = optionsOf schema; } // {
    description = "settings of the agent";
  };

  # A key of the top level, and a key of a table.
  option = key: optionFor schema.properties.${key};
  optionIn = table: key: optionFor (tableOf table).properties.${key};
  # The options of a table but those `without`, and the settings that are made of their values.
  options = name: optionsFor (tableOf name);
  settings = name: settingsFrom (tableOf name);

  window = {
    type =
      more:
      types.submodule { options = optionsFor window [ ] more; }
      // {
        description = "window";
      };
    settings = settingsFrom window [ ];
  };

  # The type of a window's start.
  timeOfDay = typeOf window.properties.start;

  # The default of a key.
  default = table: key: (tableOf table).properties.${key}.default;
}
