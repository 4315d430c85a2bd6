"""Sandboxed REPLs: one interface (`Sandbox`, `Repl`), and what implements it."""

from __future__ import annotations

from typing import Literal

from ..errors import ConfigurationError
from .base import (
    DEFAULT_LIMITS,
    CellResult,
    CellStatus,
    HostCall,
    HostCallError,
    HostFunction,
    HostRequest,
    Repl,
    ReplLimits,
    Sandbox,
)
from .host import ProcessSandbox
from .inprocess import InProcessSandbox, TrustedCodeWarning

__all__ = [
    "DEFAULT_LIMITS",
    "CellResult",
    "CellStatus",
    "HostCall",
    "HostCallError",
    "HostFunction",
    "HostRequest",
    "InProcessSandbox",
    "ProcessSandbox",
    "Repl",
    "ReplLimits",
    "Sandbox",
    "TrustedCodeWarning",
    "make_sandbox",
]


def make_sandbox(backend: Literal["process", "inprocess"], *, require: Literal["kernel"] | None = None) -> Sandbox:
    """The sandbox of that name. Raises ConfigurationError for a name that there is not, or that cannot do what is required."""
    if backend == "process":
        return ProcessSandbox(require=require)
    if backend == "inprocess":
        if require is not None:
            raise ConfigurationError('require="kernel" needs sandbox="process": "inprocess" isolates nothing')
        return InProcessSandbox()
    raise ConfigurationError(f'there is no sandbox {backend!r}: use "process", or "inprocess" for code you trust')
