# What all VM tests share: `hydra`, a stand-in with a binary cache, and `machine`, which follows it.
#
# A test says what is different: further modules of both, and the releases that Hydra builds one
# after the other, each the machine's own configuration and a module more.
{ self, pkgs }:
file:
let
  inherit (pkgs) lib;
  test = import file;
  agent = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
  python = pkgs.python3.withPackages (packages: [ (packages.toPythonModule agent) ]);
in
pkgs.testers.runNixOSTest {
  inherit (test) name;

  nodes.machine =
    {
      config,
      extendModules,
      ...
    }:
    {
      imports = [
        self.nixosModules.default
        test.machine or { }
      ];

      virtualisation = {
        useBootLoader = true;
        useEFIBoot = true;
        diskSize = 8192;
        memorySize = 2048;
        fileSystems."/".autoResize = true;
      };
      boot.growPartition = true;
      boot.loader.systemd-boot.enable = true;
      boot.loader.efi.canTouchEfiVariables = true;
      system.switch.enable = true;

      nix.settings = {
        experimental-features = [ "nix-command" ];
        substituters = lib.mkForce [ "http://hydra:3000" ];
      };
      # The key is made when the test runs.
      nix.extraOptions = "!include /var/lib/hydra-key.conf";

      system.autoUpgradeHydra = {
        enable = true;
        strategy = "store-path";
        hydra = {
          instance = "http://hydra:3000";
          project = "nix-config";
          jobset = "main";
        };
        # The test says when.
        dates = "2100-01-01";
        confirm.settle = "2s";
        confirm.deadline = "1m";
        settings.disk = {
          store_reserve = "16MiB";
          boot_reserve = "1MiB";
        };
      };

      system.build.releases = lib.mapAttrs (
        _name: module: (extendModules { modules = [ module ]; }).config.system.build.toplevel
      ) test.releases;
    };

  nodes.hydra =
    { nodes, ... }:
    {
      imports = [ test.hydra or { } ];
      virtualisation = {
        diskSize = 8192;
        memorySize = 2048;
        additionalPaths = lib.attrValues nodes.machine.system.build.releases;
      };
      nix.settings.experimental-features = [ "nix-command" ];
      networking.firewall.enable = false;
      systemd.services.hydra = {
        serviceConfig.ExecStart = "${python}/bin/python ${./hydra.py} /var/lib/hydra 3000";
        unitConfig.ConditionPathExists = "/var/lib/hydra/builds";
      };
    };

  testScript =
    { nodes, ... }:
    let
      release = name: path: "RELEASES[\"${name}\"] = \"${path}\"\n";
    in
    ''
      RELEASES: dict[str, str] = {}
      ${lib.concatStrings (lib.mapAttrsToList release nodes.machine.system.build.releases)}
      MARKS = "/nix/var/nix/gcroots/nixos-hydra-agent"

      ${builtins.readFile ./scene.py}
      ${test.testScript}
    '';
}
