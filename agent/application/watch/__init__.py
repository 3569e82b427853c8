"""Talks to the world: observes, asks the gates and runs the checks; the host stays as it is."""
