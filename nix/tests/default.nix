# Virtual machines with firmware, boot loader and kernel: what no other test has.
{ self, pkgs }:
let
  runTest = import ./scene.nix { inherit self pkgs; };
in
{
  vm-upgrade = runTest ./upgrade.nix;
  vm-roll-back = runTest ./roll-back.nix;
  vm-reboot = runTest ./reboot.nix;
  vm-loader-fallback = runTest ./loader-fallback.nix;
  vm-canary = runTest ./canary.nix;
}
