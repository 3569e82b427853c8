"""What the agent reports about itself: logs, and later metrics."""
