"""Rewards for delegation itself, which fall to 0 in the course of training: PARL of Kimi K2.5 (arXiv 2602.02276).

r = λ1·r_parallel + λ2·r_finish + r_perf, where r_perf is the reward of Eq. 1 here. r_parallel keeps a policy from doing
everything alone one after the other, r_finish from launching agents that do nothing, and both λ are annealed to 0. The report
has no formula for the two; these are shares from 0 to 1, so that many launches do not pay more than a few.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from recursive_agent.trace.timing import overlapping
from recursive_agent.trace.tree import Node


@dataclass(frozen=True, slots=True)
class Shaping:
    """λ1 and λ2 at one update."""

    parallel: Fraction = Fraction(0)
    finish: Fraction = Fraction(0)

    def reward(self, node: Node) -> Fraction:
        """λ1·r_parallel + λ2·r_finish of a node."""
        reward = self.parallel * r_parallel(node) if self.parallel else Fraction(0)
        return reward + (self.finish * r_finish(node) if self.finish else 0)


UNSHAPED = Shaping()


def annealed(parallel: float, finish: float, update: int, updates: int) -> Shaping:
    """λ1 and λ2 at an update (the first is 0): they fall linearly to 0 at update number `updates`."""
    left = max(Fraction(0), 1 - Fraction(update, updates))
    return Shaping(Fraction(parallel) * left, Fraction(finish) * left)


def r_parallel(node: Node) -> Fraction:
    """Share of the node's children that ran at the same time as another one; 0 without children."""
    together = overlapping([(child.started, child.end) for child in node.children])
    return Fraction(sum(together), len(together)) if together else Fraction(0)


def r_finish(node: Node) -> Fraction:
    """Share of the node's children that returned a result, right or wrong; 0 without children."""
    finished = [child.finished for child in node.children]
    return Fraction(sum(finished), len(finished)) if finished else Fraction(0)
