"""Puts the parts together: settings become adapters, and adapters the ports of the use cases."""
