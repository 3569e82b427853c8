# What a contributor needs: Python with the tests' and linters' packages, nix and the formatters.
{
  mkShell,
  callPackage,
  codespell,
  git,
  gnumake,
  import-linter,
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
    codespell
    git
    gnumake
    import-linter
    nix
    nixfmt-tree
    ruff
    shellcheck
    util-linux
  ];
}
