"""The outside world behind the ports of `agent.application.ports`."""
