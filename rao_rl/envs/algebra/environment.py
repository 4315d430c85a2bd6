"""Symbolic algebra as an `Environment`: tasks by depth, the tool that shows a node, and the score of every agent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from ...errors import UnknownGoal
from ..base import About, ScoredNode, Task
from ..generated import ExactSession, Generated, Window, same, task_data
from .experts import recursive_cells, single_cell
from .expressions import Expression, expand, make_expression

LEVELS: Mapping[str, int] = MappingProxyType({"depth-2": 2, "depth-4": 4, "depth-6": 6, "depth-8": 8})
"""Operations on the longest path of the expression."""
DEEPEST_TRAINED = 4
_GOAL = re.compile(r"Expand node ([1-9]\d{0,5})", re.ASCII)


class AlgebraSession(ExactSession):
    """One expression, and how many of its nodes each agent has seen."""

    def __init__(self, expression: Expression, window: int | None = None) -> None:
        super().__init__()
        self.expression = expression
        self.tools = (self.show,)
        self._window = Window(window, "nodes")

    async def show(self, node: int, *, ctx: ToolContext) -> list[Any]:
        """A node of the expression: [operation, p, q]; p and q are polynomials or the numbers of other nodes.

        A polynomial in x is the list of its coefficients from the constant on, without zeros at the end: 3 - 2x is [3, -2].
        In an operation such as 2*D(p)-1*X(q), D is the derivative, X multiplies by x, M puts -x in the place of x and I
        changes nothing; p*q is the product. To expand a node is to find the polynomial that it stands for.
        """
        found = self.expression.nodes.get(node)
        if found is None:
            raise ValueError(f"there is no node {node}: the nodes are 1 to {len(self.expression.nodes)}")
        self._window.look(ctx)
        return [found.operation, found.p, found.q]

    def understands(self, goal: str) -> bool:
        """Whether the goal keeps the grammar and names a node."""
        return _node(goal) in self.expression.nodes

    def verdict(self, node: ScoredNode) -> bool:
        """Whether the result is the polynomial that the node's goal asks for."""
        return same(node.result, expand(self.expression, _node(node.goal)))


class Algebra(Generated):
    """Expand a nested expression over polynomials that is shown node by node.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `window`: nodes that one agent may look at in all; None: as
    many as it likes. Raises ConfigurationError for any other value.
    """

    name = "algebra"
    levels = tuple(LEVELS)
    deepest = max(LEVELS.values()) - 1
    about = About(
        summary="expand nested expressions over polynomials, up to 4 operations deep in training and 8 in test",
        sizes={"train": None, "validation": None, "test": None},
    )

    def levels_of(self, split: str) -> tuple[str, ...]:
        """All levels; of the training split, those up to depth 4."""
        return tuple(level for level, depth in LEVELS.items() if split != "train" or depth <= DEEPEST_TRAINED)

    def make(self, id: str, level: str) -> Task:
        """A whole expression to expand."""
        return self._task(id, id, level, make_expression(id, LEVELS[level]).root)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal about the deepest expression of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for a node that does not exist.
        """
        node = _node(goal)
        if not node:
            raise UnknownGoal(f"a goal reads like 'Expand node 37', not {goal!r:.80}")
        task = self._task(f"algebra/own/{seed}/{goal}", f"algebra/own/{seed}", None, node)
        if (count := len(self.session(task).expression.nodes)) < node:
            raise ConfigurationError(
                f"algebra: the expression of seed {seed} has the nodes 1 to {count}, and no {node}"
            )
        return task

    def session(self, task: Task) -> AlgebraSession:
        """A fresh state for one attempt at `task`."""
        source, depth = task_data(self.name, task, "source", str), task_data(self.name, task, "depth", int)
        return AlgebraSession(make_expression(source, depth), self.window)

    def expert(self, goal: str, context: Any) -> Iterator[str]:
        """Look at the node, then delegate what is below it; or expand everything at once."""
        node = _node(goal)
        return recursive_cells(node) if self.mode == "recursive" else iter([single_cell(node)])

    def parts(self, task: Task) -> int:
        """Nodes of the expression."""
        return len(self.session(task).expression.nodes)

    def _task(self, id: str, source: str, level: str | None, node: int) -> Task:
        depth = LEVELS[self.levels[-1] if level is None else level]
        return Task(
            id=id, goal=f"Expand node {node}", returns=list[int], level=level, data={"source": source, "depth": depth}
        )


def _node(goal: str) -> int:
    """The node that a goal names; 0, which is none, where it breaks the grammar."""
    found = _GOAL.fullmatch(goal)
    return 0 if found is None else int(found[1])
