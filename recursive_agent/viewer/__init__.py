"""The viewer: one HTML page for a run, a folder of runs, or two runs side by side; also while a run goes on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import ViewServer as ViewServer

__all__ = ["ViewServer"]


def __getattr__(name: str) -> Any:
    if name == "ViewServer":  # aiohttp and a thread: for those who serve alone
        return import_module(".server", __name__).ViewServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
