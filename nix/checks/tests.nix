# The test suite, as far as a build sandbox allows: tests that need namespaces or root skip.
{
  runCommand,
  bashInteractive,
  fish,
  git,
  groff,
  mandoc,
  nix,
  ruff,
  shellcheck-minimal,
  util-linux,
  zsh,
  python,
  source,
}:
runCommand "nixos-hydra-agent-tests"
  {
    nativeBuildInputs = [
      python
      bashInteractive
      fish
      git
      groff
      mandoc
      nix
      ruff
      shellcheck-minimal
      util-linux
      zsh
    ];
  }
  ''
    cp -r ${source} source
    chmod -R u+w source
    cd source
    export HOME=$TMPDIR PYTHONPATH=$PWD
    pytest --numprocesses auto -m 'not checkout and not long'
    touch $out
  ''
