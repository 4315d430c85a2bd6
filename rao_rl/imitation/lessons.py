"""What imitation learns from, as the steps of a training run: an environment's demonstrations, or recorded trees."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message
from recursive_agent.trace.folder import TraceState
from recursive_agent.trace.tree import Node

from ..config import Curriculum
from ..data.folder import read_folder
from ..data.rows import TokenRow
from ..envs.base import Mode
from ..envs.textcraft.demonstrations import Demonstration, demonstrations
from ..envs.textcraft.names import MATERIALS, PARTS
from ..errors import DataError
from .encoding import RowEncoder, first_tokens

WORDS = (
    rf"(?<![a-z_])(?:{'|'.join(MATERIALS)})(?=_)|_(?:{'|'.join(PARTS)})(?![a-z])|(?<!': )(?<!':)(?<!',)(?<!\{{)[0-9]"
)
"""The two words of an item's name, and the digits of a number one by one.

A count that belongs to a recipe stays with the punctuation around it: what stands between two names is then one token in
an observation and one in code, so that the next name is found a fixed, small distance behind the last one.
"""
_STEPS_PER_BLOCK = 64
_USELESS = 200
"""Demonstrations in a row without an answer in the window after which it is taken for too short."""


def source(curriculum: Curriculum, rng: random.Random, mode: Mode) -> Iterator[Demonstration]:
    """An endless stream of demonstrations, drawn from `rng` alone."""
    return demonstrations(
        rng,
        mode=mode,
        levels=curriculum.difficulties if mode == "recursive" else curriculum.single_difficulties,
        drop_child=curriculum.drop_child,
        wrong_count=curriculum.wrong_count,
    )


def conversation(demonstration: Demonstration) -> list[Message]:
    """The messages of a demonstration, as the minimal prompt style writes them."""
    messages = [Message("user", f"{demonstration.goal}\n{' '.join(demonstration.functions)}")]
    for answer, seen in demonstration.turns:
        messages.append(Message("assistant", answer))
        if seen is not None:
            messages.append(Message("user", seen))
    return messages


def sample_texts(curriculum: Curriculum, count: int) -> list[str]:
    """Texts to make a tokenizer for: every message of `count` demonstrations of agents that delegate and some that do not."""
    rng = random.Random(f"texts/{curriculum.seed}")
    texts: list[str] = []
    sizes: tuple[tuple[Mode, int], ...] = (("recursive", count), ("single", count // 10))
    for mode, size in sizes:
        stream = source(curriculum, rng, mode)
        for _ in range(size):
            texts.extend(message.content for message in conversation(next(stream)))
    return texts


class DemonstrationBlocks:
    """Steps of about `tokens` tokens each, many at a time; a block is a function of the curriculum and its number alone."""

    def __init__(self, encoder: RowEncoder, curriculum: Curriculum, *, tokens: int, context_length: int | None) -> None:
        self.encoder = encoder
        self.curriculum = curriculum
        self.tokens = tokens
        self.context_length = context_length
        self._last: tuple[int, list[list[TokenRow]]] | None = None

    def __call__(self, number: int) -> list[list[TokenRow]]:
        """The steps of block `number`, rows in random order, so that a step mixes worlds and modes."""
        if self._last is not None and self._last[0] == number:  # it is looked at before it is trained on
            return self._last[1]
        self._last = (number, self._steps(number))
        return self._last[1]

    def _steps(self, number: int) -> list[list[TokenRow]]:
        rng = random.Random(f"demonstrations/{self.curriculum.seed}/{number}")
        total = self.tokens * _STEPS_PER_BLOCK
        share = self.curriculum.single_share
        rows = self._rows(rng, "recursive", total * (1 - share)) + self._rows(rng, "single", total * share)
        rng.shuffle(rows)
        return cut_steps(rows, self.tokens)

    def _rows(self, rng: random.Random, mode: Mode, tokens: float) -> list[TokenRow]:
        rows: list[TokenRow] = []
        filled = 0
        stream = source(self.curriculum, rng, mode)
        useless = 0
        while filled < tokens:
            # One agent alone runs out of context on larger tasks; up to there it is shown the work as it is.
            row = first_tokens(self.encoder.encode(conversation(next(stream))), self.context_length)
            if not row.completion_mask.any():
                useless += 1
                if useless >= _USELESS and not rows:
                    raise ConfigurationError(
                        f"the window of {self.context_length or 0:,} tokens is too short for every demonstration: not one "
                        "answer begins in it"
                    )
                continue
            rows.append(row)
            filled += len(row)
        return rows


class RecordedBlocks:
    """The rows of recorded nodes, in a new order each epoch: a block is an epoch, a function of seed and number alone."""

    def __init__(self, rows: Sequence[TokenRow], *, tokens: int, seed: int) -> None:
        self.rows = rows
        self.tokens = tokens
        self.seed = seed

    def __call__(self, number: int) -> list[list[TokenRow]]:
        """The steps of epoch `number`."""
        rows = list(self.rows)
        random.Random(f"recorded/{self.seed}/{number}").shuffle(rows)
        return cut_steps(rows, self.tokens)


def cut_steps(rows: Sequence[TokenRow], tokens: int) -> list[list[TokenRow]]:
    """Rows in order, in steps that each begin before `tokens` tokens are full."""
    steps: list[list[TokenRow]] = []
    filled = tokens
    for row in rows:
        if filled >= tokens:
            steps.append([])
            filled = 0
        steps[-1].append(row)
        filled += len(row)
    return steps


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recorded trees hold for imitation: the conversations of nodes that did well, and how they were prompted."""

    conversations: list[list[Message]]
    nodes: int
    """All nodes seen, the unsuccessful ones included."""
    prompt_style: str
    action_format: str
    runs: list[str]
    left_out: Counter[TraceState]
    """Traces that were not read, by reason."""
    problems: list[str]


def read_successful(path: str | Path, *, threshold: float) -> Recorded:
    """The conversations of the nodes with a score of at least `threshold`, or that finished where they have no score.

    `path` is a trace or a folder of traces, read as `read_folder` does. Raises DataError where there is none,
    where nothing succeeded, and where the traces were prompted in different ways.
    """
    place = Path(path)
    folder = read_folder(place)
    kept: list[list[Message]] = []
    nodes = 0
    prompts: set[tuple[str, str]] = set()
    for tree in folder.trees.values():
        for node in tree.walk():
            nodes += 1
            if succeeded(node, threshold) and (messages := node.conversation()):
                kept.append(messages)
                prompts.add((tree.settings.get("prompt_style", "rich"), tree.settings.get("action_format", "fenced")))
    if not kept:
        raise DataError(
            f"none of the {nodes:,} agents in {place} succeeded (score of at least {threshold:g}, or finished where not "
            "scored), so there is nothing to imitate"
        )
    if len(prompts) > 1:
        raise DataError(f"the traces in {place} mix prompt styles or action formats; train on one kind at a time")
    ((prompt_style, action_format),) = prompts
    runs = sorted(tree.run for tree in folder.trees.values())
    return Recorded(kept, nodes, prompt_style, action_format, runs, folder.left_out, folder.problems)


def succeeded(node: Node, threshold: float) -> bool:
    """Whether a node did well, by its score where it has one."""
    return node.finished if node.score is None else node.score >= threshold
