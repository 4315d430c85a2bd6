"""Finished trees → rewards, advantages and weights of their nodes (arXiv 2605.06639). No torch."""

from .advantages import advantages
from .assign import assign, tree_version
from .baselines import Baseline, baselines
from .config import CreditConfig, DepthWeighting
from .credits import Credits, DepthStats, NodeCredit, Size
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
    "advantages",
    "assign",
    "baselines",
    "rewards",
    "success",
    "tree_version",
]
