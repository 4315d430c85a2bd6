"""Expressions: trees of operations on polynomials in x with whole coefficients, and their expansion.

A polynomial is the list of its coefficients from the constant on, without zeros at the end: 3 - 2x is `[3, -2]`, 0 is `[]`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, TypeAlias, get_args

Polynomial: TypeAlias = list[int]
Change: TypeAlias = Literal["I", "X", "D", "M"]
"""What happens to an operand: nothing, times x, its derivative, or -x in the place of x."""
CHANGES: tuple[Change, ...] = get_args(Change)
FACTORS = (-3, -2, -1, 1, 2, 3)
PRODUCT = 0.3
"""Probability that an operation on two polynomials (not on other nodes) is their product."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The operation `first * left(p) + second * right(q)`, such as 2*D(p)-1*X(q)."""

    first: int
    left: Change
    second: int
    right: Change

    def __str__(self) -> str:
        return f"{self.first}*{self.left}(p){self.second:+}*{self.right}(q)"


@dataclass(frozen=True, slots=True)
class Node:
    """An operation and its operands: polynomials, or the numbers of other nodes. `rule` None: the product p*q."""

    rule: Rule | None
    p: Polynomial | int
    q: Polynomial | int

    @property
    def operation(self) -> str:
        """The operation as agents see it."""
        return "p*q" if self.rule is None else str(self.rule)


@dataclass(frozen=True, slots=True)
class Expression:
    """A tree of nodes by number. The numbers tell nothing of their place."""

    root: int
    nodes: Mapping[int, Node]


def make_expression(seed: str, depth: int) -> Expression:
    """The expression of a seed: `depth` operations lie on its longest path, 1 where its operands are polynomials."""
    rng = random.Random(f"algebra/expression/{seed}")
    drawn: list[Node] = []

    def draw(height: int) -> Polynomial | int:
        if height == 0:
            # Not 0 at the end, so that the degree is what it looks like.
            return [*(rng.randint(-9, 9) for _ in range(rng.randint(1, 2))), rng.choice((-1, 1)) * rng.randint(1, 9)]
        heights = [height - 1, max(0, height - rng.randint(1, 2))]
        rng.shuffle(heights)
        p, q = map(draw, heights)
        rule = None
        if height > 1 or rng.random() >= PRODUCT:
            rule = Rule(rng.choice(FACTORS), rng.choice(CHANGES), rng.choice(FACTORS), rng.choice(CHANGES))
        drawn.append(Node(rule, p, q))
        return len(drawn) - 1

    draw(depth)
    numbers = rng.sample(range(1, len(drawn) + 1), len(drawn))

    def numbered(operand: Polynomial | int) -> Polynomial | int:
        return numbers[operand] if isinstance(operand, int) else operand

    nodes = {
        number: Node(each.rule, numbered(each.p), numbered(each.q)) for number, each in zip(numbers, drawn, strict=True)
    }
    return Expression(numbers[-1], nodes)


def expand(expression: Expression, number: int) -> Polynomial:
    """The polynomial that a node stands for."""
    node = expression.nodes[number]
    p, q = (expand(expression, each) if isinstance(each, int) else each for each in (node.p, node.q))
    if node.rule is None:
        found = [0] * (len(p) + len(q))
        for i, a in enumerate(p):
            for j, b in enumerate(q):
                found[i + j] += a * b
    else:
        rule = node.rule
        pairs = zip_longest(_changed(rule.left, p), _changed(rule.right, q), fillvalue=0)
        found = [rule.first * a + rule.second * b for a, b in pairs]
    while found and found[-1] == 0:
        found.pop()
    return found


def _changed(change: Change, p: Polynomial) -> Polynomial:
    match change:
        case "I":
            return p
        case "X":
            return [0, *p]
        case "D":
            return [power * factor for power, factor in enumerate(p)][1:]
        case "M":
            return [factor * (-1) ** power for power, factor in enumerate(p)]
