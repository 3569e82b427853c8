"""What the agent says of itself: logs, and later metrics and notifications."""
