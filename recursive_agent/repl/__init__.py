"""Sandboxed REPLs: the interface (`Sandbox`, `Repl`) and its implementations."""

from __future__ import annotations

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
from .namespaces import NamespaceSandbox
from .registry import UNSET, Require, SandboxFactory, Unset, make_sandbox, sandbox_names

__all__ = [
    "DEFAULT_LIMITS",
    "CellResult",
    "CellStatus",
    "HostCall",
    "HostCallError",
    "HostFunction",
    "HostRequest",
    "InProcessSandbox",
    "NamespaceSandbox",
    "ProcessSandbox",
    "Repl",
    "ReplLimits",
    "Require",
    "Sandbox",
    "SandboxFactory",
    "TrustedCodeWarning",
    "UNSET",
    "Unset",
    "make_sandbox",
    "sandbox_names",
]
