"""Weights of depths (Eq. 4), and node sub-sampling."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Protocol, TypeVar

from .config import CreditConfig


def depth_weights(counts: Mapping[int, int], config: CreditConfig) -> dict[int, float]:
    """w_d by depth, from N_d by depth (Eq. 4)."""
    total = sum(counts.values())
    match config.depth_weighting:
        case "none":
            return dict.fromkeys(counts, 1.0)
        case "inverse_frequency":
            return {depth: total / (len(counts) * count) for depth, count in counts.items()}
        case "discount":
            # From the shallowest depth on: a small γ must not vanish before it is normalised.
            powers = {depth: config.depth_discount ** (depth - min(counts)) for depth in counts}
            norm = sum(count * powers[depth] for depth, count in counts.items())
            return {depth: total * power / norm for depth, power in powers.items()}


class HasDepth(Protocol):
    """A node of a tree."""

    @property
    def depth(self) -> int:
        """The root's is 0."""


_Node = TypeVar("_Node", bound=HasDepth)


def sub_sample(
    nodes: list[_Node], counts: Mapping[int, int], most: int | None, rng: random.Random | None
) -> tuple[list[_Node], dict[int, float]]:
    """At most `most` nodes of each depth in their order, and by depth N_d/k, the scale of the nodes that were picked."""
    if most is None or rng is None:
        return nodes, dict.fromkeys(counts, 1.0)
    places = {
        depth: set(rng.sample(range(count), most)) if count > most else set(range(count))
        for depth, count in counts.items()
    }
    seen: Counter[int] = Counter()
    picked = []
    for node in nodes:
        if seen[node.depth] in places[node.depth]:
            picked.append(node)
        seen[node.depth] += 1
    return picked, {depth: count / len(places[depth]) for depth, count in counts.items()}
