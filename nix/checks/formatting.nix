# Every file is formatted, and codespell finds no misspellings.
{
  runCommand,
  codespell,
  nixfmt,
  ruff,
  source,
}:
runCommand "nixos-hydra-agent-formatting"
  {
    nativeBuildInputs = [
      codespell
      nixfmt
      ruff
    ];
  }
  ''
    cd ${source}
    find . -name '*.nix' -exec nixfmt --check {} +
    ruff format --no-cache --check .
    ruff check --no-cache .
    codespell
    touch $out
  ''
