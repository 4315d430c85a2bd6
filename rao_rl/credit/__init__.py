"""Finished trees → rewards, advantages and weights of their nodes (arXiv 2605.06639). No torch."""

from .assign import CreditConfig, Credits, DepthStats, DepthWeighting, NodeCredit, Size, assign, tree_version
from .baselines import Baseline, baselines
from .funnel import Funnel, Losses
from .normalization import Normalization, Normalize
from .rewards import Earned, Reward, Success, rewards, success

__all__ = [
    "Baseline",
    "CreditConfig",
    "Credits",
    "DepthStats",
    "DepthWeighting",
    "Earned",
    "Funnel",
    "Losses",
    "NodeCredit",
    "Normalization",
    "Normalize",
    "Reward",
    "Size",
    "Success",
    "assign",
    "baselines",
    "rewards",
    "success",
    "tree_version",
]
