"""Health checks: one folder per type, discovered by its presence.

A type's `__init__.py` has its settings and the check that they describe; `probe.py` runs the check,
and is loaded only if there is one.
"""
