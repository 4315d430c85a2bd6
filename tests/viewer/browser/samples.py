"""Data of pages for the tests: of each kind one, and runs of every sort."""

from __future__ import annotations

from functools import cache
from typing import Any

from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.viewer.page import json_text
from recursive_agent.viewer.payload import page_data, run_data

from . import trees

CREDIT = {
    "reward": 1.0,
    "baseline": 0.625,
    "advantage": 0.375,
    "weight": 0.5,
    "coefficient": 0.1875,
    "why": [
        "The reward 1 is the score of the agent.",
        "The baseline 0.625 is the mean of the other 4 attempts at the task: 1, 0.5, 0, 1.",
        "The weight 0.5 shares the depth's weight among its 2 agents.",
    ],
}


def page_of(tree: ExecutionTree, title: str = "Trace", **more: Any) -> dict[str, Any]:
    """The page of one run."""
    return page_data(title, runs=[run_data(tree, file="runs/one.jsonl", **more)])


def reports(*, fails: bool = False) -> dict[str, Any]:
    """A small run, with the credit of its root."""
    return page_of(trees.reports(fails=fails), "Which division lost most?", credit={"0": CREDIT})


@cache
def many() -> dict[str, Any]:
    """A run of 2,000 agents; not to be changed."""
    return page_of(trees.many(), "2,000 agents")


def row(run: dict[str, Any], number: int, **more: Any) -> dict[str, Any]:
    """The row of a run in a folder."""
    root = run["nodes"][0]
    return {
        "run": run["id"],
        "file": f"{number:04}.jsonl",
        "started": run["started"] + 60 * number,
        "status": run["status"],
        "goal": root["goal"],
        "model": run["model"],
        "agents": len(run["nodes"]),
        "depth": run["max_depth"],
        "steps": sum(len(node["steps"]) for node in run["nodes"]),
        "tokens": run["usage"]["total"],
        "cost": run["usage"]["cost"],
        "duration": run["duration"],
        "score": root["score"],
        "reward": None,
        "group": f"task {number // 4}",
        "size": 10_000,
        **more,
    }


def folder(count: int = 40) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A folder of runs of which every third one failed: its data, and the runs."""
    good, bad = (run_data(trees.reports(fails=fails), file="x.jsonl") for fails in (False, True))
    rows, runs = [], []
    for i in range(count):
        run = {**(bad if i % 3 == 2 else good), "id": f"run-{i}", "file": f"{i:04}.jsonl"}
        rows.append(row(run, i, tokens=1000 + 37 * i, goal=f"Read reports of year {1980 + i}"))
        runs.append((run["id"], json_text(run)))
    return page_data("runs/reports", kind="folder", rows=rows), runs


def comparison() -> dict[str, Any]:
    """Two runs: one that finished, one that failed, paired by hand."""
    left = run_data(trees.reports(run="left"), file="left.jsonl")
    right = run_data(trees.reports(fails=True, run="right"), file="right.jsonl")
    others = {node["id"]: node for node in right["nodes"]}
    pairs = []
    for node in left["nodes"]:
        other = others[node["id"]]
        changed = [name for name in ("status", "reason", "result", "score", "steps") if node[name] != other[name]]
        most = max(len(node["steps"]), len(other["steps"]))
        steps = [
            {
                "left": i + 1 if i < len(node["steps"]) else None,
                "right": i + 1 if i < len(other["steps"]) else None,
                "same": not changed,
                "changed": ["code", "output"] if changed else [],
            }
            for i in range(most)
        ]
        pairs.append(
            {
                "left": node["id"],
                "right": node["id"],
                "same": not changed,
                "changed": changed,
                "steps": steps,
                "below": 2 if node["id"] == "0" else 1 if node["id"] == "0.3" else 0,
            }
        )
    extra = {**right["nodes"][-1], "id": "0.4", "parent": "0", "depth": 1, "goal": "Ask somebody else"}
    right["nodes"].append(extra)
    pairs.append({"left": None, "right": "0.4", "same": False, "changed": [], "steps": [], "below": 0})
    compare = {"left": "left", "right": "right", "pairs": pairs}
    return page_data("left and right", kind="compare", runs=[left, right], compare=compare)
