"""Symbolic algebra: nodes, their expansion, and what an agent sees of them."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.algebra import Algebra, AlgebraSession, Expression, Node, Rule, expand, make_expression
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import ToolContext

from .solving import Answered, solved

HAND = Expression(
    4,
    {
        1: Node(Rule(2, "D", -1, "X"), [3, -2, 1], [5, 1]),  # 2(-2 + 2x) - (5x + x²) = -4 - x - x²
        2: Node(None, [1, 1], [-1, 1]),  # x² - 1
        3: Node(Rule(1, "I", 1, "I"), 1, 2),  # -5 - x
        4: Node(Rule(3, "M", -3, "I"), 3, 3),  # 3(-5 + x) + 3(5 + x) = 6x
        5: Node(Rule(1, "M", -1, "I"), 2, 2),  # 0, since x² - 1 is even
    },
)


@pytest.mark.anyio
@pytest.mark.parametrize(("node", "answer"), [(1, [-4, -1, -1]), (2, [-1, 0, 1]), (3, [-5, -1]), (4, [0, 6]), (5, [])])
async def test_expansions_worked_out_by_hand(node: int, answer: list[int]) -> None:
    session = AlgebraSession(HAND)
    goal = f"Expand node {node}"
    assert await session.score(Answered(goal=goal, result=answer)) == 1.0
    assert await session.score(Answered(goal=goal, result=answer, status=Status.STEP_LIMIT)) == 0.0
    wrongs: list[object] = [[*answer, 0], [float(each) for each in answer] or [0], [1], str(answer), None, {}, [True]]
    for wrong in wrongs:
        assert await session.score(Answered(goal=goal, result=wrong)) == 0.0
    other = f"Expand node {node % 5 + 1}"
    assert await session.score(Answered(goal=other, result=answer)) == 0.0


@pytest.mark.anyio
@pytest.mark.parametrize(
    "goal", ["Expand node 6", "Expand node 0", "Expand node 01", "expand node 1", "Expand node 1 "]
)
async def test_goals_outside_the_grammar_or_the_expression_score_0(goal: str) -> None:
    session = AlgebraSession(HAND)
    assert await session.score(Answered(goal=goal, result=[-4, -1, -1], id="0.0")) == 0.0
    assert session.unparsed == {"0.0"}


Jet = list[int]
"""Taylor coefficients of a polynomial around a point, as many as derivatives may be taken of it."""
ORDERS = 11


def at(expression: Expression, operand: list[int] | int, x: int) -> Jet:
    """The operand around x, without expanding anything: how operations act on values and derivatives at a point."""
    if isinstance(operand, list):
        jet = [0] * ORDERS
        for coefficient in reversed(operand):  # Horner's rule
            jet = times(jet, [x, 1])
            jet[0] += coefficient
        return jet
    node = expression.nodes[operand]
    if node.rule is None:
        return times(at(expression, node.p, x), at(expression, node.q, x))
    one = changed(expression, node.rule.left, node.p, x)
    other = changed(expression, node.rule.right, node.q, x)
    return [node.rule.first * a + node.rule.second * b for a, b in zip(one, other, strict=True)]


def times(one: Jet, other: Jet) -> Jet:
    padded = [*other, *[0] * ORDERS]
    return [sum(one[i] * padded[k - i] for i in range(k + 1)) for k in range(ORDERS)]


def changed(expression: Expression, change: str, operand: list[int] | int, x: int) -> Jet:
    if change == "M":
        return [value * (-1) ** order for order, value in enumerate(at(expression, operand, -x))]
    jet = at(expression, operand, x)
    if change == "X":
        return times(jet, [x, 1])
    # The highest derivative of a derivative is not known, and after a few more changes still no matter to the value at x.
    return [(order + 1) * jet[order + 1] for order in range(ORDERS - 1)] + [0] if change == "D" else jet


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(-4, 4))
@settings(max_examples=30)
def test_the_expansion_has_the_value_of_the_expression_everywhere(seed: int, depth: int, x: int) -> None:
    expression = make_expression(str(seed), depth)
    for number in expression.nodes:
        found = expand(expression, number)
        assert sum(factor * x**power for power, factor in enumerate(found)) == at(expression, number, x)[0]
        assert not found or found[-1] != 0


@given(st.integers(0, 10**6), st.sampled_from([2, 4, 6, 8]))
@settings(max_examples=30)
def test_an_expression_is_a_tree_of_its_depth(seed: int, depth: int) -> None:
    expression = make_expression(str(seed), depth)

    def height(number: int) -> int:
        node = expression.nodes[number]
        return 1 + max(height(each) if isinstance(each, int) else 0 for each in (node.p, node.q))

    assert height(expression.root) == depth
    below = [each for node in expression.nodes.values() for each in (node.p, node.q) if isinstance(each, int)]
    assert sorted([*below, expression.root]) == list(range(1, len(expression.nodes) + 1))


def test_training_has_no_deep_expressions() -> None:
    env = Algebra()
    assert env.levels_of("train") == ("depth-2", "depth-4")
    assert env.levels_of("test") == env.levels == ("depth-2", "depth-4", "depth-6", "depth-8")
    with pytest.raises(
        ConfigurationError, match="level of the split train must be one of depth-2, depth-4, not 'depth-8'"
    ):
        env.tasks("train", level="depth-8")


def test_goals_from_outside() -> None:
    env = Algebra()
    assert env.task("Expand node 7", 2).data == {"source": "algebra/own/2", "depth": 8}
    with pytest.raises(ConfigurationError, match=r"the expression of seed 2 has the nodes 1 to .*, and no 9999"):
        env.task("Expand node 9999", 2)


@pytest.mark.anyio
async def test_a_node_is_shown_at_a_time_and_a_window_limits_how_many() -> None:
    session = AlgebraSession(HAND, window=1)
    one, other = (ToolContext("t", node, "0", 1, "g") for node in ("0.0", "0.1"))
    assert await session.show(1, ctx=one) == ["2*D(p)-1*X(q)", [3, -2, 1], [5, 1]]
    with pytest.raises(ValueError, match="you may not look at more nodes: the limit for one agent is 1"):
        await session.show(2, ctx=one)
    assert await session.show(2, ctx=other) == ["p*q", [1, 1], [-1, 1]]
    with pytest.raises(ValueError, match="there is no node 9: the nodes are 1 to 5"):
        await session.show(9, ctx=other)


def test_agents_that_see_one_node_each_expand_what_was_too_deep_for_training() -> None:
    env = Algebra(window=1)
    (tree,) = anyio.run(solved, env, "recursive", list(env.tasks("test", level="depth-6", limit=1)))
    assert {node.score for node in tree.walk()} == {1.0}
    assert tree.max_depth == 5
