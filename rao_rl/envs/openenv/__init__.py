"""Environments on OpenEnv servers, over one websocket for each attempt."""

from .connection import ServerFailed
from .environment import OpenEnv

__all__ = ["OpenEnv", "ServerFailed"]
