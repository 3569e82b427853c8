"""The update side: a new lock file, proven, and proposed for review."""
