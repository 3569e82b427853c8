# A tree of options as a list: what a page about them tells.
{ lib }:
let
  isOption = value: value._type or "" == "option";
  # A value as JSON has it; an expression as an object of its own.
  shown =
    value:
    if value._type or "" == "literalExpression" then
      { expression = value.text; }
    else
      { inherit value; };
  told =
    path: option:
    {
      name = builtins.concatStringsSep "." path;
      inherit (option) description;
      type = option.type.description;
      visible = option.visible or true;
      default =
        if option ? defaultText then
          shown option.defaultText
        else if option ? default then
          shown option.default
        else
          null;
      example = if option ? example then shown option.example else null;
    };
  within =
    path: options:
    builtins.concatMap (
      name:
      let
        here = path ++ [ name ];
        option = options.${name};
        parts = option.type.subOptions or { };
      in
      if !isOption option then
        within here option
      else if (option.visible or true) == true && parts != { } && option.type.isListOfTables or true then
        [ (told here option) ] ++ within here (removeAttrs parts [ ])
      else
        [ (told here option) ]
    ) (builtins.attrNames options);
in
within [
  "system"
  "autoUpgradeHydra"
]
