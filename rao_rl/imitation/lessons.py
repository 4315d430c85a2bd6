"""What imitation learns from, as the steps of a training run: demonstrations of TextCraft, or the rows of recorded trees."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from recursive_agent.errors import ConfigurationError

from ..config import Curriculum
from ..data.rows import TokenRow
from ..envs.base import Mode
from ..envs.textcraft.demonstrations import Demonstration, demonstrations
from ..envs.textcraft.names import MATERIALS, PARTS
from .encoding import RowEncoder, first_tokens
from .prompting import MINIMAL, Prompting, textcraft_conversation

WORDS = (
    rf"(?<![a-z_])(?:{'|'.join(MATERIALS)})(?=_)|_(?:{'|'.join(PARTS)})(?![a-z])|(?<!': )(?<!':)(?<!',)(?<!\{{)[0-9]"
)
"""The two words of an item's name, and the digits of a number one by one.

A count that belongs to a recipe stays with the punctuation around it: what stands between two names is then one token in
an observation and one in code, so that the next name is found a fixed, small distance behind the last one.
"""
ANY_WORDS = " ?[A-Za-z]+|[0-9]"
"""Words, each with the space before it, and digits, where nothing is known of an environment's texts."""
_STEPS_PER_BLOCK = 64
_SHORTEST = 0.1
"""Share of the rows that training begins with where short ones come first."""
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


def sample_texts(curriculum: Curriculum, count: int) -> list[str]:
    """Texts to make a tokenizer for: every message of `count` demonstrations of agents that delegate and some that do not."""
    rng = random.Random(f"texts/{curriculum.seed}")
    texts: list[str] = []
    sizes: tuple[tuple[Mode, int], ...] = (("recursive", count), ("single", count // 10))
    for mode, size in sizes:
        stream = source(curriculum, rng, mode)
        for _ in range(size):
            texts.extend(message.content for message in textcraft_conversation(next(stream)))
    return texts


class DemonstrationBlocks:
    """Steps of about `tokens` tokens each, many at a time; a block is a function of the curriculum and its number alone."""

    def __init__(
        self,
        encoder: RowEncoder,
        curriculum: Curriculum,
        *,
        tokens: int,
        context_length: int | None,
        prompting: Prompting = MINIMAL,
    ) -> None:
        self.encoder = encoder
        self.curriculum = curriculum
        self.prompting = prompting
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
            messages = textcraft_conversation(next(stream), self.prompting)
            row = first_tokens(self.encoder.encode(messages), self.context_length)
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
    """The rows of recorded nodes, in a new order each epoch: a block is an epoch, a function of seed and number alone.

    With `short_first`, an epoch that begins before that step has the shortest rows only: first a tenth of all, then more.
    New weights learn to copy names a few tokens apart long before they learn it over hundreds of tokens.
    """

    def __init__(self, rows: Sequence[TokenRow], *, tokens: int, seed: int, short_first: int = 0) -> None:
        self.rows = rows
        self.tokens = tokens
        self.seed = seed
        self.short_first = short_first
        self._order = sorted(range(len(rows)), key=lambda place: len(rows[place])) if short_first else []
        self._begins = [0]

    def __call__(self, number: int) -> list[list[TokenRow]]:
        """The steps of epoch `number`."""
        while len(self._begins) <= number:
            self._begins.append(self._begins[-1] + len(self._epoch(len(self._begins) - 1)))
        return self._epoch(number)

    def _epoch(self, number: int) -> list[list[TokenRow]]:
        rows = list(self._rows(self._begins[number]))
        random.Random(f"recorded/{self.seed}/{number}").shuffle(rows)
        return cut_steps(rows, self.tokens)

    def _rows(self, step: int) -> Sequence[TokenRow]:
        """The rows of an epoch that begins at `step`."""
        if step >= self.short_first:
            return self.rows
        share = _SHORTEST + (1 - _SHORTEST) * step / self.short_first
        return [self.rows[place] for place in self._order[: max(1, round(share * len(self.rows)))]]


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
