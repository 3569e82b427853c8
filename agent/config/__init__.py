"""Settings: from file, environment and command line to an immutable policy."""
