# Python with what the agent needs and what its tests and linters need.
{
  python3,
  nixos-hydra-agent,
}:
python3.withPackages (
  packages:
  nixos-hydra-agent.dependencies
  ++ [
    packages.codespell
    packages.coverage
    packages.hypothesis
    packages.import-linter
    packages.jsonschema
    packages.mypy
    packages.openapi-schema-validator
    packages.pytest
    packages.pytest-cov
    packages.pytest-randomly
    packages.pytest-xdist
    packages.pyyaml
    packages.ruff
    packages.trustme
  ]
)
