"""Conversations → token rows: which tokens there are, and which of them the policy itself must produce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message

IGNORED = -100
"""Label of a token that is given, not produced."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One conversation as tokens. `completion_mask` is True where the policy produced the token. Both have shape [S]."""

    ids: Sequence[int]
    completion_mask: Sequence[bool]

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> TokenRow:
        """The first `length` tokens."""
        return self if len(self) <= length else TokenRow(self.ids[:length], self.completion_mask[:length])


class RowEncoder:
    """Renders conversations by a tokenizer's own chat template, each answer tokenised apart from what surrounds it.

    That is how the runtime meets them too: the prompt is given, the answer is sampled token by token, and the end-of-turn
    token closes it.
    """

    def __init__(self, tokenizer: Any, *, end_ids: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.end_ids = frozenset(end_ids)

    def encode(self, messages: Sequence[Message]) -> TokenRow:
        """The row of a conversation; its answers and the tokens that end them are the completion.

        Raises ConfigurationError where the chat template does not close an answer with an end-of-turn token.
        """
        answers = [message.content for message in messages if message.role == "assistant"]
        marked, count = [], 0
        for message in messages:
            content = message.content
            if message.role == "assistant":
                content, count = _mark(count), count + 1
            marked.append({"role": message.role, "content": content})
        rendered = self.tokenizer.apply_chat_template(marked, tokenize=False)
        pieces: list[str] = []
        for number in range(count):
            before, found, rendered = rendered.partition(_mark(number))
            if not found:
                raise ConfigurationError(
                    "the chat template leaves out an earlier answer: it cannot be trained turn by turn"
                )
            pieces += [before, answers[number]]
        pieces.append(rendered)
        encoded = self.tokenizer(pieces, add_special_tokens=False)["input_ids"]
        ids: list[int] = list(encoded[0])
        mask = [False] * len(ids)
        for answer, after in zip(encoded[1::2], encoded[2::2], strict=True):
            if not after or after[0] not in self.end_ids:
                raise ConfigurationError(
                    "the chat template does not end an answer with the tokenizer's end-of-turn token"
                )
            last = len(answer) + 1
            ids += [*answer, *after]
            mask += [True] * last + [False] * (len(after) - 1)
        # What the template writes behind the last answer is nobody's.
        kept = len(ids) - mask[::-1].index(True) if count else len(ids)
        return TokenRow(ids[:kept], mask[:kept])


def _mark(number: int) -> str:
    return f"\x02{number}\x03"


def bins(rows: Sequence[TokenRow], count: int, *, pad_id: int) -> list[dict[str, npt.NDArray[np.int64]]]:
    """Rows in `count` (or as many as there are rows) right-padded batches of similar length.

    A batch is `input_ids` and `labels`, each of shape [B, S].

    The cut points waste the fewest padding tokens. No attention mask is needed: attention is causal, and padding stands
    behind everything that is trained.
    """
    ordered = sorted(rows, key=len)
    lengths = [len(row) for row in ordered]
    # best[k][i]: fewest token slots that hold the first i rows in k batches.
    best = [[0.0] + [float("inf")] * len(rows)]
    cuts: list[list[int]] = []
    for _ in range(min(count, len(rows))):
        options = [
            min((best[-1][start] + (end - start) * lengths[end - 1], start) for start in range(end))
            for end in range(1, len(rows) + 1)
        ]
        cuts.append([start for _, start in options])
        best.append([float("inf")] + [cost for cost, _ in options])
    batches = []
    end = len(rows)
    for cut in reversed(cuts):
        start = cut[end - 1]
        batches.append(collate(ordered[start:end], pad_id=pad_id))
        end = start
    return batches


def collate(rows: Sequence[TokenRow], *, pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """Right-padded `input_ids` and `labels`, each of shape [B, S]; labels are IGNORED where nothing is to be learnt."""
    shape = (len(rows), max(len(row) for row in rows))
    ids, labels = np.full(shape, pad_id, np.int64), np.full(shape, IGNORED, np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row.ids
        labels[number, : len(row)] = np.where(row.completion_mask, row.ids, IGNORED)
    return {"input_ids": ids, "labels": labels}
