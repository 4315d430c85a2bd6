"""Recursive agents: write Python in a sandbox, launch copies of themselves, within one budget.

from recursive_agent import Agent

result = await Agent(model="…", base_url="http://localhost:8000/v1").solve("…")
"""

from ._version import __version__
from .agent import Agent
from .errors import (
    AuthenticationFailed,
    BadRequest,
    CapabilityMissing,
    ConfigurationError,
    ContextOverflow,
    EndpointUnavailable,
    ModelError,
    ModelNotFound,
    NotFinished,
    RaoError,
    RunFailed,
    SandboxError,
    TraceError,
)
from .limits import Limits, Prices
from .result import Result
from .status import Status
from .stream import Stream
from .tools import ToolContext, tool
from .trace.tree import ExecutionTree, Node
from .usage import Usage

__all__ = [
    "Agent",
    "AuthenticationFailed",
    "BadRequest",
    "CapabilityMissing",
    "ConfigurationError",
    "ContextOverflow",
    "EndpointUnavailable",
    "ExecutionTree",
    "Limits",
    "ModelError",
    "ModelNotFound",
    "Node",
    "NotFinished",
    "Prices",
    "RaoError",
    "Result",
    "RunFailed",
    "SandboxError",
    "Status",
    "Stream",
    "ToolContext",
    "TraceError",
    "Usage",
    "__version__",
    "tool",
]
