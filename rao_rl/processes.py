"""What a process knows of the processes that train together with it, by the environment variables of `accelerate launch`."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this one leads: it writes what they all share, and talks to people."""
    return int(os.environ.get("RANK", "0")) == 0


def spreads_weights() -> bool:
    """Whether accelerate spreads the weights over the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
