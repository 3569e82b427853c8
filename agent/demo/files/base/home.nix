# A stand-in for `homeManagerConfiguration`: the activation package has the files that home-manager
# and the agent read of a real one.
{
  platform,
  path,
  name,
  home,
}:
let
  build =
    what: attributes: script:
    derivation (
      {
        name = what;
        system = platform;
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = path;
        preferLocalBuild = true;
      }
      // attributes
    );

  # Text by path below the home: what `home.file` would make, units and the agent's settings.
  units = builtins.listToAttrs (
    map (unit: {
      name = ".config/systemd/user/${unit}";
      value = home.units.${unit};
    }) (builtins.attrNames (home.units or { }))
  );
  settings =
    if home ? agentConfig then { ".config/nixos-hydra-agent/config.toml" = home.agentConfig; } else { };
  texts = (home.files or { }) // units // settings;
  put = file: "put '${file}' ${builtins.toFile "text" texts.${file}}";
  want =
    unit:
    let
      target = if builtins.match ".*[.]timer" unit != null then "timers" else "default";
      wants = ".config/systemd/user/${target}.target.wants";
    in
    "mkdir -p $out/${wants}; ln -s ../${unit} $out/${wants}/${unit}";

  files =
    build "home-manager-files"
      {
        puts = builtins.concatStringsSep "\n" (map put (builtins.attrNames texts));
        wants = builtins.concatStringsSep "\n" (map want (home.wants or [ ]));
      }
      ''
        put() { mkdir -p "$out/$(dirname "$1")"; cp "$2" "$out/$1"; }
        mkdir -p $out
        eval "$puts"
        eval "$wants"
      '';
in
{
  activationPackage =
    build "home-manager-generation"
      {
        inherit (home) version user;
        inherit files;
        # The step after which the script breaks off, and how.
        breaksOffAfter = home.breaksOffAfter or "";
        breaksOffBy = home.breaksOffBy or "exit 4";
        # Packages of older releases know no versions of drivers.
        genVersion = if home.isOld or false then "" else "1";
        activate = builtins.readFile ./home-activate;
      }
      ''
        mkdir -p $out/bin
        echo "$version" > $out/hm-version
        [ -z "$genVersion" ] || echo "$genVersion" > $out/gen-version
        printf %s "$activate" \
          | sed "s|@out@|$out|g; s|@user@|$user|g" \
          | sed "s|@breaksOffAfter@|$breaksOffAfter|g; s|@breaksOffBy@|$breaksOffBy|g" > $out/activate
        chmod +x $out/activate
        ln -s $out/activate $out/bin/home-manager-generation
        ln -s $files $out/home-files
      '';
}
