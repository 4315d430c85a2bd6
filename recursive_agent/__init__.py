"""Recursive agents: they write Python in a sandbox, launch copies of themselves, and share one budget.

    from recursive_agent import Agent

    result = await Agent(model="…", base_url="http://localhost:8000/v1").solve("…")

The names in `__all__` are public and stay. All other names may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .agent import Agent
from .approval import Approval, Approve, Approver, PendingCall
from .compaction import Compaction
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
    ReplayDiverged,
    RunFailed,
    SandboxError,
    ToolServerError,
    TraceError,
)
from .goal import SolveOptions
from .limits import Limits, Prices
from .mcp import MCPServer
from .model import (
    Completion,
    Conversation,
    Endpoint,
    Explaining,
    Keyed,
    Message,
    Model,
    NoAnswer,
    Sampling,
    Throttled,
    ToolCall,
    Trained,
    Versioned,
    connect,
    resolve_endpoint,
    resolve_endpoints,
)
from .model_choice import ModelChoice
from .repl import (
    CellResult,
    CellStatus,
    HostCallError,
    HostFunction,
    HostRequest,
    InProcessSandbox,
    NamespaceSandbox,
    ProcessSandbox,
    Repl,
    ReplLimits,
    Sandbox,
    SandboxFactory,
    TrustedCodeWarning,
    make_sandbox,
    sandbox_names,
)
from .result import Result
from .run_config import LaunchInfo
from .scoring import Scorer
from .status import Activity, Status
from .stream import Stream
from .tools import ToolContext, tool
from .trace.node import Finding, Node, Step
from .trace.observer import Observer, RunObserver, Work
from .trace.schema import (
    ApprovalAnswered,
    ApprovalAsked,
    CellRan,
    ClockRead,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeStarted,
    RunEnded,
    RunStarted,
    Scored,
    Steered,
    Waiting,
)
from .trace.tree import ExecutionTree
from .usage import Usage

if TYPE_CHECKING:
    from .checkpoint import CheckpointSettings
    from .model.capabilities import Capabilities, probe
    from .model.chat import ChatModel
    from .model.embedded import SHIPPED, EmbeddedModel
    from .model.pool import PoolModel
    from .model.served import ServedCheckpoint, served_checkpoint
    from .model.tokens import TokensModel
    from .trace.otel import OpenTelemetry

_LAZY = {
    "Capabilities": "model.capabilities",
    "ChatModel": "model.chat",
    "CheckpointSettings": "checkpoint",
    "EmbeddedModel": "model.embedded",
    "SHIPPED": "model.embedded",
    "OpenTelemetry": "trace.otel",
    "PoolModel": "model.pool",
    "ServedCheckpoint": "model.served",
    "served_checkpoint": "model.served",
    "TokensModel": "model.tokens",
    "probe": "model.capabilities",
}
"""Names whose modules take time to import, so that they are imported when the name is first used."""

__all__ = [
    "Activity",
    "Agent",
    "Approval",
    "ApprovalAnswered",
    "ApprovalAsked",
    "Approve",
    "Approver",
    "AuthenticationFailed",
    "BadRequest",
    "Capabilities",
    "CapabilityMissing",
    "CellRan",
    "CellResult",
    "CellStatus",
    "ChatModel",
    "CheckpointSettings",
    "ClockRead",
    "Compaction",
    "Completion",
    "ConfigurationError",
    "ContextOverflow",
    "Conversation",
    "EmbeddedModel",
    "Endpoint",
    "EndpointUnavailable",
    "Event",
    "ExecutionTree",
    "Explaining",
    "Finding",
    "HostCallError",
    "HostCalled",
    "HostFunction",
    "HostRequest",
    "InProcessSandbox",
    "Keyed",
    "LaunchInfo",
    "Limits",
    "MCPServer",
    "Message",
    "Model",
    "ModelCalled",
    "ModelChoice",
    "ModelError",
    "ModelNotFound",
    "NamespaceSandbox",
    "NoAnswer",
    "Node",
    "NodeEnded",
    "NodeStarted",
    "NotFinished",
    "Observer",
    "OpenTelemetry",
    "PendingCall",
    "PoolModel",
    "Prices",
    "ProcessSandbox",
    "RaoError",
    "Repl",
    "ReplLimits",
    "ReplayDiverged",
    "Result",
    "RunEnded",
    "RunFailed",
    "RunObserver",
    "RunStarted",
    "SHIPPED",
    "Sampling",
    "Sandbox",
    "SandboxError",
    "SandboxFactory",
    "Scored",
    "Scorer",
    "ServedCheckpoint",
    "SolveOptions",
    "Status",
    "Steered",
    "Step",
    "Stream",
    "Throttled",
    "TokensModel",
    "ToolCall",
    "ToolContext",
    "ToolServerError",
    "TraceError",
    "Trained",
    "TrustedCodeWarning",
    "Usage",
    "Versioned",
    "Waiting",
    "Work",
    "__version__",
    "connect",
    "make_sandbox",
    "probe",
    "resolve_endpoint",
    "resolve_endpoints",
    "sandbox_names",
    "served_checkpoint",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
