# The agent, with the programs it calls.
{
  lib,
  python3Packages,
}:
python3Packages.buildPythonApplication {
  pname = "nixos-hydra-agent";
  version = lib.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../agent/__init__.py)
  );
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../agent
      ../pyproject.toml
      ../README.md
      ../LICENSE
    ];
  };

  build-system = [ python3Packages.setuptools ];

  dependencies = with python3Packages; [
    apprise
    click
    httpx
    icmplib
    pydantic
    pydantic-settings
    rich
    structlog
    tenacity
    typing-extensions
  ];

  # The tests need a store of their own: see tests.nix.
  doCheck = false;
  pythonImportsCheck = [ "agent.wiring" ];

  meta = {
    description = "Upgrades a NixOS host to the newest good build of its own Hydra job";
    license = lib.licenses.mit;
    mainProgram = "agent";
    platforms = lib.platforms.linux;
  };
}
