"""CPU of one picture of the live tree: `python -m benchmarks.terminal`. Milliseconds, median of many pictures.

Half of the agents have ended, 8 are in their model call, the others wait for a slot. The live tree draws at most eight times a
second, and less often where drawing would take more than a fiftieth of the time.
"""

from __future__ import annotations

import argparse
import io
import time
from statistics import median

from rao_cli.view import render
from rich.console import Console

from recursive_agent.status import Activity, Status
from recursive_agent.trace.schema import Event, NodeEnded, NodeStarted, RunStarted, Waiting
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

AGENTS = (3, 300, 2000)
COLUMNS, LINES = 80, 24
_WORKING = 8


def tree_of(agents: int) -> ExecutionTree:
    """A root and its children, in the middle of a run."""
    events: list[Event] = [
        RunStarted(time=0.0, run="r", model="m", interface="chat"),
        NodeStarted(time=0.0, node="0", parent=None, depth=0, goal="survey"),
    ]
    for i in range(agents - 1):
        events.append(NodeStarted(time=1.0, node=f"0.{i}", parent="0", depth=1, goal=f"part {i}: count the storms"))
    for i in range(agents - 1):
        if i < agents // 2:
            status = Status.STEP_LIMIT if i % 50 == 7 else Status.FINISHED
            events.append(NodeEnded(time=3.0, node=f"0.{i}", status=status, usage=Usage(prompt_tokens=900)))
        else:
            activity = Activity.MODEL if i < agents // 2 + _WORKING else Activity.SLOT
            events.append(Waiting(time=2.0, node=f"0.{i}", activity=activity, reason="16 of 16 calls are under way"))
    return ExecutionTree.from_events(events)


def picture(tree: ExecutionTree, pictures: int) -> float:
    """Median CPU milliseconds of one picture, its way through the console included."""
    spent: list[float] = []
    for i in range(pictures):
        console = Console(file=io.StringIO(), width=COLUMNS, height=LINES, force_terminal=True)
        begun = time.process_time()
        console.print(render(tree, LINES - 2, now=4.0 + i))
        spent.append(1000 * (time.process_time() - begun))
    return median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=50)
    pictures = parser.parse_args().pictures
    for agents in AGENTS:
        tree = tree_of(agents)
        picture(tree, 3)
        print(f"{agents:>5,} agents: {picture(tree, pictures):6.2f} ms of CPU a picture", flush=True)


if __name__ == "__main__":
    main()
