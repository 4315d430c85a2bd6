"""Which agents of a tree have a line of their own, where there are more agents than lines."""

from __future__ import annotations

from typing import NamedTuple

from recursive_agent.status import Activity
from recursive_agent.trace.activity import Doing
from recursive_agent.trace.tree import Node

from .states import Snapshot

_MISSES = 200
"""Agents that do not fit after which no further ones are tried."""


class Row(NamedTuple):
    """One line: `node` itself, or (where `hidden` is not empty) those children of `node` that are folded away."""

    guide: str
    node: Node
    hidden: tuple[Node, ...] = ()
    done: tuple[Node, ...] = ()
    """Children of `node` that are folded into its own line, where nothing below it that is hidden still runs."""


def rows(root: Node, height: int, snapshot: Snapshot | None = None) -> list[Row]:
    """The lines of a tree: at most `height` of them, which is at least 2.

    Agents that work are shown first, the longest at it before the others, then those that wait for an answer from outside,
    those that failed, and those near the root. The rest is folded: into the line of its parent where it has ended, else into
    a line below it. Where all agents have lines they stand in launch order; where some are folded, those that run come first.
    """
    found: list[Row] = []
    nodes = {node.id: node for node in root.walk()}
    lives = _lives(nodes)
    whole = len(nodes) <= height
    shown = set(nodes) if whole else _choose(root, nodes, height, lives, snapshot)
    waiting: list[tuple[str, str, Node, tuple[Node, ...]]] = [("", "", root, ())]
    while waiting:
        guide, below, node, hidden = waiting.pop()
        if hidden:
            found.append(Row(guide, node, hidden))
            continue
        visible = [child for child in node.children if child.id in shown]
        folded = tuple(child for child in node.children if child.id not in shown)
        if folded:
            visible.sort(key=lambda child: not child.running)
        done: tuple[Node, ...] = ()
        if node is not root and not any(lives[child.id] for child in folded):
            folded, done = (), folded
        found.append(Row(guide, node, (), done))
        lines = [(child, ()) for child in visible] + ([(node, folded)] if folded else [])
        for i, (child, folded_here) in reversed(list(enumerate(lines))):
            last = i == len(lines) - 1
            waiting.append((below + ("└ " if last else "├ "), below + ("  " if last else "│ "), child, folded_here))
    return found


def _lives(nodes: dict[str, Node]) -> dict[str, bool]:
    """Whether a node or one below it runs."""
    lives = {name: node.running for name, node in nodes.items()}
    for name, node in reversed(nodes.items()):  # children before their parents
        if lives[name] and node.parent in lives:
            lives[node.parent] = True
    return lives


def _choose(
    root: Node, nodes: dict[str, Node], height: int, lives: dict[str, bool], snapshot: Snapshot | None
) -> set[str]:
    """Ids of the nodes to show, so that they and the lines for what is hidden fit into `height` lines."""

    def folds(node: Node) -> int:
        """How many children of a node would, if hidden, need a line for them."""
        return len(node.children) if node is root else sum(lives[child.id] for child in node.children)

    shown = {root.id}
    hidden = {root.id: folds(root)}  # of shown nodes: how many such children are not
    lines = 1 + bool(root.children)
    doing = {} if snapshot is None else snapshot.doing
    misses = 0
    for node in sorted(nodes.values(), key=lambda node: _rank(node, doing.get(node.id))):  # stable: launch order
        path = [node]  # from the node up to its first ancestor that is shown
        while path[-1].id not in shown and path[-1].parent is not None:
            path.append(nodes[path[-1].parent])
        new = path[-2::-1]  # from the top
        added = 0
        for parent, child in zip([path[-1], *new], new, strict=False):
            before = hidden[parent.id] if parent.id in hidden else folds(parent)
            left = before - (parent is root or lives[child.id])
            # Itself, the line of its hidden children, and its parent's such line if that goes.
            added += 1 + (folds(child) > 0) - (before > 0 and left == 0)
        if lines + added > height:
            misses += 1
            if lines >= height or misses > _MISSES:
                break
            continue
        lines += added
        for child in new:
            shown.add(child.id)
            hidden[child.id] = folds(child)
            if child.parent == root.id or lives[child.id]:
                hidden[child.parent or root.id] -= 1
    return shown


_FIRST = (Activity.MODEL, Activity.CODE, Activity.APPROVAL)
_LAST = (Activity.SLOT, Activity.SUBAGENTS)
"""There are many of them, and their lines say little: the headline counts them."""


def _rank(node: Node, doing: Doing | None) -> tuple[int, float]:
    if doing is not None:
        if doing.activity in _LAST:
            return 3, node.depth
        return 0 if doing.activity in _FIRST else 1, doing.since
    return (0 if node.running else 2 if not node.finished else 4), node.depth
