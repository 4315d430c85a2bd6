"""The options of `rao serve`, once they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..models import Interface

if TYPE_CHECKING:
    from rao_rl.serve.http.settings import ServerSettings

Engine = Literal["vllm", "embedded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Which model is served, by which server, and within which limits."""

    checkpoint: str | None
    adapter: Path | None
    engine: Engine
    agent: bool
    mcp: Literal["stdio", "http"] | None
    """Whether the agent is a tool of MCP clients: of the one that started this process, or of all, beside the API."""
    endpoint: bool
    """Whether the model runs already, at `base_url` or where the environment says."""
    base_url: str | None
    model: str | None
    interface: Interface
    server: ServerSettings
    keep_alive: int | None
    """What the command line says of it, which vLLM gets too; None: nothing."""
    python: str | None
    weight_updates: bool
    trace_dir: Path
    limits: dict[str, Any]
    """Arguments of `Limits` that the command line sets."""
    approve: dict[str, Any] | None
    """Arguments of `Approve`: which calls wait until a client approves them."""
    isolation: dict[str, Any]
    """The agent's `sandbox` and `require`."""
    env_set: tuple[str, ...]
    """Arguments of the environment that the model was trained on, over those of its `agent.json`."""
    request_timeout: float | None
    quiet: bool
    otel: bool
    """Whether the agent's runs are sent as OpenTelemetry traces."""
    max_batch: int | None
    """Answers that the engine in this process samples together; None: as many as suit the machine."""
    vllm_options: tuple[str, ...]
