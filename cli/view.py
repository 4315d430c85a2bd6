"""A tree of agents on a terminal: one line an agent, folded to as many lines as there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree, Node

from .isolation import layers
from .text import count, one_line, seconds


class Row(NamedTuple):
    """One line: `node` itself, or (where `hidden` is not empty) those children of `node` that are folded away."""

    guide: str
    node: Node
    hidden: tuple[Node, ...] = ()


def rows(root: Node, height: int) -> list[Row]:
    """The lines of a tree in launch order: at most `height` of them, which is at least 2.

    Running agents are shown first, then those that failed, then those near the root; the rest is folded, a line for
    each agent some of whose children are hidden.
    """
    shown = _choose(root, height)
    found: list[Row] = []
    waiting: list[tuple[str, str, Node, tuple[Node, ...]]] = [("", "", root, ())]
    while waiting:
        guide, below, node, hidden = waiting.pop()
        found.append(Row(guide, node, hidden))
        if hidden:
            continue
        visible = [child for child in node.children if child.id in shown]
        folded = tuple(child for child in node.children if child.id not in shown)
        lines = [(child, ()) for child in visible] + ([(node, folded)] if folded else [])
        for i, (child, folded_here) in reversed(list(enumerate(lines))):
            last = i == len(lines) - 1
            waiting.append((below + ("└ " if last else "├ "), below + ("  " if last else "│ "), child, folded_here))
    return found


def _choose(root: Node, height: int) -> set[str]:
    """Ids of the nodes to show, so that they and the lines for what is hidden fit into `height` lines."""
    nodes = {node.id: node for node in root.walk()}
    if len(nodes) <= height:
        return set(nodes)
    shown = {root.id}
    hidden = {root.id: len(root.children)}  # of shown nodes: how many children are not
    lines = 1 + bool(root.children)

    def rank(node: Node) -> tuple[int, int]:
        return (0 if node.running else 1 if not node.finished else 2, node.depth)

    for node in sorted(nodes.values(), key=rank):  # stable: launch order within a rank
        path = [node]  # from the node up to its first ancestor that is shown
        while path[-1].id not in shown and path[-1].parent is not None:
            path.append(nodes[path[-1].parent])
        new = path[-2::-1]  # from the top
        added = 0
        for parent, child in zip([path[-1], *new], new, strict=False):
            left = hidden.get(parent.id, len(parent.children)) - 1
            added += 1 + bool(child.children) - (left == 0)  # itself, its fold line, and its parent's if that goes
        if lines + added > height:
            if lines >= height:
                break
            continue
        lines += added
        for child in new:
            shown.add(child.id)
            hidden[child.id] = len(child.children)
            hidden[child.parent or root.id] -= 1
    return shown


def render(tree: ExecutionTree, height: int, *, results: bool = False, waits: str | None = None) -> RenderableType:
    """A headline, the sandbox's layers, what the calls wait for, and the folded tree: at most `height` lines, at least 3.

    With `results`, a column with each agent's result, or the reason that it has none.
    """
    head: list[RenderableType] = [Text(headline(tree), style="bold", no_wrap=True, overflow="ellipsis")]
    if isolation := layers(tree.settings):
        line, locked = isolation
        head.append(Text(line, style="dim" if locked else "bold red", no_wrap=True, overflow="ellipsis"))
    if waits is not None:
        head.append(Text(waits, style="yellow", no_wrap=True, overflow="ellipsis"))
    if not tree.nodes:
        return Group(*head)
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
    if results:
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis", style="cyan")
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    for row in rows(tree.root, max(2, height - len(head))):
        cells = _folded(row) if row.hidden else _agent(row, tree, results=results)
        if not results:
            del cells[1]
        table.add_row(*cells)
    return Group(*head, table)


def headline(tree: ExecutionTree) -> str:
    """The whole tree in one line."""
    usage = tree.usage
    running = sum(node.running for node in tree.nodes.values())
    agents = count(len(tree.nodes), "agent") + (f" ({running} running)" if running and not tree.complete else "")
    parts = [agents, f"depth {tree.max_depth}", count(usage.calls, "model call"), count(usage.total_tokens, "token")]
    by_model = tree.usage_by_model
    if len(by_model) > 1:
        parts[-1] += f" ({', '.join(f'{one_line(name, 40)} {each.total_tokens:,}' for name, each in by_model.items())})"
    if shared := tree.shared_launches:
        parts.append(f"{shared:,} shared")
    if resumed := len(tree.resumptions):
        parts.append("resumed once" if resumed == 1 else f"resumed {resumed:,} times")
    if tree.origin is not None:
        parts.append(f"forked from {one_line(tree.origin, 40)}")
    return " · ".join([*parts, seconds(tree.duration)])


def state(node: Node, tree: ExecutionTree) -> str:
    """What a node is doing, or how it ended."""
    if not node.running:
        return node.status.value.replace("_", " ")
    if tree.complete:
        return "never ended"
    busy = sum(child.running for child in node.children)
    if busy:
        return f"waits for {busy}"
    last = node.steps[-1] if node.steps else None
    return "runs code" if last is not None and last.model is not None and last.cell is None else "thinks"


def mark(status: Status) -> tuple[str, str]:
    """A status as one character, and its style."""
    if status is Status.RUNNING:
        return "●", "yellow"
    return ("✓", "green") if status.finished else ("✗", "red")


def _agent(row: Row, tree: ExecutionTree, *, results: bool) -> list[Text]:
    node = row.node
    sign, style = mark(node.status)
    score = "" if node.score is None else f" [{node.score:.2g}]"
    outcome = (node.result if node.finished else node.reason) if results else None
    limit = f"/{node.max_steps}" if node.max_steps else ""
    return [
        Text.assemble(
            (row.guide, "dim"), (sign, style), " ", (_model(node), "blue"), one_line(node.goal), (score, "magenta")
        ),
        Text("" if outcome is None else one_line(outcome)),
        Text(state(node, tree), style=style),
        Text(f"step {len(node.steps)}{limit}", style="dim"),
        Text(f"{node.usage.total_tokens:,} tok", style="dim"),
        Text(seconds(node.duration), style="dim"),
    ]


def _model(node: Node) -> str:
    return "" if node.model is None else f"{one_line(node.model, 40)}: "


def _folded(row: Row) -> list[Text]:
    below = list(_all(row.hidden))
    parts = [
        f"{number} {name}"
        for name, number in (
            ("running", sum(node.running for node in below)),
            ("finished", sum(node.finished for node in below)),
            ("ended otherwise", sum(not node.running and not node.finished for node in below)),
        )
        if number
    ]
    tokens = sum(node.usage.total_tokens for node in below)
    summary = f"… {count(len(below), 'more agent')}: {', '.join(parts)}"
    blank = Text("")
    return [
        Text.assemble((row.guide, "dim"), (summary, "dim italic")),
        blank,
        blank,
        blank,
        Text(f"{tokens:,} tok", style="dim"),
        blank,
    ]


def _all(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield from node.walk()
