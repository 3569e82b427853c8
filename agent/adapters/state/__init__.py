"""What the agent keeps on disk: history, marks, locks and notes."""
