"""Health checks: a folder for each type, found by being here.

`__init__.py` of a type has its settings and what they describe, `probe.py` asks, and is loaded only
where there is such a check.
"""
