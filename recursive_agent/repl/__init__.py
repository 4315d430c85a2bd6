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
    RecordedAnswer,
    Recording,
    RecordingRepl,
    RecordingSandbox,
    Repl,
    Replay,
    ReplLimits,
    Sandbox,
    can_record,
    same_text,
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
    "RecordedAnswer",
    "Recording",
    "RecordingRepl",
    "RecordingSandbox",
    "Repl",
    "ReplLimits",
    "Replay",
    "Require",
    "Sandbox",
    "SandboxFactory",
    "TrustedCodeWarning",
    "UNSET",
    "Unset",
    "can_record",
    "make_sandbox",
    "same_text",
    "sandbox_names",
]
