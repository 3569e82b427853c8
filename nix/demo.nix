# `agent demo` with everything that it needs on PATH.
{
  writeShellApplication,
  git,
  nix,
  nixos-hydra-agent,
}:
writeShellApplication {
  name = "agent-demo";
  runtimeInputs = [
    git
    nix
    nixos-hydra-agent
  ];
  text = ''exec agent demo "$@"'';
}
