"""Upgrades a NixOS host to the newest good build of its own Hydra job."""

__version__ = "0.1.0"
