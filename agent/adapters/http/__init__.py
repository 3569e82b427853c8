"""HTTP as every client of the agent speaks it."""
