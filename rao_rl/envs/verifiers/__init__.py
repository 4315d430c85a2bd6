"""Tasksets of the package verifiers, which runs in a Python of its own."""

from .environment import Verifiers
from .process import BridgeFailed

__all__ = ["BridgeFailed", "Verifiers"]
