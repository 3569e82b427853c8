# A tree of options as a list: what a page about them tells.
let
  isOption = value: value._type or "" == "option";
  # A value as it is, or an expression that stands for it.
  shown =
    value:
    if value._type or "" == "literalExpression" then
      { expression = value.text; }
    else
      { inherit value; };
  told = path: option: {
    name = builtins.concatStringsSep "." path;
    inherit (option) description;
    type = option.type.description;
    isVisible = option.visible or true != false;
    default = if option ? default then shown (option.defaultText or option.default) else null;
    example = if option ? example then shown option.example else null;
  };
  within =
    path: options:
    builtins.concatMap (
      name:
      let
        here = path ++ [ name ];
        option = options.${name};
        parts = if option.visible or true == true then option.type.subOptions else { };
      in
      if isOption option then [ (told here option) ] ++ within here parts else within here option
    ) (builtins.attrNames options);
in
within [ ]
