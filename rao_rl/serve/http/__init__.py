"""What every server of ours shares: settings, keys, limits, errors, health, metrics, a graceful end.

An application comes from `make_app`; `serve` runs it (or, inside a program, `serving`). Needs the extra `serve`, except for
`ServerSettings` and `check_exposure`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .settings import ServerSettings, check_exposure

if TYPE_CHECKING:
    from .app import make_app
    from .errors import ERRORS, ApiError, ErrorResponse, error_body
    from .gate import Gate
    from .requests import StrictRequest
    from .server import serve, serving
    from .streams import DONE, EventStream, sse, unless_disconnected

__all__ = [
    "ApiError",
    "DONE",
    "ERRORS",
    "ErrorResponse",
    "EventStream",
    "Gate",
    "ServerSettings",
    "StrictRequest",
    "check_exposure",
    "error_body",
    "make_app",
    "serve",
    "serving",
    "sse",
    "unless_disconnected",
]

_MODULES = {
    "app": ("make_app",),
    "errors": ("ERRORS", "ApiError", "ErrorResponse", "error_body"),
    "gate": ("Gate",),
    "requests": ("StrictRequest",),
    "server": ("serve", "serving"),
    "streams": ("DONE", "EventStream", "sse", "unless_disconnected"),
}
"""Where the names come from that need FastAPI: `rao serve` with vLLM runs without it."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
