"""Critical steps: the longest chain of model calls that waited for each other, worked out by hand."""

from __future__ import annotations

from recursive_agent.status import Status
from recursive_agent.trace.node import Clock, Node, Step
from recursive_agent.trace.schema import HostCalled, ModelCalled
from recursive_agent.trace.timing import critical_steps
from recursive_agent.usage import Usage


def agent(name: str, *calls: tuple[float, float], status: Status = Status.FINISHED) -> Node:
    """An agent whose model calls took these times."""
    steps = [
        Step(
            number=number,
            model=ModelCalled(
                time=end, node=name, step=number, started=start, messages=[], text="", finish_reason="stop",
                usage=Usage(), model="m",
            ),
        )
        for number, (start, end) in enumerate(calls, start=1)
    ]  # fmt: skip
    return Node(
        id=name, parent=None, depth=0, goal="", started=0.0, ended=99.0, status=status, steps=steps, _clock=Clock(99.0)
    )


def launch(parent: Node, child: Node, step: int, start: float, end: float, error: str | None = None) -> None:
    """The parent launches a child in a step; its result is delivered at `end`."""
    parent.children.append(child)
    parent.steps[step - 1].calls.append(
        HostCalled(
            time=end, node=parent.id, step=step, call=1, started=start, name="launch_subagent", error=error,
            child=child.id,
        )
    )  # fmt: skip


THREE = ((2, 3), (3, 4), (4, 5))


def test_a_single_agent_has_as_many_as_calls() -> None:
    assert critical_steps(agent("0", (0, 1), (1, 2), (2, 3))) == 3
    assert critical_steps(agent("0")) == 0


def test_children_awaited_together_count_once_at_the_longest() -> None:
    root = agent("0", (0, 1), (9, 10))
    launch(root, agent("0.1", *THREE), 1, 1.0, 5.5)
    launch(root, agent("0.2", (2, 3)), 1, 1.1, 3.5)
    assert critical_steps(root) == 1 + 3 + 1


def test_children_awaited_one_after_the_other_add_up() -> None:
    root = agent("0", (0, 1), (9, 10))
    launch(root, agent("0.1", *THREE), 1, 1.0, 5.5)
    launch(root, agent("0.2", (6, 7)), 1, 5.6, 7.5)
    assert critical_steps(root) == 1 + 3 + 1 + 1


def test_children_launched_together_that_ran_in_turn_do_not_add_up() -> None:
    """The second had to wait for a slot, not for a result: its launch came before the first one's end."""
    root = agent("0", (0, 1), (9, 10))
    launch(root, agent("0.1", *THREE), 1, 1.0, 5.5)
    launch(root, agent("0.2", (6, 7)), 1, 1.0, 7.5)
    assert critical_steps(root) == 1 + 3 + 1


def test_a_grandchild_counts_within_its_parent() -> None:
    root = agent("0", (0, 1), (9, 10))
    child = agent("0.1", (2, 3), (6, 7))
    launch(child, agent("0.1.1", (3.5, 4), (4, 5)), 1, 3.2, 5.5)
    launch(root, child, 1, 1.0, 8.0)
    assert critical_steps(root) == 1 + (1 + 2 + 1) + 1


def test_a_child_in_the_background_stands_beside_the_calls_of_its_parent() -> None:
    root = agent("0", (0, 1), (2, 3), (3, 4), (4, 5), (9, 10))
    launch(root, agent("0.1", (2, 3), (3, 4)), 1, 1.0, 8.0)
    assert critical_steps(root) == 5  # its own five; through the child there are 1 + 2 + 1


def test_a_child_that_nobody_waited_for_counts_only_in_an_agent_that_did_not_finish() -> None:
    for status, expected in ((Status.FINISHED, 2), (Status.TREE_TIMEOUT, 4)):
        root = agent("0", (0, 1), (2, 3), status=status)
        launch(root, agent("0.1", *THREE), 1, 1.0, 99.0, error="cancelled")
        assert critical_steps(root) == expected


def wait_for(asker: Node, child: Node, step: int, start: float, end: float) -> None:
    """The asker waits for a sub-agent of another agent."""
    asker.steps[step - 1].calls.append(
        HostCalled(
            time=end, node=asker.id, step=step, call=1, started=start, name="launch_subagent", child=child.id,
            shared=True,
        )
    )  # fmt: skip


def test_calls_of_another_agents_child_count_while_they_are_waited_for() -> None:
    root, left, right = agent("0", (0, 1), (20, 21)), agent("0.0", (1, 2)), agent("0.1", (1, 4), (12, 13))
    child = agent("0.0.0", (2, 3), (6, 7), (8, 9))
    left.ended, child.ended = 10.0, 9.5
    launch(left, child, 1, 2.0, 9.5)
    launch(root, left, 1, 1.0, 10.0)
    launch(root, right, 1, 1.0, 14.0)
    wait_for(right, child, 1, 5.0, 9.5)
    assert critical_steps(root) == 1 + (1 + 2 + 1) + 1  # the child's first call had ended when the right one asked


def test_a_child_that_outlives_its_parent_counts_in_it_up_to_then() -> None:
    root, left, right = agent("0", (0, 1), (20, 21)), agent("0.0", (1, 2)), agent("0.1", (12, 13))
    child = agent("0.0.0", (2, 3), (6, 7), (8, 9))
    left.ended, left.status = 5.0, Status.CANCELLED
    launch(left, child, 1, 2.0, 5.0, error="cancelled")
    launch(root, left, 1, 1.0, 5.0)
    launch(root, right, 1, 12.0, 14.0)
    assert critical_steps(root) == 1 + (1 + 1) + 1 + 1
