"""Human-readable output: tables, lists and progress."""
