"""A tree of agents on a terminal: one line an agent, folded to as many lines as there are, in as many columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from recursive_agent.status import Label
from recursive_agent.trace.tree import ExecutionTree, Node

from .folding import Row, rows
from .isolation import layers
from .states import STYLES, Snapshot, endpoint_wait, headline, summaries
from .text import ascii_only, count, one_line, seconds

__all__ = ["headline", "label_style", "render", "rows", "state"]

NARROW = 60
"""Columns below which short words are used."""
_LEAST = 30
"""Columns of the goal (and the result) below which other columns are left out."""
_ROOM_FOR_LAYERS = 12
"""Lines below which the line about the sandbox is left out, where the sandbox is locked."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A tree to be drawn in at most `height` lines, whatever the width. See `render`."""

    tree: ExecutionTree
    height: int
    results: bool = False
    now: float | None = None
    hint: str = ""
    """Added to the lines of folded agents."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines(options.max_width):
            yield ascii_only(line) if options.ascii_only else line

    def lines(self, width: int) -> list[Text]:
        """The lines, none wider than `width`."""
        tree, snapshot = self.tree, Snapshot(self.tree, self.now)
        head = [_cut(Text(headline(tree, self.now), style="bold"), width)]
        if isolation := layers(tree.settings):
            line, locked = isolation
            if not locked or self.height >= _ROOM_FOR_LAYERS:
                head.append(_cut(Text(line, style="dim" if locked else "bold red"), width))
        if (waits := endpoint_wait(snapshot)) is not None:
            head.append(_cut(Text(waits, style="cyan"), width))
        if len(tree.nodes) > self.height - len(head) > 2:
            head.append(_cut(Text(_fitting(summaries(snapshot.counts(tree.nodes.values())), width)), width))
        head = head[: max(1, self.height)]
        left = self.height - len(head)
        if not tree.nodes or left < 1:
            return head
        found = [Row("", tree.root)] if left == 1 else rows(tree.root, left, snapshot)
        return head + list(_table(found, snapshot, width, results=self.results, hint=self.hint))


def render(
    tree: ExecutionTree, height: int, *, results: bool = False, now: float | None = None, hint: str = ""
) -> Picture:
    """A headline, the sandbox's layers, what all calls wait for, how many agents are in which state, and the folded tree.

    At most `height` lines, at least one. With `results`, a column with each agent's result, or the reason that it has none.
    """
    return Picture(tree, height, results, now, hint)


def state(node: Node, tree: ExecutionTree) -> str:
    """What a node is doing, or how it ended."""
    return Snapshot(tree).state(node)


def label_style(label: Label) -> str:
    """The colour of a label."""
    return STYLES[label.tone]


@dataclass(slots=True)
class _Line:
    """A row in parts; `fields` are step, tokens and time."""

    left: Text
    result: Text
    state: Text
    fields: list[str]


def _table(found: Sequence[Row], snapshot: Snapshot, width: int, *, results: bool, hint: str) -> Iterator[Text]:
    narrow = width < NARROW
    lines = [
        _folded(row, snapshot, width, hint)
        if row.hidden
        else _agent(row, snapshot, width, results=results, short=narrow)
        for row in found
    ]
    state_width = min(max((line.state.cell_len for line in lines), default=0), width * 2 // 5)
    widths = [max((len(line.fields[i]) for line in lines), default=0) for i in range(3)]
    least = min(_LEAST, width // 2) + (20 if results else 0)
    for i in (0, 2, 1):  # steps go first, then the time, then the tokens
        if width - state_width - 1 - sum(size + 1 for size in widths if size) < least:
            widths[i] = 0
    room = width - (state_width + 1 if state_width else 0) - sum(size + 1 for size in widths if size)
    result_width = room * 2 // 5 if results and room >= 40 and any(line.result.plain for line in lines) else 0
    left_width = room - (result_width + 1 if result_width else 0)
    for row, line in zip(found, lines, strict=True):
        if row.hidden:  # its words may use the columns that it has no figures for
            tail = [(line.fields[i], widths[i]) for i in (1,) if widths[1]]
            end = sum(size + 1 for _, size in tail) + (widths[2] + 1 if widths[2] else 0)
            text = _fitted(line.left, width - end)
        else:
            text = _with_folded(line.left, row, snapshot, left_width)
            if result_width:
                text.append(" ").append_text(_fitted(line.result, result_width))
            if state_width:
                text.append(" ").append_text(_fitted(line.state, state_width, right=True))
            tail = [(line.fields[i], widths[i]) for i in range(3) if widths[i]]
        for field, size in tail:
            text.append(f" {field:>{size}}", style="dim")
        text.rstrip()
        yield text


def _agent(row: Row, snapshot: Snapshot, width: int, *, results: bool, short: bool) -> _Line:
    node = row.node
    label = snapshot.label(node)
    style = label_style(label)
    left = Text.assemble((_guide(row.guide, width), "dim"), (label.mark, style), " ")
    if node.model is not None:
        left.append(f"{one_line(node.model, 40)}: ", style="blue")
    left.append(one_line(node.goal, width))
    if node.score is not None:
        left.append(f" [{node.score:.2g}]", style="magenta")
    outcome = (node.result if node.finished else node.reason) if results else None
    limit = f"/{node.max_steps}" if node.max_steps else ""
    return _Line(
        left,
        Text("" if outcome is None else one_line(outcome, width), style="cyan"),
        Text(snapshot.state(node, short=short), style=style),
        [
            f"step {len(node.steps)}{limit}",
            f"{node.usage.total_tokens:,} tok",
            seconds(snapshot.duration(node)),
        ],
    )


def _with_folded(left: Text, row: Row, snapshot: Snapshot, width: int) -> Text:
    """An agent with what is folded into its line: how many of those below it ended how, and their tokens."""
    if not row.done:
        return _fitted(left, width)
    below = [node for child in row.done for node in child.walk()]
    marks = list(summaries(snapshot.counts(below)))[-1]
    tokens = _short_number(sum(node.usage.total_tokens for node in below))
    note = f" +{marks} {tokens}" if width >= 30 else f" +{marks}"
    text = _cut(left, max(width // 3, width - cell_len(note)))
    return _fitted(text.append(note, style="dim italic"), width)


def _short_number(number: int) -> str:
    """Tokens in few signs: `950 tok`, `13.7k tok`, `1.2M tok`."""
    if number < 1000:
        return f"{number} tok"
    return f"{number / 1e3:.1f}k tok" if number < 999_950 else f"{number / 1e6:.1f}M tok"


def _folded(row: Row, snapshot: Snapshot, width: int, hint: str) -> _Line:
    below = [node for child in row.hidden for node in child.walk()]
    tokens = f"{sum(node.usage.total_tokens for node in below):,} tok"
    guide = _guide(row.guide, width)
    room = width - len(tokens) - 12 - len(guide)
    more = count(len(below), "more agent")
    options = list(summaries(snapshot.counts(below)))
    words = [f"… {more}: {options[0]}{hint}", *(f"… {more}: {each}" for each in options), f"… {options[-1]}"]
    return _Line(
        Text.assemble((guide, "dim"), (_fitting(iter(words), room), "dim italic")), Text(), Text(), ["", tokens, ""]
    )


def _guide(guide: str, width: int) -> str:
    """The lines to the left of an agent; of those deep down only the last ones."""
    most = max(4, width // 4)
    return guide if len(guide) <= most else "…" + guide[1 - most :]


def _fitting(options: Iterator[str], width: int) -> str:
    """The first that fits; else the last."""
    text = ""
    for text in options:
        if cell_len(text) <= width:
            break
    return text


def _cut(text: Text, width: int) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(max(1, width), overflow="ellipsis")
    return text


def _fitted(text: Text, width: int, *, right: bool = False) -> Text:
    """The text in exactly `width` columns."""
    text = _cut(text, width)
    if (missing := width - text.cell_len) > 0:
        text.pad_left(missing) if right else text.pad_right(missing)
    return text
