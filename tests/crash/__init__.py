"""Kills the agent at chosen moments."""
