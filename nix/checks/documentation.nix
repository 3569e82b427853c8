# The reference pages, including those of the options, are up to date.
{
  runCommand,
  nix,
  python,
  source,
}:
runCommand "nixos-hydra-agent-documentation"
  {
    nativeBuildInputs = [
      nix
      python
    ];
  }
  ''
    cd ${source}
    export HOME=$TMPDIR PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.
    python docs/generate.py --check
    touch $out
  ''
