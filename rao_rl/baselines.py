"""Baselines of a group of rollouts: means over the *other* rollouts, so that none depends on what its own rollout did."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from recursive_agent.trace.tree import Node
from recursive_agent.trace.values import pack

from .rewards import Earned

Baseline = Literal["root", "root_success", "depth", "goal"]

_ROOT = ("depth", 0)


@dataclass(slots=True)
class _Pool:
    total: Fraction = Fraction(0)
    count: int = 0
    own: dict[int, tuple[Fraction, int]] = field(default_factory=dict)
    """Sum and count by rollout."""

    def add(self, rollout: int, value: Fraction) -> None:
        self.total += value
        self.count += 1
        total, count = self.own.get(rollout, (Fraction(0), 0))
        self.own[rollout] = (total + value, count + 1)

    def others(self, rollout: int) -> Fraction | None:
        """The mean over the other rollouts; None where they have no such node."""
        total, count = self.own.get(rollout, (Fraction(0), 0))
        return (self.total - total) / (self.count - count) if self.count > count else None


def baselines(group: Sequence[Sequence[Earned]], kind: Baseline) -> list[list[Fraction]]:
    """b of every node of every rollout of a group (Eq. 3 for `root`); each rollout begins with its root.

    `root_success` is the mean of the other roots' s̃, without their bonuses. `depth` is the mean reward of the other
    rollouts' nodes of the same depth, `goal` of those with the same goal and inputs (at any depth). Where the others have
    no such node, `goal` falls back to `depth` and `depth` to `root`. Needs two rollouts at least. Exact arithmetic: sums do
    not depend on an order, and equal rewards give advantages of exactly zero.
    """
    pools: defaultdict[Hashable, _Pool] = defaultdict(_Pool)
    keys = [[_keys(earned.node, kind) for earned in rollout] for rollout in group]
    for number, rollout in enumerate(group):
        for earned, own in zip(rollout, keys[number], strict=True):
            for key in own:
                pools[key].add(number, earned.reward)
        if kind == "root_success":
            assert rollout[0].success is not None
            pools["success"].add(number, rollout[0].success)
    fallback: Hashable = "success" if kind == "root_success" else _ROOT
    result = []
    for number, rollout_keys in enumerate(keys):
        found: dict[Hashable, Fraction | None] = {}
        row = []
        for own in rollout_keys:
            for key in (*own, fallback) if kind in ("depth", "goal") else (fallback,):
                if key not in found:
                    found[key] = pools[key].others(number)
                if (mean := found[key]) is not None:
                    row.append(mean)
                    break
            else:
                raise ValueError("a baseline needs the roots of two rollouts at least")
        result.append(row)
    return result


def _keys(node: Node, kind: Baseline) -> tuple[Hashable, ...]:
    """The pools that a node is part of, the most specific one first."""
    if kind == "goal":
        return (("goal", node.goal, _inputs(node.context)), ("depth", node.depth))
    if kind == "depth" or node.depth == 0:
        return (("depth", node.depth),)
    return ()


def _inputs(context: Any) -> bytes | None:
    """A digest of a node's inputs that does not depend on the order of keys."""
    if context is None:
        return None
    packed = pack(context, lambda text: text, lambda data: data)
    return hashlib.blake2b(json.dumps(packed, sort_keys=True).encode(), digest_size=16).digest()
