"""D, the number that a step's loss is divided by: how it is counted, as one setting from the command line to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError

Normalize = Literal["token", "node", "rollout", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """What D counts: the sampled tokens, the nodes or the rollouts of the whole optimizer step, or nothing (`constant`).

    Raises ConfigurationError for an unknown way to count, and for a constant that is not above 0.
    """

    normalize: Normalize = "token"
    constant: float = 1.0
    """D where `normalize` is "constant"; otherwise not used."""

    def __post_init__(self) -> None:
        if self.normalize not in get_args(Normalize):
            raise ConfigurationError(
                f"normalize must be one of {', '.join(get_args(Normalize))}, not {self.normalize!r}"
            )
        if not self.constant > 0:
            raise ConfigurationError(f"constant must be above 0, not {self.constant}")

    def denominator(self, *, tokens: int, nodes: int, rollouts: int) -> float:
        """D of a step, from its totals before any sub-sampling. Never 0: a step without tokens is divided too."""
        totals = {"token": tokens, "node": nodes, "rollout": rollouts, "constant": self.constant}
        return max(float(totals[self.normalize]), 1e-9)


BY_TOKEN = Normalization()
"""The default: D is the number of sampled tokens."""
