"""Baselines of a group of rollouts, one function each: what a node's reward is compared with (b of Eq. 3).

A baseline is a mean over the *other* rollouts of the group, so that none depends on its own rollout's actions; only
`siblings` looks at the own rollout, without the node itself. A baseline gets the rewards of the group, rollout by rollout
(the root first), and returns b for each node in the same shape. A new one is a function here, its name in `Baseline`, and its
line in `BASELINES`; what is more than R(X) − b belongs in `advantages.py`.

Arithmetic is exact: a sum does not depend on its order, and equal rewards give advantages of exactly zero.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from recursive_agent.trace.tree import Node
from recursive_agent.trace.values import pack

from .rewards import Earned

Baseline = Literal[
    "root", "root_success", "depth", "goal", "siblings", "inherit", "max_rl", "ema_depth", "counterfactual"
]
"""What advantages are taken against. Those without a line in `BASELINES` are schemes of `advantages.py`."""
Group = Sequence[Sequence[Earned]]
"""The rewards of a group, rollout by rollout; each begins with its root."""


def baselines(group: Group, kind: Baseline) -> list[list[Fraction]]:
    """b of every node of every rollout of a group. Raises ValueError for a group of fewer than two rollouts."""
    if len(group) < 2:
        raise ValueError("a baseline needs the roots of two rollouts at least")
    if kind not in BASELINES:
        raise ValueError(f"{kind} gives advantages that are not R(X) − b; call advantages()")
    return BASELINES[kind](group)


def root(group: Group) -> list[list[Fraction]]:
    """The mean reward of the other roots, for all nodes of a rollout: Eq. 3 of arXiv 2605.06639, the paper's.

    With λ > 0 a successful leaf that does not delegate falls behind roots that earn the bonus.
    """
    pool = _Pools()
    for number, rollout in enumerate(group):
        pool.add(_ROOT, number, rollout[0].reward)
    return [[pool.mean(number, _ROOT)] * len(rollout) for number, rollout in enumerate(group)]


def root_success(group: Group) -> list[list[Fraction]]:
    """The mean s̃ of the other roots, their bonuses left out. The same as `root` at λ = 0."""
    pool = _Pools()
    for number, rollout in enumerate(group):
        assert rollout[0].success is not None  # a rollout without a scored root is dropped before
        pool.add(_ROOT, number, rollout[0].success)
    return [[pool.mean(number, _ROOT)] * len(rollout) for number, rollout in enumerate(group)]


def depth(group: Group) -> list[list[Fraction]]:
    """The mean reward of the other rollouts' nodes of the same depth; `root` where they have none so deep."""
    pool = _by_depth(group)
    return [[pool.mean(number, earned.node.depth, _ROOT) for earned in rollout] for number, rollout in enumerate(group)]


def goal(group: Group) -> list[list[Fraction]]:
    """The mean reward of the other rollouts' nodes with the same goal and inputs, at any depth; `depth` where none has.

    The same goal is the same text but for white space around it, the same context and the same type of result.
    """
    goals = [[asked(earned.node) for earned in rollout] for rollout in group]
    pool = _by_depth(group)
    for number, rollout in enumerate(group):
        for earned, same in zip(rollout, goals[number], strict=True):
            pool.add(same, number, earned.reward)
    return [
        [pool.mean(number, same, earned.node.depth, _ROOT) for earned, same in zip(rollout, goals[number], strict=True)]
        for number, rollout in enumerate(group)
    ]


