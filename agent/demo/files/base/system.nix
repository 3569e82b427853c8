# A stand-in for `nixosSystem`: the toplevel has the files that nixos-rebuild, the activation and
# the agent read of a real one.
{
  platform,
  path,
  hostName,
  host,
}:
let
  build =
    name: attributes: script:
    derivation (
      {
        inherit name;
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

  lines =
    line: attributes:
    builtins.concatStringsSep "\n" (builtins.attrValues (builtins.mapAttrs line attributes));

  # An evaluation that has to build first, for those who must see that it may not.
  version =
    if host.importsFromBuild or false then
      builtins.readFile (build "version" { inherit (host) version; } "printf %s $version > $out")
    else
      host.version;
  kernel = host.kernel or "6.12.1";
  initInterface = host.initInterface or "systemd 2";
  kernelParams = host.kernelParams or "loglevel=4";

  linux = build "linux-${kernel}" { inherit kernel; } ''
    mkdir -p $out
    echo "bzImage $kernel" > $out/bzImage
  '';
  modules = build "linux-${kernel}-modules" { inherit kernel; } ''
    mkdir -p $out/lib/modules/$kernel
    echo "modules of $kernel" > $out/lib/modules/$kernel/modules.dep
  '';
  # A large initrd fills a small boot partition.
  initrdKib = toString (host.initrdKib or 0);
  initrd = build "initrd-linux-${kernel}" { inherit kernel initrdKib; } ''
    mkdir -p $out
    { echo "initrd $kernel"; head -c $((initrdKib * 1024)) /dev/zero; } > $out/initrd
  '';
  systemd = build "systemd-257" { } ''
    mkdir -p $out/lib/systemd
    echo systemd > $out/lib/systemd/systemd
  '';
  # Unit files by name, those of them that a boot or a switch starts, and the agent's settings: for
  # a host whose systemd is real.
  unitFiles = lines (name: text: "cp ${builtins.toFile "unit" text} $units/'${name}'") (
    host.units or { }
  );
  wantedUnits = builtins.concatStringsSep "\n" (
    map (
      name:
      let
        ofTimer = builtins.match ".*[.]timer" name != null;
        target = if ofTimer then "timers.target" else "multi-user.target";
      in
      "ln -s ../'${name}' $units/${target}.wants/'${name}'"
    ) (host.wants or [ ])
  );
  # What is started before all else, and stays in emergency mode.
  earlyUnits = builtins.concatStringsSep "\n" (
    map (name: "ln -s ../'${name}' $units/sysinit.target.wants/'${name}'") (host.early or [ ])
  );
  settings =
    if host ? agentConfig then
      "cp ${builtins.toFile "config.toml" host.agentConfig} $out/etc/nixos-hydra-agent/config.toml"
    else
      "";
  etc =
    build "etc"
      {
        inherit
          hostName
          unitFiles
          wantedUnits
          earlyUnits
          settings
          ;
        health = host.health or "healthy";
      }
      ''
        units=$out/etc/systemd/system
        mkdir -p $units/multi-user.target.wants $units/timers.target.wants \
          $units/sysinit.target.wants $out/etc/nixos-hydra-agent
        echo "$hostName" > $out/etc/hostname
        echo "$health" > $out/etc/health
        eval "$unitFiles"
        eval "$wantedUnits"
        eval "$earlyUnits"
        eval "$settings"
      '';
  # What makes the closure as large as wanted: KiB of bytes that differ with the version.
  sw =
    build "system-path"
      {
        inherit version;
        kib = toString (host.kib or 4);
      }
      ''
        mkdir -p $out/bin $out/share
        printf '#!/bin/sh\necho "%s"\n' "$version" > $out/bin/nixos-version
        chmod +x $out/bin/nixos-version
        { echo "$version"; head -c $((kib * 1024)) /dev/zero; } > $out/share/payload
      '';

  # As `pkgs.writers.writeJSON` has it: one name a line. Without the parameter it is a system of before
  # 26.05, which has no such file.
  inhibitors =
    let
      line = name: value: "  ${builtins.toJSON name}: ${builtins.toJSON value}";
      named = builtins.attrValues (builtins.mapAttrs line host.inhibitors);
      text = if named == [ ] then "{}" else "{\n${builtins.concatStringsSep ",\n" named}\n}";
    in
    if host ? inhibitors then
      "ln -s ${builtins.toFile "switch-inhibitors" "${text}\n"} $out/switch-inhibitors"
    else
      "";

  specialisations = builtins.mapAttrs (
    name: change:
    (import ./system.nix {
      inherit platform path hostName;
      host = removeAttrs host [ "specialisations" ] // change;
    }).config.system.build.toplevel
  ) (host.specialisations or { });

  toplevel =
    build "nixos-system-${hostName}-${version}"
      {
        inherit
          version
          linux
          modules
          initrd
          systemd
          etc
          sw
          initInterface
          kernelParams
          inhibitors
          ;
        inherit platform hostName;
        specialisationLinks = lines (
          name: system: "ln -s ${system} $out/specialisation/${name}"
        ) specialisations;
        broken = if host.failsToBuild or false then "1" else "";
        exitCode = toString (host.activationExit or 0);
        activate = builtins.readFile ./activate;
        # A kernel that hangs never comes to its init.
        init = if host.hangs or false then "#!/bin/sh\nexec sleep infinity\n" else builtins.readFile ./init;
        switchToConfiguration = builtins.readFile ./switch-to-configuration;
      }
      ''
        if [ -n "$broken" ]; then
          echo "this build fails on purpose" >&2
          exit 1
        fi
        mkdir -p $out/bin $out/specialisation
        ln -s $linux/bzImage $out/kernel
        ln -s $initrd/initrd $out/initrd
        ln -s $modules $out/kernel-modules
        ln -s $systemd $out/systemd
        ln -s $etc/etc $out/etc
        ln -s $sw $out/sw
        eval "$specialisationLinks"
        eval "$inhibitors"
        printf %s "$version" > $out/nixos-version
        printf %s "$platform" > $out/system
        printf %s "$initInterface" > $out/init-interface-version
        printf %s "$kernelParams" > $out/kernel-params
        printf '%s' "{\"org.nixos.bootspec.v1\":{\"init\":\"$out/init\",\"initrd\":\"$initrd/initrd\"," \
          "\"kernel\":\"$linux/bzImage\",\"kernelParams\":[\"$kernelParams\"]," \
          "\"label\":\"NixOS $version\",\"system\":\"$platform\",\"toplevel\":\"$out\"}}" > $out/boot.json
        printf %s "$activate" | sed "s|@out@|$out|g" > $out/activate
        printf %s "$switchToConfiguration" | sed "s|@out@|$out|g; s|@exitCode@|$exitCode|g" \
          > $out/bin/switch-to-configuration
        printf %s "$init" | sed "s|@out@|$out|g" > $out/init
        chmod +x $out/init $out/activate $out/bin/switch-to-configuration
      '';
in
{
  config = {
    networking.hostName = hostName;
    system.nixos.version = version;
    system.build.toplevel =
      if host.failsToEvaluate or false then
        throw "The option `services.nonesuch' does not exist."
      else
        toplevel;
  };
}
