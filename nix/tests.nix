# The test suite, as far as a build sandbox allows: tests that need namespaces or root skip.
{
  lib,
  runCommand,
  git,
  nix,
  python3,
  util-linux,
  nixos-hydra-agent,
}:
let
  environment = python3.withPackages (
    packages:
    nixos-hydra-agent.dependencies
    ++ [
      packages.coverage
      packages.hypothesis
      packages.jsonschema
      packages.openapi-schema-validator
      packages.pytest
      packages.pytest-cov
      packages.pytest-randomly
      packages.pytest-xdist
      packages.pyyaml
      packages.trustme
    ]
  );
  source = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../agent
      ../docs
      ../flake.lock
      ../flake.nix
      ../module.nix
      ../nix
      ../pyproject.toml
      ../tests
      ../README.md
      ../CHANGELOG.md
    ];
  };
in
runCommand "nixos-hydra-agent-tests"
  {
    nativeBuildInputs = [
      environment
      git
      nix
      util-linux
    ];
  }
  ''
    cp -r ${source} source
    chmod -R u+w source
    cd source
    export HOME=$TMPDIR
    pytest --numprocesses auto -m 'not checkout'
    touch $out
  ''
