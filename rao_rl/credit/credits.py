"""The credit of a batch: advantage and weight of each node to train, and what they were computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .funnel import Funnel


@dataclass(frozen=True, slots=True)
class Size:
    """The rows of one node in numbers: its longest row, and its sampled tokens."""

    longest_row: int
    completion_tokens: int
    of_policy: bool = True
    """False for a node of another model than the one that is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredit:
    """Advantage and weight of one node to train. `tree` is the index of its tree in the batch, `node` its id there."""

    tree: int
    node: str
    depth: int
    success: float | None
    """s̃; None where it is missing: such nodes are trained with `reward="root"` and `baseline="inherit"` only."""
    reward: float
    advantage: float
    weight: float
    """w_d."""
    scale: float
    """N_d/k where sub-sampling picked k of N_d nodes, else 1."""
    tokens: int
    """Tokens that the node sampled."""

    @property
    def coefficient(self) -> float:
        """The factor of ∇ log π for each sampled token of the node, before the division by D."""
        return self.weight * self.scale * self.advantage


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthStats:
    """One depth of a batch before sub-sampling: N_d, w_d, and means over its nodes."""

    nodes: int
    weight: float
    reward: float
    success: float | None
    """Mean over the nodes whose s̃ is known; None where there is no such node."""
    advantage: float
    launch_rate: float
    """Share of the nodes that launched a sub-agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credits:
    """The credit of a batch. `tokens`, `count` (of nodes) and `rollouts` are totals before sub-sampling, for D."""

    nodes: list[NodeCredit]
    """The nodes to train, in the order of the trees, and in launch order within a tree."""
    funnel: Funnel
    depths: dict[int, DepthStats]
    tokens: int
    count: int
    rollouts: int
    frac_reward_zero_std: float
    """Of the groups that are large enough, the share in which every node's advantage is 0."""
    averages: Mapping[int, float] = field(default_factory=dict)
    """With `baseline="ema_depth"`: by depth, the moving average of the reward after this batch."""
