# Python with what the agent, its tests and mypy need. The other linters are programs in nixpkgs, not
# Python packages.
{
  python3,
  nixos-hydra-agent,
}:
python3.withPackages (
  packages:
  nixos-hydra-agent.dependencies
  ++ [
    packages.coverage
    packages.hypothesis
    packages.jsonschema
    packages.mypy
    packages.openapi-schema-validator
    packages.pytest
    packages.pytest-cov
    packages.pytest-randomly
    packages.pytest-xdist
    packages.pyyaml
    packages.trustme
  ]
)
