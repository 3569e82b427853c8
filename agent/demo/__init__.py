"""A Hydra, a binary cache and a throw-away host to show and to test the real agent against."""
