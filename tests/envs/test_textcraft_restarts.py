"""A sub-agent's task as a task of its own: in the inventory of the moment when it was launched."""

from __future__ import annotations

from typing import Any

from rao_rl.envs import Task
from rao_rl.envs.textcraft.restarts import subtask
from recursive_agent.trace.schema import HostCalled
from recursive_agent.trace.tree import ExecutionTree, Node

from ..trace.events import node_ended, node_started, run_started
from .worlds import SMALL

TASK = Task(id="t", goal="", level="easy", data={"world": 1, "inventory": {"oak_beam": 9, "iron_rod": 2}})
GOAL = "Craft the following items: 2x copper_gear"


def crafted(node: str, time: float, ingredients: dict[str, int], target: Any, result: str) -> HostCalled:
    return HostCalled(
        time=time,
        node=node,
        step=1,
        call=1,
        started=time,
        name="craft",
        args=(ingredients,),
        kwargs={"target": target},
        result=result,
    )


def tree(goal: str = GOAL, late: str = "0.1") -> ExecutionTree:
    """The root makes oak frames, fails at another craft, and launches 0.0 at 2 s; agent `late` crafts at 3 s."""
    events = [
        run_started(),
        node_started("0"),
        crafted("0", 1.0, {"oak_beam": 3}, ["oak_frame", 3], "Crafted 3x oak_frame"),
        crafted("0", 1.5, {"oak_beam": 6}, ["oak_frame", 7], "Error: a multiple of 3"),
        node_started("0.0", 2.0, goal=goal, context={"n": 1}, returns={"type": "integer"}),
        node_started("0.1", 2.0, goal="other"),
        crafted(late, 3.0, {"oak_beam": 3}, ["oak_frame", 3], "Crafted 3x oak_frame"),
        node_ended("0.0", 4.0),
        node_ended("0.1", 5.0),
        crafted("0", 6.0, {"oak_frame": 2, "iron_rod": 1}, ["copper_gear", 2], "Crafted 2x copper_gear"),
        node_ended("0", 7.0),
    ]
    return ExecutionTree.from_events(events)


def child(grown: ExecutionTree) -> Node:
    return grown.nodes["0.0"]


def test_a_sub_task_begins_with_what_had_been_crafted_before_the_launch() -> None:
    grown = tree()
    task = subtask(TASK, SMALL, grown, child(grown), "generous")
    assert task == Task(
        id="t/0.0",
        goal=GOAL,
        context={"n": 1},
        returns={"type": "integer"},
        level="easy",
        data={
            "world": 1,
            "targets": {"copper_gear": 2},
            "inventory": {"oak_beam": 6, "iron_rod": 2, "oak_frame": 3},
        },
    )


def test_a_tight_inventory_that_others_used_meanwhile_cannot_be_had_again() -> None:
    grown = tree()
    assert subtask(TASK, SMALL, grown, child(grown), "tight") is None
    grown = tree(late="0.0")  # its own craft
    assert subtask(TASK, SMALL, grown, child(grown), "tight") is not None


def test_a_goal_that_makes_no_sense_is_no_task() -> None:
    for goal in ("make gears", "Craft the following items: 2x iron_rod", "Craft the following items: 1x unknown_thing"):
        grown = tree(goal)
        assert subtask(TASK, SMALL, grown, child(grown), "generous") is None
