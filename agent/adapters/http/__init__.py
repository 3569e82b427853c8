"""HTTP, for all clients of the agent."""
