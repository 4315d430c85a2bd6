"""Groups of attempts at the same task, for runs that were recorded without a group."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from recursive_agent.plain import plain
from recursive_agent.trace.tree import ExecutionTree


def group_of(tree: ExecutionTree) -> str:
    """The group of a tree: the recorded one, or one that is the same for all trees with the same root task.

    The same root task is the same goal, the same context and the same type of result. The context counts because it is
    part of what is asked: "summarise this" of two documents is two tasks, and a baseline across them would compare what
    cannot be compared. The order of a mapping's keys does not count. Record a group yourself if a part of the task is kept
    elsewhere (in what the tools work on, for example), or if every context has something new in it (a date, an id).

    Raises TraceError where the tree has no root.
    """
    if tree.group is not None:
        return tree.group
    root = tree.root
    task = json.dumps([root.goal, _canonical(root.context), _canonical(root.returns)], sort_keys=True)
    return f"goal-{hashlib.sha256(task.encode()).hexdigest()[:16]}"


def group_sizes(groups: Iterable[str]) -> tuple[int, int, int]:
    """The numbers of groups, of trees, and of trees that are alone in their group, given the group of each tree."""
    sizes = Counter(groups)
    return len(sizes), sizes.total(), sum(size == 1 for size in sizes.values())


def _canonical(value: Any) -> Any:
    """Plain data as JSON has it, each value spelled in one way only."""
    value = plain(value)
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, dict):
        return {json.dumps(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return ["list", *map(_canonical, value)]
    return value
