"""Settings: from files, environment and command line to a frozen policy."""
