"""The pure core of flake updates: what an update of `flake.lock` changes, on which host."""
