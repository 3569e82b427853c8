"""Use cases: they observe, decide, perform and record, and know the world only through ports."""
