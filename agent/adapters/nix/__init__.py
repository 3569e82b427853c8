"""nix, nix-env and nixos-rebuild."""
