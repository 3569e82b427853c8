"""Fakes that implement the ports of `agent.application.ports`."""
