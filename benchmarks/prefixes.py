"""What the rows of a step share: how many of their tokens a prefix tree would forward once, and what work that would save.

The trainer forwards no row that is the beginning of another one (`carriers`). A prefix tree would share more: rows that
begin with the same tokens (the same instructions, the same opening of a task) have the same hidden states there, and the
gradient of these is the sum over the rows. Packed with a shared prefix, such a row would be forwarded from where it departs
from the row before, and attend to the prefix where it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rao_rl.data.rows import TokenRow, TreeRows
from rao_rl.envs.textcraft import TextCraft
from rao_rl.imitation.encoding import RowEncoder
from rao_rl.imitation.prompting import Prompting
from rao_rl.train.packing import carriers, pack
from recursive_agent.prompts import Situation
from recursive_agent.tools import tool_set
from recursive_agent.trace.tree import ExecutionTree

from .gpu import SHAPES, operations_of, qwen3

BIN = 16_384
RICH = Prompting("rich", "fenced")


class Row(NamedTuple):
    """The tokens of a row, and how many of them were sampled."""

    ids: tuple[int, ...]
    sampled: int


@dataclass(slots=True)
class Load:
    """What is forwarded: tokens, pairs of a token and one that it attends to, and sampled tokens, which the head takes."""

    tokens: int = 0
    pairs: int = 0
    sampled: int = 0

    def add(self, first: int, last: int, sampled: int) -> None:
        """The tokens of a row from place `first` to before place `last`."""
        self.tokens += last - first
        self.pairs += (last * (last + 1) - first * (first + 1)) // 2
        self.sampled += sampled

    def operations(self, config: Any) -> float:
        """Floating-point operations of forward and backward, all weights trained."""
        return operations_of(config, self.tokens, self.pairs, self.sampled, lora=False)


def row_of(row: TokenRow) -> Row:
    return Row(tuple(row.input_ids.tolist()), int(np.count_nonzero(row.completion_mask)))


def rich_rows(trees: Sequence[ExecutionTree], tokenizer: Any) -> Iterator[Row]:
    """The agents of trees of TextCraft as a general model would have them: prompted in the rich style, tools described."""
    environment = TextCraft()
    (task,) = environment.tasks("train", limit=1)
    tools = tool_set(environment.session(task).tools)
    encoder = RowEncoder(tokenizer, end_ids=[tokenizer.eos_token_id])
    for tree in trees:
        deepest = tree.limits["max_depth"]
        for node in tree.nodes.values():
            cells = [(step.cell.code, f"{step.cell.output}{step.cell.error or ''}") for step in node.steps if step.cell]
            if not cells:
                continue
            situation = Situation(
                goal=node.goal,
                context=node.context,
                schema=node.returns,
                tools=tools,
                can_launch=node.depth < deepest,
                launcher=deepest > 0,
                depth=node.depth,
                max_depth=deepest,
                max_steps=node.max_steps or 1,
                instructions=None,
            )
            shown: list[tuple[str, str | None]] = [*cells[:-1], (cells[-1][0], None)]
            yield row_of(encoder.encode(RICH.conversation(situation, shown)))


def whole(rows: Sequence[Row]) -> Load:
    """What is forwarded where each row is."""
    load = Load()
    for row in rows:
        load.add(0, len(row.ids), row.sampled)
    return load


def as_a_tree(rows: Sequence[Row]) -> Load:
    """What is forwarded where a prefix tree holds the rows. Sampled tokens count once a row: each has its own loss."""
    load = Load()
    before: tuple[int, ...] = ()
    for row in sorted(rows):
        load.add(common(before, row.ids), len(row.ids), row.sampled)
        before = row.ids
    return load


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows have in common at their beginning."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def in_order(rows: Sequence[Row], budget: int) -> list[list[Row]]:
    """Bins of at most `budget` tokens as a tree, with rows that share a beginning beside each other."""
    bins: list[list[Row]] = [[]]
    held = 0
    for row in sorted(rows):
        more = len(row.ids) - (common(bins[-1][-1].ids, row.ids) if bins[-1] else 0)
        if bins[-1] and held + more > budget:
            bins.append([])
            held, more = 0, len(row.ids)
        bins[-1].append(row)
        held += more
    return bins


def together(loads: Sequence[Load]) -> Load:
    return Load(*(sum(getattr(load, name) for load in loads) for name in ("tokens", "pairs", "sampled")))


def sharing(name: str, rows: Sequence[Row]) -> None:
    """Print what the rows share: of the step, of bins as they are packed, and of bins filled with neighbours."""
    all_ = whole(rows)
    packed = pack([len(row.ids) for row in rows], BIN)
    carried = set(carriers([np.array(row.ids, np.int32) for row in rows]))
    ways = {
        "as the trainer forwards them": whole([rows[row] for row in carried]),
        "the whole step": as_a_tree(rows),
        f"bins of {BIN:,} as they are packed": together([as_a_tree([rows[row] for row in bin_]) for bin_ in packed]),
        "the same filled with neighbours": together([as_a_tree(bin_) for bin_ in in_order(rows, BIN)]),
    }
    print(
        f"shared beginnings, {name}: {len(rows):,} rows of {all_.tokens / len(rows):,.0f} tokens on average, "
        f"{all_.sampled / all_.tokens:.0%} of them sampled; "
        f"{len(rows) - len({row.ids for row in rows}):,} rows are another one once more"
    )
    configs = {f"{size} shape": qwen3(**shape) for size, shape in SHAPES.items()}
    for way, load in ways.items():
        saved = ", ".join(
            f"{1 - load.operations(config) / all_.operations(config):.0%} of the operations of a {label}"
            for label, config in configs.items()
        )
        print(f"    {way:<36} {1 - load.tokens / all_.tokens:6.1%} of the tokens would be saved; {saved}")


def prefixes(trees: Sequence[ExecutionTree], tokenizer: Any) -> None:
    """Print what the rows of trees share, as they are, and as they would be in the rich style."""
    own = [row_of(row) for tree in trees for rows in TreeRows.of(tree).rows.values() for row in rows]
    sharing("prompts as recorded", own)
    sharing("the same agents in the rich style, this policy's tokenizer", list(rich_rows(trees, tokenizer)))
