"""The building blocks of settings tables."""
