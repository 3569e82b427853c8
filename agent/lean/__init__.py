"""What must be fast to import, or work when little else does: the standard library alone."""
