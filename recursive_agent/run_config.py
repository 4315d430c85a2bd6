"""What the agents of a run are set up with: one `RunConfig` for each model of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .approval import Approve
from .compaction import Compaction
from .limits import Limits, Prices
from .model.base import Model, Sampling
from .styles import ActionFormat, PromptStyle
from .tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchInfo:
    """What the rule of `Agent(choose=...)` knows of an agent that is about to start."""

    goal: str
    context: Any
    depth: int
    """0 for the root."""
    parent: str | None
    """Id of the parent in the tree; None for the root."""
    parent_model: str | None
    """Name of the parent's model; None for the root."""
    asked: str | None
    """The name that the parent wrote in `launch_subagent(..., model=...)`, one of the run's; None where it wrote none."""


Rule = Callable[[LaunchInfo], str | None]
"""Names the model of an agent; None leaves it to the parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What all nodes of a run share, and what those with one of its models have."""

    model: Model
    tools: Mapping[str, Tool]
    limits: Limits
    prices: Prices | None
    sampling: Sampling
    instructions: str | None
    prompt_style: PromptStyle
    action_format: ActionFormat
    bare_code: bool
    context_limit: int | None
    name: str | None = None
    """Name of the model among those of the run; None where the run has one model."""
    description: str | None = None
    """What agents that choose a model are told of it."""
    trainable: bool = True
    max_concurrency: int | None = None
    """Calls of this model at the same time, within `limits.max_concurrency`."""
    others: Mapping[str, RunConfig] = field(default_factory=dict)
    """The run's other models by name; only the first model's config has them."""
    rule: Rule | None = None
    """Chooses among them; None leaves that to the parents."""
    compact: Compaction | None = None
    """How an agent whose window fills goes on; None: it ends."""
    approve: Approve | None = None
    """Who is asked about calls before they are made."""
    share_identical: bool = False
