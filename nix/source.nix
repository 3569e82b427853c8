# The files that the checks use.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../agent
    ../benchmarks
    ../contrib
    ../docs
    ../flake.lock
    ../flake.nix
    ../module.nix
    ../nix
    ../pyproject.toml
    ../templates
    ../tests
    ../README.md
    ../CHANGELOG.md
    ../LICENSE
  ];
}
