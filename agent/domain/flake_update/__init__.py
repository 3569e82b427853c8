"""The update side's pure core: what an update of `flake.lock` changes, on which host."""
