# The agent, with the programs it calls.
{
  lib,
  stdenv,
  installShellFiles,
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
      ../docs/man_pages.py
      ../pyproject.toml
      ../README.md
      ../LICENSE
    ];
  };

  build-system = [ python3Packages.setuptools ];

  nativeBuildInputs = [ installShellFiles ];

  dependencies = with python3Packages; [
    apprise
    click
    httpx
    icmplib
    pydantic
    pydantic-settings
    rich
    socksio
    structlog
    tenacity
    typing-extensions
  ];

  # Both are made by the commands themselves, so they cannot differ from them.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    PYTHONPATH=.:$PYTHONPATH ${python3Packages.python.interpreter} docs/man_pages.py man
    installManPage man/*.1
    installShellCompletion --cmd agent \
      --bash <(_AGENT_COMPLETE=bash_source $out/bin/agent) \
      --fish <(_AGENT_COMPLETE=fish_source $out/bin/agent) \
      --zsh <(_AGENT_COMPLETE=zsh_source $out/bin/agent)
  '';

  # The tests need a store of their own: see checks/tests.nix.
  doCheck = false;
  pythonImportsCheck = [ "agent.wiring.host" ];

  meta = {
    description = "Upgrades a NixOS host to the newest good build of its own Hydra job";
    license = lib.licenses.mit;
    mainProgram = "agent";
    platforms = lib.platforms.linux;
  };
}
