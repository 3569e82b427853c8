# What a contributor needs: Python with the tests' and linters' packages, nix and the formatters.
{
  mkShell,
  callPackage,
  git,
  gnumake,
  nix,
  nixfmt-tree,
  ruff,
  shellcheck,
  util-linux,
  nixos-hydra-agent,
}:
mkShell {
  packages = [
    (callPackage ./python.nix { inherit nixos-hydra-agent; })
    git
    gnumake
    nix
    nixfmt-tree
    ruff
    shellcheck
    util-linux
  ];
}
