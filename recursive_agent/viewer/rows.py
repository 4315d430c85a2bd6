"""A run as a row of the table of a folder."""

from __future__ import annotations

import math

from ..trace.schema import ROOT
from ..trace.tree import ExecutionTree
from .payload import Json, usage_data
from .texts import bounded, seconds

_GOAL = 1_000


def row_data(tree: ExecutionTree | None, *, file: str, state: str, problem: str | None = None) -> Json:
    """One run; `tree` is None where the file holds none, and `problem` says why."""
    root = None if tree is None else tree.nodes.get(ROOT)
    usage = None if tree is None else usage_data(tree)
    return {
        "run": None if tree is None else tree.run,
        "file": file,
        "state": state,
        "problem": problem,
        "started": tree.started if tree is not None and math.isfinite(tree.started) else None,
        "status": None if root is None else root.status.value,
        "goal": None if root is None else bounded(root.goal, _GOAL),
        "model": None if tree is None else tree.model,
        "agents": None if tree is None else len(tree.nodes),
        "depth": None if tree is None else tree.max_depth,
        "steps": None if tree is None else sum(len(node.steps) for node in tree.nodes.values()),
        "tokens": None if usage is None else usage["total"],
        "cost": None if usage is None else usage["cost"],
        "duration": None if tree is None else seconds(tree.duration),
        "score": None if root is None or root.score is None or not math.isfinite(root.score) else root.score,
        "reward": None,
        "group": None if tree is None else tree.group,
        "size": None,
    }
