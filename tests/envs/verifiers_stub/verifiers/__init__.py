"""Stands in for the package of that name where tests need tasksets that misbehave; tests/adapters use the real one."""

__version__ = "stub"
