"""The git repository that holds the flake."""