def siblings(group: Group) -> list[list[Fraction]]:
    """The mean reward of the other children of the same parent whose goals are alike; `root` where there are none.

    After prime-rl's `hierarchical_grpo`, which compares the solvers of a problem with the other solvers of the same episode,
    and proposers across the group (with the mean of all of them, their own reward included; here it is left out). There, the
    environment says who solves the same problem. Here, parents write the goals, so goals are alike if they have the same
    form (see `form`) and ask for the same type of result. Siblings may be of different difficulty, and a parent may choose a
    goal after it has seen what an earlier child did: both make this baseline biased.
    """
    pool = _Pools()
    families: defaultdict[Hashable, list[Fraction]] = defaultdict(list)
    keys = [[(number, family(earned.node)) for earned in rollout] for number, rollout in enumerate(group)]
    for number, rollout in enumerate(group):
        pool.add(_ROOT, number, rollout[0].reward)
        for earned, key in zip(rollout, keys[number], strict=True):
            families[key].append(earned.reward)

    def b(number: int, earned: Earned, key: Hashable) -> Fraction:
        alike = families[key]
        if len(alike) == 1:  # a root too
            return pool.mean(number, _ROOT)
        return (sum(alike, Fraction(0)) - earned.reward) / (len(alike) - 1)

    return [
        [b(number, earned, key) for earned, key in zip(rollout, keys[number], strict=True)]
        for number, rollout in enumerate(group)
    ]


def family(node: Node) -> Hashable:
    """The siblings of a node, itself among them, that have goals of the same form: a key of them within a rollout."""
    return node.parent, form(node.goal), _digest(node.returns)


def form(goal: str) -> str:
    """What kind of goal it is: its text without what it is about.

    That is the part before the first colon that white space follows, if there is one. In it (or else in the whole goal),
    quoted text and words with a digit or an underscore become `#`; upper case and the amount of white space do not count.
    """
    kind = re.split(r":\s", goal.strip(), maxsplit=1)[0]
    kind = re.sub(r"""(?<!\w)(?:"[^"]*"|'[^']*'|`[^`]*`)(?!\w)|\w*[\d_]\w*""", "#", kind)
    return " ".join(kind.casefold().split())


BASELINES: Mapping[Baseline, Callable[[Group], list[list[Fraction]]]] = {
    "root": root,
    "root_success": root_success,
    "depth": depth,
    "goal": goal,
    "siblings": siblings,
}

_ROOT = 0
"""The depth of roots, and so the key of a pool that every rollout has a part in."""


@dataclass(slots=True)
class _Pool:
    """A sum of rewards, and the part of each rollout in it."""

    total: Fraction = Fraction(0)
    count: int = 0
    parts: dict[int, tuple[Fraction, int]] = field(default_factory=dict)
    """Sum and count by rollout."""


class _Pools:
    """Rewards of nodes that are compared with each other, by a key that says which these are."""

    def __init__(self) -> None:
        self._pools: defaultdict[Hashable, _Pool] = defaultdict(_Pool)
        self._means: dict[tuple[int, Hashable], Fraction | None] = {}

    def add(self, key: Hashable, rollout: int, value: Fraction) -> None:
        pool = self._pools[key]
        pool.total += value
        pool.count += 1
        total, count = pool.parts.get(rollout, (Fraction(0), 0))
        pool.parts[rollout] = (total + value, count + 1)

    def mean(self, rollout: int, *keys: Hashable) -> Fraction:
        """The mean over the other rollouts in the first of these pools that has any of them."""
        for key in keys:
            if (rollout, key) not in self._means:
                self._means[rollout, key] = self._others(rollout, key)
            if (mean := self._means[rollout, key]) is not None:
                return mean
        raise ValueError("no other rollout has a part in these pools")

    def _others(self, rollout: int, key: Hashable) -> Fraction | None:
        pool = self._pools[key]
        total, count = pool.parts.get(rollout, (Fraction(0), 0))
        return (pool.total - total) / (pool.count - count) if pool.count > count else None


def _by_depth(group: Group) -> _Pools:
    pools = _Pools()
    for number, rollout in enumerate(group):
        for earned in rollout:
            pools.add(earned.node.depth, number, earned.reward)
    return pools


def asked(node: Node) -> Hashable:
    """What a node was asked, as a key that is the same for all that were asked the same."""
    return node.goal.strip(), _digest(node.context), _digest(node.returns)


def _digest(value: Any) -> bytes | None:
    """A digest of a value that does not depend on the order of keys."""
    if value is None:
        return None
    packed = pack(value, lambda text: text, lambda data: data)
    return hashlib.blake2b(json.dumps(packed, sort_keys=True).encode(), digest_size=16).digest()
