"""How credit is assigned: the settings of `credit` in `rao train --set`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError

from .baselines import Baseline
from .rewards import Reward

DepthWeighting = Literal["inverse_frequency", "none", "discount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """How credit is assigned; the defaults are the paper's. Raises ConfigurationError for values out of range."""

    reward: Reward = "local"
    """R of a node: its own s̃ and bonus (local), or R of its tree's root (root, the sparse ablation)."""
    delegation_bonus: float = 0.0
    """λ of Eq. 1."""
    bonus_for_forwarding: bool = True
    """False: a child whose goal is its parent's own goal, word for word, does not count for the bonus."""
    parallel_bonus: float = 0.0
    """λ1: added times the share of an agent's children that ran at the same time as another (see `credit.shaping`)."""
    finish_bonus: float = 0.0
    """λ2: added times the share of an agent's children that returned a result."""
    shaping_updates: int = 100
    """Updates in which `parallel_bonus` and `finish_bonus` fall linearly to 0."""
    baseline: Baseline = "root"
    """What advantages are taken against: b of Eq. 3, or a rival; see `rao_rl.credit.baselines` and `.advantages`."""
    ema_decay: float = 0.95
    """How much of its value a moving average of `baseline="ema_depth"` keeps at each reward; from 0 to below 1."""
    depth_weighting: DepthWeighting = "inverse_frequency"
    """w_d: as Eq. 4, 1, or ∝ γ^d. Each keeps Σ N_d·w_d = Σ N_d."""
    depth_discount: float = 1.0
    """γ of `discount`, above 0 and up to 1."""
    min_group: int = 2
    """Groups with fewer scored rollouts are dropped. At least 2: one alone has no baseline (but see `least_group`)."""
    max_nodes_per_depth: int | None = None
    """k of node sub-sampling; None trains all."""
    max_staleness: int | None = None
    """How many versions of the weights a tree may be behind the trainer; None: any number."""
    max_length: int | None = None
    """Nodes with a longer row, in tokens, are not trained; None: no limit."""

    def __post_init__(self) -> None:
        for name, choices in (("reward", Reward), ("baseline", Baseline), ("depth_weighting", DepthWeighting)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}"
                )
        for name in ("delegation_bonus", "parallel_bonus", "finish_bonus"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be a number from 0 on, not {getattr(self, name)}")
        if not 0 < self.depth_discount <= 1:
            raise ConfigurationError(f"depth_discount must be above 0 and at most 1, not {self.depth_discount}")
        if self.baseline == "inherit" and self.reward == "root":
            raise ConfigurationError(
                "baseline=inherit gives every agent the advantage of its root whatever the reward: leave out reward=root"
            )
        if self.baseline == "counterfactual" and self.reward == "root":
            raise ConfigurationError(
                "baseline=counterfactual compares children by their own reward: leave out reward=root, or use another baseline"
            )
        if not 0 <= self.ema_decay < 1:
            raise ConfigurationError(f"ema_decay must be from 0 to below 1, not {self.ema_decay}")
        for name, least in (
            ("min_group", 2),
            ("shaping_updates", 1),
            ("max_nodes_per_depth", 1),
            ("max_staleness", 0),
            ("max_length", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value}")

    @property
    def least_group(self) -> int:
        """How many scored rollouts a group must have: one is enough for `baseline="ema_depth"`, which compares none."""
        return 1 if self.baseline == "ema_depth" else self.min_group


PAPER = CreditConfig()
"""The paper's settings, which are the defaults."""
