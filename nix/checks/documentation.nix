# The reference pages, the options' among them, are those that code and module make.
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
